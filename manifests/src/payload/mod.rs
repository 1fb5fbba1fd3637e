//! The full payload: an image as independent zstd frames behind a frame table.
//!
//! `payloads/<sha256>.zst` is a plain zstd file (RFC 8878): `zstd -dc` gives the image. Its first frame is a
//! skippable one that holds the head. The release manifest signs the head's size and hash, the head holds the hash of
//! every frame, so nothing is decompressed before it is known to be what was published.

mod format;
mod reader;
mod writer;

pub use format::{Frame, Head, MAX_BLOCKS, MAX_FRAME_BLOCKS, MAX_HEAD_BYTES, head_bytes};
pub use reader::{FrameError, HeadError, Unpacker};
