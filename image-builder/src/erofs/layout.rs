//! Where everything is in an image: what the next image and the delta encoder follow.

use serde::{Deserialize, Serialize};
use upright_manifests::BLOCK_SIZE;
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
    /// Where the metadata is in detail: what keeps inode numbers stable from one image to the next.
    #[serde(default)]
    pub records: Records,
}

/// A run of blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The first path, by bytes, that has this content, as [`path_text`] writes it.
    pub path: String,
}

/// Where the metadata is: records in a region that is counted in slots of 32 bytes, and what does not fit into a record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    /// The blocks that records are in; slots count from its start, and a record's slot is its inode's number.
    pub region: Run,
    /// The records, ordered by slot.
    pub records: Vec<Record>,
    /// Directories and symbolic links whose data has blocks of its own, ordered by start.
    pub apart: Vec<Apart>,
}

/// The place of a record in the metadata region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The first slot.
    pub slot: u64,
    /// How many slots.
    pub slots: u64,
    /// What it holds.
    pub of: RecordOf,
}

/// What a record holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordOf {
    /// The inode of a path, the first by bytes if it has several; as [`path_text`] writes it.
    Path(String),
    /// An extended attribute that several inodes share, by the SHA-256 of its bytes in the image.
    Xattr(Digest),
}

/// The blocks of a directory's or symbolic link's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apart {
    /// The first block.
    pub start: u64,
    /// How many blocks.
    pub blocks: u64,
    /// The path, as [`path_text`] writes it.
    pub path: String,
}

impl FileRun {
    /// How many blocks the content takes.
    pub fn blocks(&self) -> u64 {
        self.size.div_ceil(BLOCK_SIZE)
    }
}

/// A path as text, without loss: what is not UTF-8, and `%` itself, is percent-encoded.
pub fn path_text(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for (index, part) in chunk.valid().split('%').enumerate() {
            if index > 0 {
                text.push_str("%25");
            }
            text.push_str(part);
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("%{byte:02X}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_text_without_loss() {
        let table: [(&[u8], &str); 5] = [
            (b"", ""),
            (b"usr/bin/env", "usr/bin/env"),
            ("etc/süß".as_bytes(), "etc/süß"),
            (b"a%41", "a%2541"),
            (b"a\xff/\xc3", "a%FF/%C3"),
        ];
        for (path, text) in table {
            assert_eq!(path_text(path), text);
        }
    }
}
