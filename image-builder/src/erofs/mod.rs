//! Writes EROFS images, deterministic to the byte, with a layout that follows the previous release.
//!
//! `model` turns a tree into inodes, `plan` decides where everything goes, `encode` makes the metadata's
//! bytes, `write` copies the contents. An image looks like this, in blocks of 4096 bytes:
//!
//! ```text
//! 0          superblock
//! 1          metadata region: records (inode, extended attributes, small directories and link targets), slack
//! ...        directories and link targets that fill blocks of their own
//! ...        contents of regular files, each distinct one once, sorted by path
//! ```
//!
//! An image that follows another keeps what has not changed where it was, fills holes, and grows at its end.

mod directory;
mod encode;
mod layout;
mod model;
mod plan;
mod space;
mod write;
mod xattr;

use std::fs::File;
use std::io;

use jiff::Timestamp;
use upright_manifests::BLOCK_SIZE;
use upright_manifests::digest::Digest;
use upright_manifests::uuid::Uuid;
use upright_manifests::verity::VerityParams;

use crate::tree::{Contents, Tree, TreeError};
pub use layout::{Apart, FileRun, Layout, Record, RecordOf, Records, Run, path_text};

/// How an image is made.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The release time, which every file carries; whole seconds count.
    pub time: Timestamp,
    /// The release it is of, such as `acme 1.2.0`. Releases of the same tree get images of their own: hosts tell releases by
    /// their root hashes, and two may differ in what starts them alone.
    pub release: &'a str,
    /// The layout to follow; without one everything is placed anew, sorted by path.
    pub base: Option<&'a Layout>,
    /// The salt of the dm-verity tree; see `upright_manifests::verity::salt`.
    pub salt: Digest,
}

/// An image that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Where everything is in it.
    pub layout: Layout,
    /// Its length in bytes, a multiple of 4096.
    pub size: u64,
    /// The file system's UUID, derived from the content and the release.
    pub uuid: Uuid,
    /// The SHA-256 of the image.
    pub sha256: Digest,
    /// The dm-verity tree over it.
    pub verity: VerityParams,
    /// Whether the base layout was followed; not if there is none, or if too much would have been wasted.
    pub followed: bool,
}

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The tree is not one.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// An extended attribute that the kernel could not give back.
    #[error("{path} has the extended attribute {name}, and EROFS cannot hold {reason}")]
    Xattr {
        /// The path.
        path: String,
        /// The attribute's name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The extended attributes of one file are too large together.
    #[error("{path} has more than 256 KiB of extended attributes, which EROFS cannot hold")]
    XattrsTooLarge {
        /// The path.
        path: String,
    },
    /// The image would be larger than EROFS can address.
    #[error("the tree needs more than the 16 TiB that an EROFS image can have")]
    TooLarge,
    /// A file's content could not be read.
    #[error("cannot read the content of {path}")]
    Content {
        /// The path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file's content is not what the tree says.
    #[error("the content of {path} is not the {expected} that the tree names; the tree store is damaged")]
    Changed {
        /// The path.
        path: String,
        /// The content's digest in the tree.
        expected: Digest,
    },
    /// The image could not be written.
    #[error("cannot write the image")]
    Image(#[source] io::Error),
}

/// Writes the image of `tree` to `out`, an empty file. The image depends on the tree and the options
/// alone. Contents are read one after the other, in the order of their place; `reached` hears how many bytes of them there
/// were so far.
pub fn write(
    tree: &Tree,
    contents: &dyn Contents,
    options: &Options<'_>,
    out: &File,
    reached: &dyn Fn(u64),
) -> Result<Written, WriteError> {
    let time = options.time.as_second();
    let model = model::Model::new(tree, time)?;
    let plan = plan::Plan::new(&model, options.base)?;
    let encoded = encode::encode(&model, &plan, time, options.release);
    let hashes = write::write(&plan, &encoded, contents, options.salt, out, reached)?;
    Ok(Written {
        size: plan.layout.blocks * BLOCK_SIZE,
        uuid: encoded.uuid,
        sha256: hashes.sha256,
        verity: hashes.verity,
        followed: plan.followed,
        layout: plan.layout,
    })
}

#[cfg(test)]
mod tests;
