//! Disk images for a first install: GPT, ESP, both slots, var.
//!
//! ```text
//! esp              FAT32: systemd-boot, its configuration, the release's UKI
//! root-a           the release's EROFS image
//! root-a-verity    its dm-verity superblock and hash tree
//! root-b           empty
//! root-b-verity    empty
//! var              ext4, the last one so that it can grow
//! ```
//!
//! Everything is written in user space into a sparse file: no root, no loop devices. Equal inputs give equal bytes in raw
//! and qcow2; what `qemu-img` writes as VHD and VMDK carries random identifiers.

mod error;
mod esp;
mod ext4;
mod fat;
mod gpt;
mod simulated;
mod slot;
mod sparse;

use std::fs::{self, File};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::Timestamp;
use upright_manifests::name::{Arch, OsName};
use upright_manifests::uuid::Uuid;
use upright_manifests::verity::VerityParams;
use upright_manifests::version::Version;

use crate::tools::Tool;

pub use error::DiskError;
use gpt::{MIB, Partition, Type};
pub use simulated::write_simulated;

/// What goes onto a disk.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// The OS.
    pub os: &'a OsName,
    /// The release's version.
    pub version: &'a Version,
    /// The architecture it boots on.
    pub arch: Arch,
    /// The release time, which every file made here carries.
    pub time: Timestamp,
    /// The EROFS image.
    pub root: &'a Path,
    /// The verity tree over it, which is made anew and compared.
    pub verity: &'a VerityParams,
    /// The UKI, signed if it is to be.
    pub uki: &'a Path,
    /// systemd-boot ([`crate::uki::read_loader`]), signed if it is to be.
    pub loader: &'a Path,
    /// How large the partitions are.
    pub sizes: Sizes,
    /// What kind of file is written.
    pub format: Format,
}

/// Sizes of partitions in bytes, multiples of 1 MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Each of `root-a` and `root-b`.
    pub slot: u64,
    /// Each of `root-a-verity` and `root-b-verity`.
    pub verity: u64,
    /// The EFI system partition.
    pub esp: u64,
    /// The state partition.
    pub var: u64,
}

/// A format of disk images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The disk's bytes, with holes where they are zero.
    Raw,
    /// QEMU's format.
    Qcow2,
    /// Microsoft's format, of Azure and Hyper-V.
    Vhd,
    /// VMware's format.
    Vmdk,
}

/// The text names no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a disk format: raw, qcow2, vhd or vmdk")]
pub struct ParseFormatError(String);

impl Format {
    /// All formats there are.
    pub const ALL: [Self; 4] = [Self::Raw, Self::Qcow2, Self::Vhd, Self::Vmdk];

    /// The name as text, which is also the usual file extension.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vhd => "vhd",
            Self::Vmdk => "vmdk",
        }
    }

    /// The arguments that make `qemu-img convert` write the format.
    fn conversion(self) -> &'static [&'static str] {
        match self {
            Self::Raw => &["-O", "raw"],
            Self::Qcow2 => &["-O", "qcow2"],
            // Azure refuses a disk whose size was rounded to a cylinder.
            Self::Vhd => &["-O", "vpc", "-o", "subformat=dynamic,force_size=on"],
            Self::Vmdk => &["-O", "vmdk", "-o", "subformat=streamOptimized"],
        }
    }
}

impl FromStr for Format {
    type Err = ParseFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|format| format.as_str() == text);
        found.ok_or_else(|| ParseFormatError(text.chars().take(80).collect()))
    }
}

/// Refuses a release that does not fit the partitions: the image and its hash tree in a slot, two UKIs and
/// an eighth to grow on the ESP.
pub fn check_fit(sizes: &Sizes, root: u64, verity: u64, uki: u64) -> Result<(), DiskError> {
    let places = [("root image", root, "slot", sizes.slot), ("hash tree", verity, "verity", sizes.verity)];
    for (what, size, setting, room) in places {
        if size > room {
            return Err(DiskError::Slot { what, size, setting, room });
        }
    }
    esp::check_fit(sizes.esp, uki)
}

