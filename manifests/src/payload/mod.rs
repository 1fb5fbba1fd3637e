//! The full payload: an image as zstd frames behind a frame table.
//!
//! `payloads/<sha256>.zst` is made of zstd frames (RFC 8878), the first of which is a skippable one that holds the head. The
//! release manifest signs the head's size and hash, the head holds the hash of every frame, so nothing is decompressed before it
//! is known to be what was published. A frame may refer back to blocks of the image before its own: whoever makes an image
//! front to back has them.

mod format;
mod reader;
mod writer;

pub use format::{
    Frame, Head, MAX_BLOCKS, MAX_FRAME_BLOCKS, MAX_HEAD_BYTES, MAX_PREFIX_BLOCKS, Prefix, head_bytes,
};
pub use reader::{FrameError, HeadError, Unpacker};
