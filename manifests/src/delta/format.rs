//! The layout of head and segments, and their limits.
//!
//! ```text
//! head                                          segment
//! offset size                                   offset size
//!      0    8  "UPRDELTA"                            0    1  number of streams
//!      8    2  version, 1                            1  10n  per stream: kind (1), codec (1), length (4),
//!     10    1  kind: 0 root image, 1 UKI                     packed length (4)
//!     11    1  number of sources                        ...  the packed streams, without gaps
//!     12    4  features a reader must know
//!     16    4  memory an applier takes, bytes
//!     20    4  number of segments               codec   0 as it is, 1 one zstd frame (RFC 8878)
//!     24    8  target size in bytes             stream  0 tags, 1 lengths, 2 positions, 3 difference,
//!     32   32  target identity                          4 literal, 5 recipes
//!     64  48s  per source: id (1), zero (7),
//!              size (8), identity (32)          tag     operation in the low 4 bits, source in the high
//!    ...  48n  per segment: packed length (4),          0 literal, 1 copy, 2 add, 3 zero, 4 rebuild,
//!              bytes of target it makes (4), where          5 add words, 6 add code
//!              they start (8), SHA-256 of the packed
//!              bytes (32)
//! ```
//!
//! Numbers are little-endian; lengths and positions in their streams are LEB128. Each operation makes `length` bytes of
//! the target: *literal* takes them from the literal stream, *copy* from the source, *add* adds
//! the difference stream to the source byte by byte, *add words* and *add code* with carry inside of numbers (`numbers.rs`),
//! *zero* makes zeros. A position is the distance from where the
//! last copy or add from that source ended (in a segment's first: from the segment's own place in the target),
//! zigzag-coded. *Rebuild* makes its bytes by compressing what the operations that follow make, of which there are as many as make
//! `plain` bytes; its recipe is
//!
//! ```text
//! codec (1)      0 deflate: level (1)   1 LZ4 block: level (1)
//!                2 zstd: level (1), flags (1: 1 last section, 2 checksum, 4 content size known), prefix, content size
//! plain          how many bytes the operations make
//! parts          how many there are; for each:
//!                codec (1; 2 zstd frames), source (1), position, packed length, plain length
//! ```
//!
//! with numbers as above. What its parts unpack to, one after the other, is source 2 until it ends. Identity is the dm-verity root hash of a root image, the SHA-256 of a UKI.

use crate::digest::Digest;

/// The longest head that is accepted, in bytes.
pub const MAX_HEAD_BYTES: u64 = 4 << 20;

/// The most bytes a segment may have as it is stored.
pub const MAX_SEGMENT_PACKED: u32 = 4 << 20;

/// The most bytes of the target a segment may make.
pub const MAX_SEGMENT_TARGET: u32 = 256 << 20;

/// The most memory that applying any delta takes, in bytes: a packed segment, the windows of all streams, what a rebuild
/// takes and the cache of what was read from the sources. With it a host's whole program stays below 64 MB.
pub const MAX_MEMORY: u32 = 48 << 20;

/// The most bytes of content that a rebuild has in memory, what its parts unpack to included.
pub const MAX_PLAIN: u64 = 24 << 20;

/// The most parts of a rebuild.
pub const MAX_PARTS: u64 = 64;

/// The feature bits this program knows: none so far.
pub const FEATURES: u32 = 0;

pub(super) const MAGIC: [u8; 8] = *b"UPRDELTA";
pub(super) const VERSION: u16 = 1;
pub(super) const FIXED: usize = 64;
pub(super) const SOURCE_ENTRY: usize = 48;
pub(super) const SEGMENT_ENTRY: usize = 48;
pub(super) const STREAM_ENTRY: usize = 10;
pub(super) const STREAMS: usize = 6;
/// The largest zstd window of each stream, as a power of two: 16 MiB in all.
pub(super) const WINDOW_LOGS: [u32; STREAMS] = [20, 20, 20, 22, 23, 20];
pub(super) const TAGS: usize = 0;
pub(super) const LENGTHS: usize = 1;
pub(super) const POSITIONS: usize = 2;
pub(super) const DIFFERENCE: usize = 3;
pub(super) const LITERAL: usize = 4;
pub(super) const RECIPES: usize = 5;
pub(super) const STORED: u8 = 0;
pub(super) const ZSTD: u8 = 1;
pub(super) const OP_LITERAL: u8 = 0;
pub(super) const OP_COPY: u8 = 1;
pub(super) const OP_ADD: u8 = 2;
pub(super) const OP_ZERO: u8 = 3;
pub(super) const OP_REBUILD: u8 = 4;
pub(super) const OP_ADD_WORDS: u8 = 5;
pub(super) const OP_ADD_CODE: u8 = 6;
pub(super) const CODEC_DEFLATE: u8 = 0;
pub(super) const CODEC_LZ4: u8 = 1;
pub(super) const CODEC_ZSTD: u8 = 2;
pub(super) const LAST: u8 = 1;
pub(super) const CHECKSUM: u8 = 2;
pub(super) const CONTENT: u8 = 4;

/// What a delta makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A root image, out of that of another release.
    Root,
    /// A UKI, out of its release's own root image.
    Uki,
}

/// Where bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The root image of the release that the delta starts from.
    Base,
    /// The root image of the release that the delta leads to. A delta that makes that image reads from it only what the segments
    /// before have made.
    Root,
    /// What the parts of the rebuild that is under way unpack to. Never an input.
    Plain,
}

impl Source {
    /// All sources, in the order of their ids.
    pub const ALL: [Self; 3] = [Self::Base, Self::Root, Self::Plain];

    pub(super) fn id(self) -> u8 {
        self as u8
    }

    pub(super) fn from_id(id: u8) -> Option<Self> {
        Self::ALL.get(usize::from(id)).copied()
    }
}

/// What a delta is about and what it consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// What it makes.
    pub kind: Kind,
    /// How much memory applying it takes, in bytes, at most [`MAX_MEMORY`].
    pub memory: u32,
    /// The target's length in bytes.
    pub target_size: u64,
    /// The target's identity: dm-verity root hash of a root image, SHA-256 of a UKI.
    pub target_id: Digest,
    /// What it needs, by ascending source.
    pub inputs: Vec<Input>,
    /// Its segments, in the order they are applied in; together they make each byte of the target once.
    pub segments: Vec<Segment>,
}

/// An image that must be at hand to apply a delta.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Its place in operations.
    pub source: Source,
    /// Its length in bytes.
    pub size: u64,
    /// Its dm-verity root hash.
    pub id: Digest,
}

/// One independent part of a delta.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Where it starts in the delta file, in bytes.
    pub offset: u64,
    /// Its stored length in bytes, at most [`MAX_SEGMENT_PACKED`].
    pub packed: u32,
    /// Where what it makes starts in the target, in bytes.
    pub start: u64,
    /// How many bytes it makes, 1 to [`MAX_SEGMENT_TARGET`].
    pub length: u32,
    /// The SHA-256 of its stored bytes.
    pub sha256: Digest,
}

impl Segment {
    /// Where it is in the delta file, in bytes.
    pub fn range(&self) -> std::ops::Range<u64> {
        self.offset..self.offset + u64::from(self.packed)
    }
}

/// The length in bytes of a head for that many sources and segments.
pub fn head_bytes(sources: usize, segments: usize) -> usize {
    FIXED + sources * SOURCE_ENTRY + segments * SEGMENT_ENTRY
}