/// Writes the disk image of a release to `out`, which appears when it is complete; `reached` hears how many bytes of the root
/// image are in it.
pub fn write(plan: &Plan<'_>, out: &Path, reached: &dyn Fn(u64)) -> Result<(), DiskError> {
    check_output(out)?;
    let root = length(plan.root)?;
    check_fit(&plan.sizes, root, plan.verity.hash_size, length(plan.uki)?)?;
    let raw = beside(out, "raw");
    let done = write_raw(plan, &raw, reached).and_then(|()| publish(&raw, plan.format, out));
    if done.is_err() {
        // What failed is what counts.
        let _ = fs::remove_file(&raw);
    }
    done
}

/// Refuses a place whose name stands for something that a file must not replace. A symbolic link may lead to a device.
fn check_output(out: &Path) -> Result<(), DiskError> {
    let Ok(found) = fs::symlink_metadata(out) else { return Ok(()) };
    let found = found.file_type();
    let kind = match () {
        () if found.is_file() => return Ok(()),
        () if found.is_dir() => "a folder",
        () if found.is_symlink() => "a symbolic link",
        () if found.is_block_device() || found.is_char_device() => "a device",
        () if found.is_fifo() => "a pipe",
        () => "a socket",
    };
    Err(DiskError::NotAFile { path: out.to_owned(), kind })
}

fn write_raw(plan: &Plan<'_>, path: &Path, reached: &dyn Fn(u64)) -> Result<(), DiskError> {
    let table = gpt::lay_out(disk_uuid(plan, "disk"), &partitions(plan))?;
    let disk = File::create(path).and_then(|disk| disk.set_len(table.size).map(|()| disk));
    let disk = disk.map_err(|source| DiskError::Write { path: path.to_owned(), source })?;
    let target = sparse::Target { file: &disk, path };
    table.areas.iter().try_for_each(|(offset, bytes)| target.write(*offset, bytes))?;
    let [esp, root, verity, _, _, var] = table.offsets[..] else { return Err(DiskError::Partitions) };
    esp::write(plan, target, esp)?;
    let place = |offset| slot::Place { target, offset };
    slot::write(plan.root, plan.verity, place(root), place(verity), reached)?;
    ext4::write(plan, target, var)?;
    disk.sync_all().map_err(|source| DiskError::Write { path: path.to_owned(), source })
}

/// The partitions in their order. The slots' types are those of the Discoverable Partitions Specification, so that tools
/// know what they look at, but flagged against automatic mounting: only the kernel's command line says which slot runs.
fn partitions(plan: &Plan<'_>) -> [Partition; 6] {
    let Sizes { slot, verity, esp, var } = plan.sizes;
    let (root_type, verity_type) = Type::roots(plan.arch);
    let partition = |label, kind, size| Partition { label, kind, size, uuid: disk_uuid(plan, label) };
    [
        partition("esp", Type::ESP, esp),
        partition("root-a", root_type, slot),
        partition("root-a-verity", verity_type, verity),
        partition("root-b", root_type, slot),
        partition("root-b-verity", verity_type, verity),
        partition("var", Type::VAR, var),
    ]
}

/// A UUID that follows from the release.
fn disk_uuid(plan: &Plan<'_>, purpose: &str) -> Uuid {
    Uuid::derive(purpose, format!("{}\0{}\0{}", plan.os, plan.version, plan.verity.root_hash).as_bytes())
}

fn publish(raw: &Path, format: Format, out: &Path) -> Result<(), DiskError> {
    let renaming = |source| DiskError::Write { path: out.to_owned(), source };
    if format == Format::Raw {
        return fs::rename(raw, out).map_err(renaming);
    }
    let converted = beside(out, format.as_str());
    let fixed = ["convert", "-f", "raw"].iter().chain(format.conversion()).map(AsRef::as_ref);
    Tool::QemuImg.run(fixed.chain([raw.as_os_str(), converted.as_os_str()]), &[])?;
    fs::rename(&converted, out).and_then(|()| fs::remove_file(raw)).map_err(renaming)
}

/// A name in the same folder for what is not complete yet.
fn beside(out: &Path, kind: &str) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(format!(".{kind}.part"));
    name.into()
}

fn length(path: &Path) -> Result<u64, DiskError> {
    let found = fs::metadata(path).map_err(|source| DiskError::Read { path: path.to_owned(), source })?;
    Ok(found.len())
}

/// Bytes in whole MiB, rounded up: what a partition must be set to.
fn in_mib(bytes: u64) -> u64 {
    bytes.div_ceil(MIB)
}

#[cfg(test)]
mod tests;
