//! The layout of the head and its limits.
//!
//! ```text
//! offset size
//!      0    4  0x184D2A50, magic of a skippable zstd frame
//!      4    4  length of what follows
//!      8    8  "UPRTFULL"
//!     16    2  version, 1
//!     18    2  zero
//!     20    4  number of frames
//!     24    8  image size in blocks of 4096 bytes
//!     32  40n  per frame: compressed length (4), blocks (4), SHA-256 of the compressed bytes (32)
//! ```
//!
//! Numbers are little-endian. Frames follow the head without gaps, in the image's order.

use std::ops::Range;

use crate::BLOCK_SIZE;
use crate::digest::Digest;

/// The largest image, in blocks: 64 GiB.
pub const MAX_BLOCKS: u64 = 1 << 24;

/// The most blocks a frame may cover: 4 MiB.
pub const MAX_FRAME_BLOCKS: u32 = 1024;

/// The longest head that is accepted, in bytes.
pub const MAX_HEAD_BYTES: u64 = 8 << 20;

pub(super) const SKIPPABLE: u32 = 0x184D_2A50;
pub(super) const MAGIC: [u8; 8] = *b"UPRTFULL";
pub(super) const VERSION: u16 = 1;
pub(super) const FIXED: usize = 32;
pub(super) const ENTRY: usize = 40;

/// What a payload is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The image's length in blocks.
    pub blocks: u64,
    /// The frames, in the image's order; together they cover each block once.
    pub frames: Vec<Frame>,
}

/// One independent zstd frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Where it starts in the payload file, in bytes.
    pub offset: u64,
    /// Its compressed length in bytes.
    pub packed: u32,
    /// The first block it covers.
    pub start: u64,
    /// How many blocks it covers, at most [`MAX_FRAME_BLOCKS`].
    pub blocks: u32,
    /// The SHA-256 of its compressed bytes.
    pub sha256: Digest,
}

impl Frame {
    /// Its length in bytes when decompressed.
    pub fn unpacked(&self) -> usize {
        self.blocks as usize * BLOCK_SIZE as usize
    }

    /// Where it is in the payload file, in bytes.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + u64::from(self.packed)
    }

    /// The longest a frame of `blocks` blocks can be when compressed: what does not compress grows a little.
    pub fn max_packed(blocks: u32) -> u64 {
        let size = u64::from(blocks) * BLOCK_SIZE;
        size + (size >> 8) + 1024
    }
}

/// The length in bytes of a head for that many frames.
pub fn head_bytes(frames: usize) -> usize {
    FIXED + frames * ENTRY
}
