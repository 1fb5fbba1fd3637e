#!/bin/bash
# dracut module: everything an initrd needs to start a release from either slot.
#
# systemd-veritysetup opens the root image by the root hash on the kernel's command line; mount-state then puts
# the state partition and the slot's /etc over it, before the switch to the new root.

check() {
    require_binaries "$systemdutildir"/systemd-veritysetup findmnt blkid e2fsck mkfs.ext4 systemd-notify || return 1
}

depends() {
    echo systemd systemd-initrd systemd-udevd systemd-veritysetup dm rootfs-block
}

installkernel() {
    # Named one by one: what the build machine has is no sign of what the host has.
    hostonly='' instmods dm_verity erofs overlay ext4 btrfs xfs \
        virtio_pci virtio_blk virtio_scsi nvme ahci sd_mod mmc_block sdhci_pci sdhci_acpi usb_storage uas xhci_pci
    # An initrd that hangs is restarted by the hardware, too.
    hostonly='' instmods '=drivers/watchdog'
}

install() {
    inst_multiple findmnt blkid e2fsck mkfs.ext4 mount umount cat cp head mkdir mkfifo readlink rm sleep sync systemd-notify tr touch timeout wc
    inst_multiple -o /etc/mke2fs.conf
    inst_script "$moddir/mount-state.sh" /usr/lib/upright/mount-state
    inst_simple "$moddir/upright-state.service" "$systemdsystemunitdir/upright-state.service"
    # The watchdog, and a crash of systemd, as in the system itself.
    inst_multiple -o /usr/lib/systemd/system.conf.d/50-upright.conf
    # An initrd that does not find its root restarts the machine, which uses up a try; it would wait, and at a shell at last, for somebody.
    mkdir -p "$initdir$systemdsystemunitdir/initrd-root-device.target.d"
    printf '[Unit]\nJobTimeoutSec=2min\nJobTimeoutAction=reboot-force\n' \
        > "$initdir$systemdsystemunitdir/initrd-root-device.target.d/90upright.conf"
    # `rd.shell` on the kernel's command line has the last word.
    mkdir -p "$initdir/etc/cmdline.d"
    echo 'rd.shell=0 rd.emergency=reboot' > "$initdir/etc/cmdline.d/90upright.conf"
    $SYSTEMCTL -q --root "$initdir" add-wants initrd.target upright-state.service
}
