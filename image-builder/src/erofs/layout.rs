//! Where each file's blocks are in an image: what the next image and the delta encoder follow.

use serde::{Deserialize, Serialize};
use upright_manifests::digest::Digest;

/// Where everything is in an image, in blocks of 4096 bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The image's length in blocks.
    pub blocks: u64,
    /// Runs of metadata blocks (superblock, inodes, directories, xattrs), in ascending order.
    pub metadata: Vec<Run>,
    /// Runs of blocks that belong to regular files, ordered by start, each once: files of equal content share
    /// their run. Blocks in neither list are zero.
    pub files: Vec<FileRun>,
}

/// A run of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The first block.
    pub start: u64,
    /// How many blocks.
    pub blocks: u64,
}

/// The blocks of a file's content; the last one is padded with zeros.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRun {
    /// The first block.
    pub start: u64,
    /// The content's length in bytes, never zero.
    pub size: u64,
    /// The SHA-256 of the content.
    pub sha256: Digest,
    /// The first path, by bytes, that has this content; lossless (percent-encoded where it is not UTF-8).
    pub path: String,
}
