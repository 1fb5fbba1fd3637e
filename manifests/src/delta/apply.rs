//! Applies segments: checks them before they are followed.

use std::io::{self, Write};

use crate::digest::Digest;

use super::cache::Cache;
use super::format::*;
use super::run::Run;

/// The images a delta reads from.
pub trait Sources {
    /// Fills `buffer` from `offset` on. Offsets are multiples of 4096; so are lengths, but at the source's end where
    /// its size is not.
    fn read_at(&self, source: Source, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// Where what a segment makes goes, front to back.
pub trait Output: Write {
    /// Asks how many of the next `length` bytes, which are those of `source` from `offset` on, are there already. The
    /// output passes over as many as it answers; they are neither read nor written.
    fn pass(&mut self, source: Source, offset: u64, length: u64) -> io::Result<u64> {
        let _ = (source, offset, length);
        Ok(0)
    }
}

impl Output for Vec<u8> {}

impl<W: Write> Output for io::BufWriter<W> {}

/// Why a segment could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// There is no segment of that number.
    #[error("delta has no segment {0}")]
    Number(usize),
    /// Not the bytes that the head names.
    #[error("delta segment {number} is damaged: sha256 is {found}, should be {expected}")]
    Hash {
        /// The segment's number.
        number: usize,
        /// What the head says.
        expected: Digest,
        /// What was received.
        found: Digest,
    },
    /// No memory for a decompressor.
    #[error("cannot unpack stream {stream} of a delta segment")]
    Unpack {
        /// The stream's number.
        stream: usize,
    },
    /// What was compressed could not be made again.
    #[error("cannot make compressed bytes again: {0}")]
    Rebuild(io::Error),
    /// It takes more than the head says.
    #[error("delta segment takes {0} bytes of memory more than its head says")]
    Memory(u64),
    /// The right bytes make no sense: the publisher made a mistake, or this program is too old.
    #[error("delta segment has an impossible {0}")]
    Malformed(&'static str),
    /// A source could not be read.
    #[error("cannot read {from:?} at byte {offset}: {error}")]
    Read {
        /// Which one.
        from: Source,
        /// Where.
        offset: u64,
        /// What happened.
        error: io::Error,
    },
    /// The target could not be written.
    #[error("cannot write what a delta makes: {0}")]
    Write(io::Error),
}

/// Applies the segments of one delta. Takes at most [`Head::memory`] bytes.
pub struct Applier<'s> {
    head: &'s Head,
    cache: Cache<'s>,
    buffer: Box<[u8]>,
}

const BUFFER: usize = 64 << 10;

impl<'s> Applier<'s> {
    /// An applier for `head`. The caller has made sure that `sources` are those that the head names.
    pub fn new(head: &'s Head, sources: &'s dyn Sources) -> Self {
        Self { head, cache: Cache::new(head, sources), buffer: vec![0; BUFFER].into() }
    }

    /// Checks that `packed` is the segment that the head names, and only then unpacks it and writes what it makes,
    /// front to back: [`Segment::length`] bytes, to `target`. After an error, what was written is worthless.
    pub fn apply(
        &mut self,
        number: usize,
        packed: &[u8],
        target: &mut dyn Output,
    ) -> Result<(), SegmentError> {
        let segment = self.head.segments.get(number).ok_or(SegmentError::Number(number))?;
        let found = Digest::of(packed);
        if found != segment.sha256 {
            return Err(SegmentError::Hash { number, expected: segment.sha256, found });
        }
        self.cache.forget(Source::Root);
        Run::new(self.head, number, packed, &mut self.cache, &mut self.buffer)?.all(target)
    }
}
