//! Why a disk image cannot be made.

use std::io;
use std::path::PathBuf;

use upright_manifests::verity::VerityError;

use super::in_mib;
use crate::tools::ToolError;

/// Why a disk image cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The image or its hash tree is larger than its partition.
    #[error(
        "the {what} has {size} bytes, {} more than the {room} of a slot's partition; set `disk.{setting}` to {}MiB or \
         more, or make the tree smaller", size - room, in_mib(*size)
    )]
    Slot {
        /// What does not fit.
        what: &'static str,
        /// Its length in bytes.
        size: u64,
        /// The setting of the partition's size.
        setting: &'static str,
        /// The partition's size in bytes.
        room: u64,
    },
    /// The ESP is too small for two UKIs.
    #[error(
        "the ESP has {room} bytes for UKIs, {} less than the {needed} that two of {uki} bytes and an eighth to grow need; \
         set `disk.esp` to {}MiB or more", needed - room, in_mib(*esp + (needed - room))
    )]
    Esp {
        /// The ESP's size in bytes.
        esp: u64,
        /// What it has for UKIs, in bytes.
        room: u64,
        /// What is needed, in bytes.
        needed: u64,
        /// The UKI's length in bytes.
        uki: u64,
    },
    /// The size of a partition cannot be.
    #[error("partition {label} of {size} bytes is impossible: {expected}")]
    Size {
        /// The partition's label.
        label: &'static str,
        /// Its size in bytes.
        size: u64,
        /// What was expected.
        expected: &'static str,
    },
    /// The table has not the partitions it was given.
    #[error("the partition table is incomplete")]
    Partitions,
    /// A name that FAT cannot hold.
    #[error("{0:?} cannot be a name on the ESP")]
    Name(String),
    /// The image has another verity root than the release says.
    #[error("{path} has the verity root hash {found}, the release has {expected}; build the release again")]
    RootHash {
        /// The image.
        path: PathBuf,
        /// The root hash of what is there.
        found: String,
        /// The release's root hash.
        expected: String,
    },
    /// The verity parameters contradict themselves or the image.
    #[error("{0}")]
    Verity(String),
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// There is something where a host is to be written.
    #[error("{0} exists, and a host's state may be in it; remove it, or choose another name")]
    Exists(PathBuf),
    /// There is something else than a file where a disk image is to be written.
    #[error("{path} is {kind}, not a regular file; write to a file and copy it there, as with dd")]
    NotAFile {
        /// What is there.
        path: PathBuf,
        /// What kind of file it is, such as `a device`.
        kind: &'static str,
    },
    /// An external program did not do its work.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

impl From<VerityError> for DiskError {
    fn from(error: VerityError) -> Self {
        Self::Verity(error.to_string())
    }
}
