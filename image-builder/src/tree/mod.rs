//! An OS tree in memory: names, inodes and where their content is.
//!
//! Inputs make it, the store keeps it as an OSTree commit, the EROFS writer turns it into an image. File
//! content is never held in memory: an inode names it and [`Contents`] opens it.

mod batch;
mod beside;
mod builder;
mod check;
mod load;
mod objects;
mod path;
mod sign;
mod store;
mod variant;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub(crate) use batch::WriteError;
pub use batch::{Batch, CommitInfo};
pub use builder::{Attributes, BuildError, Repeat, TreeBuilder};
pub use check::TreeError;
pub use load::Loaded;
pub(crate) use load::import;
pub use objects::Objects;
pub use path::{MAX_NAME, MAX_PATH, MAX_TARGET, PathError, display, parent, parse, split};
pub use sign::SignatureError;
pub use store::{Store, StoreError};

use std::collections::BTreeMap;
use std::io::{self, Read};

use upright_manifests::digest::Digest;

/// A path inside a tree: bytes, without a leading `/`; the root is the empty path.
pub type TreePath = Vec<u8>;

/// The files of one OS version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// Every path but its inode's index; the root (`b""`) is always there and a directory, and so is each path's parent.
    /// Sorted by bytes. Hard links are paths that share an index.
    pub paths: BTreeMap<TreePath, usize>,
    /// The inodes, each named by at least one path.
    pub inodes: Vec<Inode>,
}

/// Everything about a file but its names and times; all times are the release's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky: `0..=0o7777`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes by full name, such as `security.capability`; names without a NUL.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What an inode is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File(Content),
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// A device's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Major number, at most 12 bits.
    pub major: u32,
    /// Minor number, at most 20 bits.
    pub minor: u32,
}

/// The content of a regular file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// Its length in bytes.
    pub size: u64,
    /// The SHA-256 of the bytes alone.
    pub sha256: Digest,
    /// The checksum of the OSTree object that holds it, which covers owner, mode and xattrs too.
    pub object: Digest,
}

/// Opens the content of files.
pub trait Contents {
    /// The bytes of `content`, from the start.
    fn open(&self, content: &Content) -> io::Result<Box<dyn Read>>;
}
