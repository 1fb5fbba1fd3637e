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
//!     32  52n  per frame: compressed length (4), blocks (4), far blocks (4), where they start (4), near blocks (4),
//!              SHA-256 of the compressed bytes (32)
//! ```
//!
//! Numbers are little-endian. Frames follow the head without gaps, in the image's order. A frame is a zstd frame that was
//! compressed with a prefix: its far blocks, and its near ones, which are those right before its own.

use std::ops::Range;

use crate::BLOCK_SIZE;
use crate::digest::Digest;

/// The largest image, in blocks: 64 GiB.
pub const MAX_BLOCKS: u64 = 1 << 24;

/// The most blocks a frame may cover: 4 MiB.
pub const MAX_FRAME_BLOCKS: u32 = 1024;

/// The most blocks that a frame's prefix may have: 8 MiB.
pub const MAX_PREFIX_BLOCKS: u32 = 2048;

/// The longest head that is accepted, in bytes.
pub const MAX_HEAD_BYTES: u64 = 8 << 20;

pub(super) const SKIPPABLE: u32 = 0x184D_2A50;
pub(super) const MAGIC: [u8; 8] = *b"UPRTFULL";
pub(super) const VERSION: u16 = 1;
pub(super) const FIXED: usize = 32;
pub(super) const ENTRY: usize = 52;

/// What a payload is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The image's length in blocks.
    pub blocks: u64,
    /// The frames, in the image's order; together they cover each block once.
    pub frames: Vec<Frame>,
}

/// One zstd frame. It can be checked by itself, and unpacked once the blocks of its prefix are there.
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
    /// What it refers back to.
    pub prefix: Prefix,
    /// The SHA-256 of its compressed bytes.
    pub sha256: Digest,
}

/// Blocks of the image, all before a frame's own, that it was compressed with: first the far ones, then the near ones. At most
/// [`MAX_PREFIX_BLOCKS`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prefix {
    /// The first far block.
    pub far_start: u32,
    /// How many far blocks there are.
    pub far: u32,
    /// How many blocks right before the frame belong to it.
    pub near: u32,
}

impl Prefix {
    /// Its length in bytes.
    pub fn bytes(&self) -> usize {
        (self.far as usize + self.near as usize) * BLOCK_SIZE as usize
    }

    /// Whether a frame that starts at `block` can have it.
    pub(super) fn fits(&self, block: u64) -> bool {
        let length = u64::from(self.far) + u64::from(self.near);
        let far_end = u64::from(self.far_start) + u64::from(self.far);
        let near_start = block.checked_sub(u64::from(self.near));
        length <= u64::from(MAX_PREFIX_BLOCKS) && near_start.is_some_and(|start| far_end <= start)
    }
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

    /// The bytes of the image that are its prefix, far before near; ranges may be empty.
    pub fn prefix_ranges(&self) -> [Range<u64>; 2] {
        let Prefix { far_start, far, near } = self.prefix;
        let far_start = u64::from(far_start);
        [far_start..far_start + u64::from(far), self.start.saturating_sub(u64::from(near))..self.start]
            .map(|blocks| blocks.start * BLOCK_SIZE..blocks.end * BLOCK_SIZE)
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
