//! What is on the ESP of a new disk.

use jiff::tz::TimeZone;
use upright_manifests::bls::EntryName;
use upright_manifests::name::Arch;

use super::fat::{self, FileSource, Volume};
use super::sparse::Target;
use super::{DiskError, Plan, disk_uuid};

/// Nothing here says what is booted: a `default` would override the order that boot counting relies on. The menu
/// appears when a key is held; nobody changes a command line there.
const LOADER_CONF: &[u8] = b"timeout 0\nconsole-mode keep\neditor no\nauto-entries no\nauto-firmware no\n";

/// What the folders and systemd-boot, twice, are allowed to take of the ESP, in bytes.
const OTHER_FILES: u64 = 2 << 20;

/// Refuses an ESP that has no room for two UKIs, each an eighth larger than this one.
pub(super) fn check_fit(esp: u64, uki: u64) -> Result<(), DiskError> {
    let room = fat::capacity(esp)?.saturating_sub(OTHER_FILES);
    let needed = uki.saturating_add(uki.div_ceil(8)).saturating_mul(2);
    match needed <= room {
        true => Ok(()),
        false => Err(DiskError::Esp { esp, room, needed, uki }),
    }
}

/// Writes the ESP at `offset`.
///
/// The entry has no counter: a trial ends in going back, and a new disk has nothing to go back to. With a counter that no
/// boot took off yet, the first release would rank below a bad second one.
pub(super) fn write(plan: &Plan<'_>, target: Target<'_>, offset: u64) -> Result<(), DiskError> {
    let entry = EntryName { os: plan.os.clone(), version: plan.version.clone(), counter: None };
    let (loader, fallback) = match plan.arch {
        Arch::X86_64 => ("EFI/systemd/systemd-bootx64.efi", "EFI/BOOT/BOOTX64.EFI"),
        Arch::Arm64 => ("EFI/systemd/systemd-bootaa64.efi", "EFI/BOOT/BOOTAA64.EFI"),
    };
    let uki = format!("EFI/Linux/{entry}");
    let files = [
        (fallback, FileSource::Path(plan.loader)),
        (loader, FileSource::Path(plan.loader)),
        (&uki, FileSource::Path(plan.uki)),
        ("loader/loader.conf", FileSource::Bytes(LOADER_CONF)),
    ];
    let serial = disk_uuid(plan, "esp file system");
    let [a, b, c, d, ..] = *serial.as_bytes();
    let volume = Volume {
        offset,
        size: plan.sizes.esp,
        serial: u32::from_be_bytes([a, b, c, d]),
        time: plan.time.to_zoned(TimeZone::UTC).datetime(),
    };
    fat::write(&volume, &files, target)
}
