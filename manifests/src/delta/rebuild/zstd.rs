//! zstd frames as the `zstd` program makes them.
//!
//! The program compresses in *sections* of fixed length, on as many cores as there are: each for itself, but with the end of the
//! section before, the *prefix*, as history. So a section can be made again without the rest of its frame, in bounded
//! memory. What is made depends on zstd's version, and the one linked is fixed: see `Cargo.toml`.

use std::io::{self, Write};

use ::zstd::stream::write::Encoder;
use ::zstd::zstd_safe::CParameter;

/// The highest level whose tables fit into the memory that is allowed.
pub const MAX_LEVEL: u8 = 9;

/// The memory of a compressor of any allowed level, beside a section and what it becomes: at level 9, tables of 8 and 4 MiB.
pub(super) const TABLES: u64 = 16 << 20;

/// The memory of a decompressor that has all of its output at hand.
pub(super) const UNPACKING: u64 = 256 << 10;

/// A section of a zstd frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zstd {
    /// The level, 1 to [`MAX_LEVEL`].
    pub level: u8,
    /// How many bytes of the content are history only: none in a frame's first section.
    pub prefix: u32,
    /// Whether the frame ends here.
    pub last: bool,
    /// Whether the frame ends in a checksum. That of the last section of several is not part of what is made.
    pub checksum: bool,
    /// The frame's content in bytes, where its header says it.
    pub content: Option<u64>,
}

impl Zstd {
    /// Takes the content and passes on what it becomes.
    pub(super) fn writer<W: Write>(self, out: W) -> io::Result<Section<W>> {
        let first = self.prefix == 0;
        let out = Gate { out, open: first };
        let mut encoder = Encoder::new(out, i32::from(self.level))?;
        // One worker of its own, or the frame is not cut into sections.
        encoder.set_parameter(CParameter::NbWorkers(1))?;
        encoder.include_checksum(self.checksum && first)?;
        if first {
            encoder.include_contentsize(self.content.is_some())?;
            encoder.set_pledged_src_size(self.content)?;
        }
        Ok(Section { zstd: self, encoder, prefix: self.prefix as usize })
    }
}

/// A section in the making.
pub(super) struct Section<W: Write> {
    zstd: Zstd,
    encoder: Encoder<'static, Gate<W>>,
    /// How much of the prefix has not come yet.
    prefix: usize,
}

impl<W: Write> Section<W> {
    /// Ends the section.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.zstd.last { self.encoder.finish().map(drop) } else { self.encoder.flush() }
    }
}

impl<W: Write> Write for Section<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.prefix == 0 {
            return self.encoder.write(bytes);
        }
        let taken = self.encoder.write(&bytes[..bytes.len().min(self.prefix)])?;
        self.prefix -= taken;
        if self.prefix == 0 {
            // Ends a section that is not wanted; the next one has it as history.
            self.encoder.flush()?;
            self.encoder.get_mut().open = true;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Drops what comes while it is closed.
struct Gate<W> {
    out: W,
    open: bool,
}

impl<W: Write> Write for Gate<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.open { self.out.write(bytes) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
