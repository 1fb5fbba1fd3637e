//! Parses heads and unpacks frames.

use crate::BLOCK_SIZE;
use crate::digest::Digest;
use crate::wire::{Short, Wire};

use super::format::*;

/// Why the head of a payload is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It does not start as one.
    #[error("payload head is not one: wrong magic")]
    Magic,
    /// A version newer than this program.
    #[error("payload head has version {0}, this program reads version {VERSION}; update upright first")]
    Version(u16),
    /// Its length is not what its fields say.
    #[error("payload head of {0} bytes does not match its frame table")]
    Length(usize),
    /// The frames do not cover the image.
    #[error("payload head has an impossible {what} in frame {frame}")]
    Impossible {
        /// What is wrong.
        what: &'static str,
        /// The frame's number.
        frame: usize,
    },
}

impl From<Short> for HeadError {
    fn from(_: Short) -> Self {
        Self::Length(0)
    }
}

impl Head {
    /// Reads a head whose length and hash were verified. Allocates in proportion to `bytes` only.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeadError> {
        let mut wire = Wire::new(bytes);
        let (skippable, length) = (wire.u32()?, wire.u32()?);
        if skippable != SKIPPABLE || wire.array()? != MAGIC {
            return Err(HeadError::Magic);
        }
        let version = wire.u16()?;
        if version != VERSION {
            return Err(HeadError::Version(version));
        }
        let (reserved, count, blocks) = (wire.u16()?, wire.u32()? as usize, wire.u64()?);
        let table = count.checked_mul(ENTRY);
        if length as usize + 8 != bytes.len() || table != Some(wire.left()) {
            return Err(HeadError::Length(bytes.len()));
        }
        if reserved != 0 || blocks > MAX_BLOCKS {
            return Err(HeadError::Impossible { what: "image size", frame: 0 });
        }
        let frames = frames(&mut wire, count, bytes.len() as u64, blocks)?;
        Ok(Self { blocks, frames })
    }

    /// The image's length in bytes.
    pub fn image_size(&self) -> u64 {
        self.blocks * BLOCK_SIZE
    }

    /// The payload file's length in bytes.
    pub fn file_size(&self) -> u64 {
        self.frames.last().map_or(head_bytes(0) as u64, |frame| frame.range().end)
    }

    /// The number of the frame that covers `block`.
    pub fn frame_of(&self, block: u64) -> Option<usize> {
        let after = self.frames.partition_point(|frame| frame.start <= block);
        (block < self.blocks).then(|| after.checked_sub(1)).flatten()
    }
}

fn frames(wire: &mut Wire<'_>, count: usize, mut offset: u64, blocks: u64) -> Result<Vec<Frame>, HeadError> {
    let mut frames = Vec::with_capacity(count);
    let mut start = 0u64;
    for frame in 0..count {
        let (packed, blocks) = (wire.u32()?, wire.u32()?);
        let prefix = Prefix { far: wire.u32()?, far_start: wire.u32()?, near: wire.u32()? };
        let entry = Frame { offset, packed, start, blocks, prefix, sha256: wire.array()?.into() };
        if entry.blocks == 0 || entry.blocks > MAX_FRAME_BLOCKS {
            return Err(HeadError::Impossible { what: "number of blocks", frame });
        }
        if entry.packed == 0 || u64::from(entry.packed) > Frame::max_packed(entry.blocks) {
            return Err(HeadError::Impossible { what: "compressed length", frame });
        }
        if !entry.prefix.fits(start) {
            return Err(HeadError::Impossible { what: "prefix", frame });
        }
        offset += u64::from(entry.packed);
        start += u64::from(entry.blocks);
        frames.push(entry);
    }
    if start != blocks {
        return Err(HeadError::Impossible { what: "end", frame: count });
    }
    Ok(frames)
}

/// Why a frame is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not the bytes that the head names.
    #[error("frame at block {block} is damaged: sha256 is {found}, should be {expected}")]
    Hash {
        /// The first block the frame covers.
        block: u64,
        /// What the head says.
        expected: Digest,
        /// What was received.
        found: Digest,
    },
    /// The right bytes do not decompress to the right length: the publisher made a mistake.
    #[error("frame at block {block} does not decompress to its {blocks} blocks")]
    Content {
        /// The first block the frame covers.
        block: u64,
        /// How many it should cover.
        blocks: u32,
    },
    /// No memory for a decompressor.
    #[error("cannot make a zstd decompressor")]
    Decompressor,
}

/// Unpacks frames, one after the other, into the same buffer: at most 4 MiB and a decoder's 160 KiB.
pub struct Unpacker {
    decoder: zstd::bulk::Decompressor<'static>,
    buffer: Vec<u8>,
}

impl Unpacker {
    /// An unpacker without a buffer yet.
    pub fn new() -> Result<Self, FrameError> {
        let decoder = zstd::bulk::Decompressor::new().map_err(|_| FrameError::Decompressor)?;
        Ok(Self { decoder, buffer: Vec::new() })
    }

    /// Checks that `packed` is the frame that the head names, and only then decompresses it, with what the image has in
    /// [`Frame::prefix_ranges`] as `prefix`. Gives exactly [`Frame::unpacked`] bytes. A prefix of other bytes is not found out.
    pub fn unpack(&mut self, frame: &Frame, packed: &[u8], prefix: &[u8]) -> Result<&[u8], FrameError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(frame.unpacked(), 0);
        let outcome = self.unpack_into(frame, packed, prefix, &mut buffer);
        self.buffer = buffer;
        outcome.map(|()| &self.buffer[..])
    }

    /// Like [`Unpacker::unpack`], into a buffer of [`Frame::unpacked`] bytes, whose content is worthless after an error.
    pub fn unpack_into(
        &mut self,
        frame: &Frame,
        packed: &[u8],
        prefix: &[u8],
        out: &mut [u8],
    ) -> Result<(), FrameError> {
        let found = Digest::of(packed);
        if found != frame.sha256 {
            return Err(FrameError::Hash { block: frame.start, expected: frame.sha256, found });
        }
        let content = FrameError::Content { block: frame.start, blocks: frame.blocks };
        if prefix.len() != frame.prefix.bytes() || out.len() != frame.unpacked() {
            return Err(content);
        }
        let length = match prefix.is_empty() {
            true => self.decoder.decompress_to_buffer(packed, out).ok(),
            false => with_prefix(packed, prefix, out)?,
        };
        if length == Some(out.len()) { Ok(()) } else { Err(content) }
    }
}

/// The length of what `packed` holds, if it is a frame.
fn with_prefix(packed: &[u8], prefix: &[u8], out: &mut [u8]) -> Result<Option<usize>, FrameError> {
    // It refers to the prefix for as long as it lives, so it is one for each frame.
    let mut decoder = zstd::zstd_safe::DCtx::try_create().ok_or(FrameError::Decompressor)?;
    decoder.ref_prefix(prefix).map_err(|_| FrameError::Decompressor)?;
    Ok(decoder.decompress(out, packed).ok())
}

#[cfg(test)]
mod tests;
