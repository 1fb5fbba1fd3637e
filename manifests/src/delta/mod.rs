//! The delta container: what turns the image of one release into that of another.
//!
//! `deltas/<from>-<to>.delta`, and `payloads/<sha256>.compose` for a UKI out of its release's own root image. The
//! release manifest signs the head, the head holds the hash of each segment. Segments are independent: each makes a
//! range of the target out of ranges of the sources and bytes it brings along, in one pass, so an update applies
//! while it streams and resumes at the segment where it stopped.
//!
//! What a later version may add without breaking this one: feature bits in the head (a reader refuses those it
//! does not know before it fetches anything else), kinds of operations, streams, codecs and sources.

mod apply;
mod cache;
mod format;
mod numbers;
mod reader;
mod rebuild;
mod recipes;
mod run;
mod streams;
mod writer;

pub use apply::{Applier, Output, SegmentError, Sources};
pub use format::{
    FEATURES, Head, Input, Kind, MAX_HEAD_BYTES, MAX_MEMORY, MAX_PARTS, MAX_PLAIN, MAX_SEGMENT_PACKED,
    MAX_SEGMENT_TARGET, Segment, Source, head_bytes,
};
pub use numbers::{Difference, Numbers};
pub use reader::HeadError;
pub use rebuild::{MAX_LEVEL, Packer, Packing, Part, Rebuild, Recipe, Zstd};
pub use writer::{PackError, SegmentWriter};

#[cfg(test)]
mod tests;
