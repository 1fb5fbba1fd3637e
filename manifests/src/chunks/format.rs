//! The layout of the index and its limits.
//!
//! ```text
//! offset size
//!      0    8  "UPRTCHNK"
//!      8    2  version, 1
//!     10    2  zero
//!     12    4  number of chunks
//!     16    8  image size in blocks of 4096 bytes
//!     24   32  salt of the dm-verity tree
//!     56    n  per chunk: its length in blocks, 1 to 255
//!   56+n   4n  per chunk: the first 4 bytes of the hash of its last block
//!  56+5n   8n  per chunk: the first 8 bytes of the SHA-256 over the hashes of all its blocks
//! ```
//!
//! Numbers are little-endian. Chunks are in the image's order and cover each block once. The hash of a block is the one
//! in the tree's lowest level: SHA-256 of salt and block.

use crate::digest::{Digest, Digester};

/// The most blocks a chunk may have.
pub const MAX_CHUNK_BLOCKS: usize = 255;

pub(super) const MAGIC: [u8; 8] = *b"UPRTCHNK";
pub(super) const VERSION: u16 = 1;
pub(super) const FIXED: usize = 56;
pub(super) const ENTRY: usize = 13;

/// The hash of a block in the lowest level of a dm-verity tree.
pub type Leaf = [u8; 32];

/// What an image is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The image's length in blocks.
    pub blocks: u64,
    /// The salt that the blocks were hashed with; slots with another one hold nothing that can be found.
    pub salt: Digest,
    /// The chunks, in the image's order.
    pub chunks: Vec<Chunk>,
}

/// A run of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// The first block.
    pub start: u64,
    /// How many blocks, 1 to [`MAX_CHUNK_BLOCKS`].
    pub blocks: u8,
    /// The start of the last block's hash.
    pub last: [u8; 4],
    /// The start of the SHA-256 over all blocks' hashes.
    pub id: [u8; 8],
}

/// The id of the chunk whose blocks have these hashes.
pub fn id_of<'a>(leaves: impl IntoIterator<Item = &'a Leaf>) -> [u8; 8] {
    let mut digester = Digester::new();
    leaves.into_iter().for_each(|leaf| digester.update(leaf));
    let mut id = [0; 8];
    id.copy_from_slice(&digester.finish().as_bytes()[..8]);
    id
}
