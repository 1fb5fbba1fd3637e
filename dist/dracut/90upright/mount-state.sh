#!/bin/sh
# Puts this host's state over the read-only root before the switch to it:
#
#   /var   the partition labelled `var` on the disk that the root is on
#   /etc   an overlay: the image's below, /var/lib/upright/etc/<slot>/upper above
#   what releases declare as versioned: the slot's own copies, over the plain paths in /var
#
# What follows the host and what is copied for a slot is the business of `upright boot-state`, the program in the image that boots.
#
# A machine whose state is damaged must still come up, so that somebody can mend it: it then runs with /var and
# /etc in memory. A release that would change what the one before it needs does not come up: the machine is started again, and
# the boot loader's tries lead back. Nothing here waits without a bound.

root=/sysroot
kept=/run/upright/image-var
# What the agent goes by: nothing that this boot writes is there at the next one.
volatile=/run/upright/volatile
# How far a check of the state's file system is.
progress=/run/upright/progress
# What a partition begins with that may be blank.
beginning=/run/upright/beginning

# When this takes too long, systemd stops what is running here; what comes after that has to be done all the same.
stopped=
trap 'stopped=yes' TERM

say() {
    echo "upright: $*"
}

# The value of $2 in the uevent file $1.
field() {
    while IFS='=' read -r name value; do
        if [ "$name" = "$2" ]; then
            echo "$value"
            return 0
        fi
    done < "$1"
    return 1
}

# The sysfs folder of the partition that the root's device-mapper device has its data on.
find_root_partition() {
    # shellcheck disable=SC2046 # unquoted for the sake of the spaces around it
    set -- $(findmnt --noheadings --output MAJ:MIN --target "$root")
    for below in "/sys/dev/block/$1"/slaves/*; do
        case $(field "$below/uevent" PARTNAME) in
            root-a | root-b)
                readlink -f "$below"
                return 0
                ;;
        esac
    done
    return 1
}

# The device node of the partition labelled `var` beside the partition $1. Another disk's is not ours.
find_var() {
    for beside in "${1%/*}"/*/uevent; do
        if [ "$(field "$beside" PARTNAME)" = var ]; then
            echo "/dev/$(field "$beside" DEVNAME)"
            return 0
        fi
    done
    return 1
}

# Makes a file system on $1 if it has never held anything. What cannot be read may hold everything: all of the first mebibyte was read, and
# it is zeros.
format_if_blank() {
    [ -z "$(blkid --probe --output value --match-tag TYPE "$1")" ] || return 0
    head -c 1048576 "$1" > "$beginning" &&
        [ "$(wc -c < "$beginning")" -eq 1048576 ] && [ "$(tr -d '\0' < "$beginning" | wc -c)" = 0 ]
    blank=$?
    rm -f "$beginning"
    [ "$blank" -eq 0 ] || return 0
    say "$1 is blank, making a file system on it"
    mkfs.ext4 -q -L var "$1"
}

# Asks systemd for more time than the unit has, as `upright boot-state` does, as long as there is something to read.
go_on() {
    next=0
    while read -r _; do
        read -r now _ < /proc/uptime
        now=${now%.*}
        [ "$now" -ge "$next" ] || continue
        systemd-notify EXTEND_TIMEOUT_USEC=300000000
        next=$((now + 10))
    done
}

# Runs e2fsck. A large file system may take it longer than any limit; one that does not answer gets no further.
check() {
    rm -f "$progress"
    mkfifo "$progress" && { go_on < "$progress" & }
    e2fsck -C 9 "$@" 9> "$progress"
}

# Checks $1 and mends it if needed. Other file systems than ext2 to ext4 do so while they are mounted. A superblock of which half was
# written may be of no type; ext has copies of it.
mend() {
    case $(blkid --probe --output value --match-tag TYPE "$1") in
        ext[234] | "") ;;
        *) return 0 ;;
    esac
    check -p "$1"
    [ $? -lt 4 ] && return 0
    [ -z "$stopped" ] || return 1
    say "$1 is damaged, mending what can be mended"
    check -f -y "$1"
    [ $? -lt 4 ]
}

