//! dm-verity: parameters, superblock and the hash tree.
//!
//! Source: Linux `Documentation/admin-guide/device-mapper/verity.rst`, cryptsetup's on-disk format
//! version 1. The hash device holds, in blocks of 4096 bytes:
//!
//! ```text
//! 0            superblock (512 bytes, the rest zero)
//! 1            the top level: one block
//! ...          each level below it, the leaves last
//! ```
//!
//! A block holds 128 hashes of 32 bytes; a hash is SHA-256 over salt and block. A single data block has no levels:
//! its hash is the root.

mod geometry;
mod superblock;
mod tree;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Digester};
use crate::name::OsName;
use crate::uuid::Uuid;

pub use geometry::{Geometry, HASH_SIZE, Level, MAX_DATA_BLOCKS};
pub use superblock::{SUPERBLOCK_SIZE, Superblock};
pub use tree::{BLOCK, BlockHasher, Discard, TreeBuilder, TreeError, TreeSink};

/// What makes a dm-verity tree over an image: SHA-256, version 1, blocks of 4096 bytes for data and hashes,
/// superblock at the start of the hash device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerityParams {
    /// The hash of the tree's top block; what the kernel's command line names.
    pub root_hash: Digest,
    /// The salt, 32 bytes; the same for all releases of an OS, so that equal blocks have equal hashes.
    pub salt: Digest,
    /// The UUID in the verity superblock, in the 8-4-4-4-12 form.
    pub uuid: String,
    /// How many blocks of 4096 bytes the tree covers.
    pub data_blocks: u64,
    /// The length of the hash device's content, superblock included, in bytes.
    pub hash_size: u64,
}

/// Why verity parameters or a superblock are not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerityError {
    /// A tree over nothing, or over more than [`MAX_DATA_BLOCKS`].
    #[error("verity tree over {0} blocks is impossible, 1 to {MAX_DATA_BLOCKS} are allowed")]
    DataBlocks(u64),
    /// The length of the hash area is not what the number of data blocks makes it.
    #[error("verity hash area has {found} bytes, {expected} are right")]
    HashSize {
        /// What the parameters say.
        found: u64,
        /// What the number of data blocks makes it.
        expected: u64,
    },
    /// The UUID is not one.
    #[error("verity UUID {0:?} is malformed")]
    Uuid(String),
    /// The bytes are not a superblock of the kind used here.
    #[error("verity superblock has an unsupported {0}")]
    Superblock(&'static str),
}

impl VerityParams {
    /// The parameters of a finished tree; the superblock's UUID comes from the root hash.
    pub fn new(root_hash: Digest, salt: Digest, geometry: &Geometry) -> Self {
        Self {
            root_hash,
            salt,
            uuid: uuid(&root_hash).to_string(),
            data_blocks: geometry.data_blocks(),
            hash_size: geometry.hash_size(),
        }
    }

    /// Where everything is on the hash device; an error if the parameters contradict each other.
    pub fn geometry(&self) -> Result<Geometry, VerityError> {
        let geometry = Geometry::new(self.data_blocks)?;
        let expected = geometry.hash_size();
        match self.hash_size == expected {
            true => Ok(geometry),
            false => Err(VerityError::HashSize { found: self.hash_size, expected }),
        }
    }

    /// The superblock that belongs to the tree.
    pub fn superblock(&self) -> Result<Superblock, VerityError> {
        let uuid = self.uuid.parse().map_err(|_| VerityError::Uuid(self.uuid.clone()))?;
        Ok(Superblock { uuid, data_blocks: self.data_blocks, salt: self.salt })
    }
}

/// The UUID in the superblock of the tree with this root hash.
pub fn uuid(root_hash: &Digest) -> Uuid {
    Uuid::derive("verity", root_hash.as_bytes())
}

/// The salt of every release of an OS.
pub fn salt(os: &OsName) -> Digest {
    let mut digester = Digester::new();
    digester.update(b"upright verity salt 1\0");
    digester.update(os.to_string().as_bytes());
    digester.finish()
}
