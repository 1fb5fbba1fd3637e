#!/bin/bash
# dracut module: everything an initrd needs to start a release from either slot.
#
# systemd-veritysetup opens the root image by the root hash on the kernel's command line; mount-state then puts
# the state partition and the slot's /etc over it, before the switch to the new root.

check() {
    require_binaries "$systemdutildir"/systemd-veritysetup findmnt blkid e2fsck mkfs.ext4 || return 1
}

depends() {
    echo systemd systemd-initrd systemd-udevd systemd-veritysetup dm rootfs-block
}

installkernel() {
    # Named one by one: what the build machine has is no sign of what the host has.
    hostonly='' instmods dm_verity erofs overlay ext4 btrfs xfs \
        virtio_pci virtio_blk virtio_scsi nvme ahci sd_mod mmc_block sdhci_pci sdhci_acpi usb_storage uas xhci_pci
}

install() {
    inst_multiple findmnt blkid e2fsck mkfs.ext4 mount umount cat cp head mkdir readlink rm sleep sync tr touch timeout wc
    inst_multiple -o /etc/mke2fs.conf
    inst_script "$moddir/mount-state.sh" /usr/lib/upright/mount-state
    inst_simple "$moddir/upright-state.service" "$systemdsystemunitdir/upright-state.service"
    $SYSTEMCTL -q --root "$initdir" add-wants initrd.target upright-state.service
}
