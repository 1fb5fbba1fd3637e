//! Compressed bytes made again from what they hold.
//!
//! An archive that changed in one file differs from the old one in nearly every byte, while what it holds differs in one
//! file. So its content is described instead, and compressed on the host just as it was by whoever made it. A [`Recipe`] says how;
//! the publisher has tried it before it is written down. The content may be described by what compressed bytes in a source
//! hold: [`Part`]s, which are unpacked before.

mod deflate;
mod huffman;
mod trees;
mod zstd;

use std::io::{self, Write};

use lz4::block::CompressionMode;
use miniz_oxide::inflate::decompress_to_vec_with_limit;

use super::format::{MAX_PLAIN, Source};
pub use zstd::{MAX_LEVEL, Zstd};

/// How to compress content into the very bytes that hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipe {
    /// A deflate stream, as GNU gzip makes it at a level from 4 to 9.
    Deflate(u8),
    /// An LZ4 block, as `lz4` makes it at a level from 3 to 9.
    Lz4(u8),
    /// A section of a zstd frame.
    Zstd(Zstd),
}

/// How bytes in a source are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// A deflate stream (RFC 1951).
    Deflate,
    /// An LZ4 block.
    Lz4,
    /// Zstd frames (RFC 8878).
    Zstd,
}

/// Compressed bytes in a source, and how much they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// How to get at what they hold.
    pub packing: Packing,
    /// Where they are.
    pub source: Source,
    /// Where they start there, in bytes.
    pub offset: u64,
    /// Their length.
    pub packed: u64,
    /// The length of what they hold.
    pub plain: u64,
}

/// Bytes of the target that are made by compressing what the operations that follow make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuild {
    /// How to compress.
    pub recipe: Recipe,
    /// How many bytes the operations make.
    pub plain: u64,
    /// How many bytes of the target come out.
    pub length: u64,
    /// What [`Source::Plain`] consists of while they run.
    pub parts: Vec<Part>,
}

impl Rebuild {
    /// The memory it takes, in bytes; `None` if it takes more than is ever allowed.
    pub fn memory(&self) -> Option<u64> {
        if self.parts.iter().any(|part| part.plain.max(part.packed) > MAX_PLAIN) {
            return None;
        }
        let unpacked: u64 = self.parts.iter().map(|part| part.plain).sum();
        // A deflate stream is unpacked by itself, in a buffer that grows, before it is put to the others.
        let packed = self.parts.iter().map(|part| part.packed + part.packing.apart(part.plain)).max();
        let packed = packed.unwrap_or(0);
        let most = unpacked.checked_add(self.plain)?;
        if most > MAX_PLAIN || self.length > MAX_PLAIN {
            return None;
        }
        let compressing = match self.recipe {
            // Made in a buffer that grows.
            Recipe::Deflate(_) => deflate::MEMORY + 3 * self.length,
            // The output may be as long as the content, and then some.
            Recipe::Lz4(_) => (512 << 10) + self.plain / 255 + self.plain,
            Recipe::Zstd(_) => zstd::TABLES + self.length,
        };
        Some(unpacked + (self.plain + compressing).max(packed))
    }
}

impl Recipe {
    /// Whether this program can follow it.
    pub(super) fn is_known(&self) -> bool {
        match self {
            Self::Deflate(level) => deflate::LEVELS.contains(level),
            Self::Lz4(level) => (3..=9).contains(level),
            Self::Zstd(zstd) => (1..=MAX_LEVEL).contains(&zstd.level),
        }
    }

    /// Takes `plain` bytes of content and writes what they become to `out`. The caller has looked at [`Rebuild::memory`].
    pub fn packer<W: Write>(self, plain: u64, out: W) -> io::Result<Packer<W>> {
        Ok(Packer(match self {
            Self::Zstd(zstd) => Inner::Zstd(zstd.writer(out)?),
            whole => Inner::Whole { recipe: whole, plain: Vec::with_capacity(plain as usize), out },
        }))
    }
}

impl Packing {
    fn apart(self, plain: u64) -> u64 {
        match self {
            Self::Deflate => 2 * plain,
            Self::Lz4 => 0,
            // Unpacked in one go, so that no window is kept.
            Self::Zstd => zstd::UNPACKING,
        }
    }

    /// Appends what `packed` holds to `plain`: `length` bytes, or an error.
    pub fn unpack(self, packed: &[u8], length: usize, plain: &mut Vec<u8>) -> io::Result<()> {
        let wrong = || io::Error::from(io::ErrorKind::InvalidData);
        let before = plain.len();
        match self {
            Self::Deflate => {
                let bytes = decompress_to_vec_with_limit(packed, length).map_err(|_| wrong())?;
                plain.extend(bytes);
            }
            Self::Lz4 => {
                plain.resize(before + length, 0);
                let size = i32::try_from(length).map_err(|_| wrong())?;
                let size = lz4::block::decompress_to_buffer(packed, Some(size), &mut plain[before..])?;
                plain.truncate(before + size);
            }
            Self::Zstd => {
                plain.resize(before + length, 0);
                let size = ::zstd::bulk::decompress_to_buffer(packed, &mut plain[before..])?;
                plain.truncate(before + size);
            }
        }
        if plain.len() - before == length { Ok(()) } else { Err(wrong()) }
    }
}

/// Takes content and passes on what it becomes; [`Packer::finish`] ends it.
pub struct Packer<W: Write>(Inner<W>);

enum Inner<W: Write> {
    Zstd(zstd::Section<W>),
    Whole { recipe: Recipe, plain: Vec<u8>, out: W },
}

impl<W: Write> Packer<W> {
    /// Writes what is left.
    pub fn finish(self) -> io::Result<()> {
        match self.0 {
            Inner::Zstd(section) => section.finish(),
            Inner::Whole { recipe: Recipe::Lz4(level), plain, mut out } => {
                let mode = CompressionMode::HIGHCOMPRESSION(i32::from(level));
                let mut packed = vec![0; plain.len() + plain.len() / 255 + 16];
                let length = lz4::block::compress_to_buffer(&plain, Some(mode), false, &mut packed)?;
                out.write_all(&packed[..length])
            }
            Inner::Whole { recipe: Recipe::Deflate(level), plain, mut out } => {
                out.write_all(&deflate::deflate(&plain, level))
            }
            Inner::Whole { .. } => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl<W: Write> Write for Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::Zstd(section) => section.write(bytes),
            Inner::Whole { plain, .. } => plain.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