# Gives an empty /var what the image has in its own, but what is there already. Made aside first, and put in place by links: wherever a
# power cut stops it, no file is half of itself, and the next boot does the rest.
fill() {
    own=$root/var/lib/upright
    [ -e "$own/filled" ] && return 0
    mkdir -p "$own" && rm -rf "$own/filling" && cp --archive "$kept" "$own/filling" && sync || return 1
    # What is there already is no failure; older coreutils have no word for that, and take the other one so.
    add --update=none 2> /dev/null || add --no-clobber || return 1
    sync && rm -rf "$own/filling" && touch "$own/filled"
}

add() {
    cp --archive --link "$1" "$own/filling/." "$root/var/"
}

# Runs what the image has for this.
boot_state() {
    "$root/usr/bin/upright" boot-state --sysroot "$root" "$@"
}

# Empties /etc and /var if an operator asked for that; the request is there until all is done.
reset() {
    [ ! -e "$root/var/lib/upright/reset" ] || boot_state --slot "$1" --reset
}

# Makes what the slot $1 has as its own ready. Ends with 1 if that must stay out of reach.
prepare() {
    # Copies that are stopped for taking too long are as good as none.
    boot_state --slot "$1"
    case $? in
        0) return 0 ;;
        3) ;;
        6) return 1 ;;
        # A program that does not even start is no better on its first boot.
        *) [ "$(cat "$root/var/lib/upright/fresh" 2> /dev/null)" = "$1" ] || return 1 ;;
    esac
    say "slot $1 does not boot like this, starting again"
    umount -R "$root/var" || sync
    systemctl reboot --force
    # The machine goes down under this.
    sleep 60
    return 1
}

# Mounts the slot $1's /etc.
overlay() {
    state="$root/var/lib/upright/etc/$1"
    mkdir -p "$state/upper" "$state/work" || return 1
    # Nothing but whole files and whole folders in the upper layer, so that it can be copied for another image.
    mount -t overlay overlay "$root/etc" \
        -o "lowerdir=$root/etc,upperdir=$state/upper,workdir=$state/work,redirect_dir=nofollow,metacopy=off,index=off"
}

# Notes this boot if it is one of the release on trial: should it not get as far as the agent, the old release's agent can tell how
# far it came, and which boot it was in the journal.
note_boot() {
    read -r tried < "$root/var/lib/upright/trial" || [ -n "$tried" ] || return 0
    read -r line < /proc/cmdline
    case " $line " in
        *" roothash=$tried "*) ;;
        *) return 0 ;;
    esac
    read -r boot < /proc/sys/kernel/random/boot_id
    echo "$boot" >> "$root/var/lib/upright/trial-boots" && sync "$root/var/lib/upright/trial-boots"
}

mount_state() {
    partition=$(find_root_partition) || {
        say "the root is on neither root-a nor root-b"
        return 1
    }
    var=$(find_var "$partition") || {
        say "the disk has no partition labelled var"
        return 1
    }
    format_if_blank "$var" || return 1
    mend "$var" || return 1
    mount "$var" "$root/var" || return 1
    note_boot 2> /dev/null
    slot=$(field "$partition/uevent" PARTNAME)
    slot=${slot#root-}
    reset "$slot" || say "not everything could be reset"
    fill || say "not everything of the image's /var could be copied to $var"
    prepare "$slot" || return 1
    overlay "$slot"
}

mount_volatile() {
    say "WARNING: state is kept in memory only and lost at the next boot"
    touch "$volatile"
    umount -R -l "$root/var" 2> /dev/null
    mount -t tmpfs -o mode=0755 tmpfs "$root/var" && fill && overlay volatile
}

mkdir -p "$kept"
# Private, or what is mounted on the one would appear on the other.
mount --bind "$root/var" "$kept" && mount --make-private "$kept"
mount_state || mount_volatile || say "WARNING: /etc and /var are read-only"
umount "$kept"
exit 0
