//! Applies segments: checks, unpacks and follows their operations.

use std::io::{self, Write};
use std::ops::Range;

use crate::digest::Digest;
use crate::wire::unzigzag;

use super::cache::Cache;
use super::format::*;
use super::streams::{self, Stream};

/// The images a delta reads from.
pub trait Sources {
    /// Fills `buffer` from `offset` on. Offsets are multiples of 4096; so are lengths, but at the source's end where
    /// its size is not.
    fn read_at(&self, source: Source, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

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
        target: &mut dyn Write,
    ) -> Result<(), SegmentError> {
        let segment = self.head.segments.get(number).ok_or(SegmentError::Number(number))?;
        let found = Digest::of(packed);
        if found != segment.sha256 {
            return Err(SegmentError::Hash { number, expected: segment.sha256, found });
        }
        self.cache.forget(Source::Root);
        let [tags, lengths, positions, difference, literal] = streams::open(packed)?;
        let mut run = Run {
            written: written(self.head, number),
            segment,
            cache: &mut self.cache,
            buffer: &mut self.buffer,
            target,
            made: 0,
            expected: [segment.start; Source::ALL.len()],
            lengths,
            positions,
            difference,
            literal,
        };
        run.all(tags)
    }
}

/// A segment being applied.
struct Run<'r, 's, 'p> {
    /// The ranges of the root image that can be read; ascending, none next to another.
    written: Vec<Range<u64>>,
    segment: &'r Segment,
    cache: &'r mut Cache<'s>,
    buffer: &'r mut [u8],
    target: &'r mut dyn Write,
    made: u64,
    /// Where the last operation on each source ended.
    expected: [u64; Source::ALL.len()],
    lengths: Stream<'p>,
    positions: Stream<'p>,
    difference: Stream<'p>,
    literal: Stream<'p>,
}

impl Run<'_, '_, '_> {
    fn all(&mut self, mut tags: Stream<'_>) -> Result<(), SegmentError> {
        while let Some(tag) = tags.byte()? {
            let length = self.lengths.varint()?;
            let left = u64::from(self.segment.length) - self.made;
            if length == 0 || length > left {
                return Err(SegmentError::Malformed("length of an operation"));
            }
            match tag & 0xf {
                OP_LITERAL if tag == OP_LITERAL => self.literal(length)?,
                OP_ZERO if tag == OP_ZERO => self.zero(length)?,
                OP_COPY => self.copy(tag >> 4, length)?,
                OP_ADD => self.add(tag >> 4, length)?,
                _ => return Err(SegmentError::Malformed("operation")),
            }
            self.made += length;
        }
        if self.made != u64::from(self.segment.length) {
            return Err(SegmentError::Malformed("end"));
        }
        let streams = [&mut self.lengths, &mut self.positions, &mut self.difference, &mut self.literal];
        for stream in streams {
            if stream.byte()?.is_some() {
                return Err(SegmentError::Malformed("length of a stream"));
            }
        }
        Ok(())
    }

    fn literal(&mut self, mut length: u64) -> Result<(), SegmentError> {
        while length > 0 {
            let some = self.literal.some(usize::try_from(length).unwrap_or(usize::MAX))?;
            if some.is_empty() {
                return Err(SegmentError::Malformed("end of a stream"));
            }
            self.target.write_all(some).map_err(SegmentError::Write)?;
            length -= some.len() as u64;
        }
        Ok(())
    }

    fn zero(&mut self, mut length: u64) -> Result<(), SegmentError> {
        self.buffer.fill(0);
        while length > 0 {
            let part = length.min(self.buffer.len() as u64) as usize;
            self.target.write_all(&self.buffer[..part]).map_err(SegmentError::Write)?;
            length -= part as u64;
        }
        Ok(())
    }

    fn copy(&mut self, source: u8, mut length: u64) -> Result<(), SegmentError> {
        let (source, mut offset) = self.from(source, length)?;
        while length > 0 {
            let some = self.cache.some(source, offset, usize::try_from(length).unwrap_or(usize::MAX))?;
            self.target.write_all(some).map_err(SegmentError::Write)?;
            offset += some.len() as u64;
            length -= some.len() as u64;
        }
        Ok(())
    }

    fn add(&mut self, source: u8, mut length: u64) -> Result<(), SegmentError> {
        let (source, mut offset) = self.from(source, length)?;
        while length > 0 {
            let limit = length.min(self.buffer.len() as u64) as usize;
            let some = self.cache.some(source, offset, limit)?;
            let sum = &mut self.buffer[..some.len()];
            self.difference.fill(sum)?;
            sum.iter_mut().zip(some).for_each(|(sum, byte)| *sum = sum.wrapping_add(*byte));
            self.target.write_all(sum).map_err(SegmentError::Write)?;
            offset += sum.len() as u64;
            length -= sum.len() as u64;
        }
        Ok(())
    }

    /// The next position in a source, where `length` bytes can be read.
    fn from(&mut self, source: u8, length: u64) -> Result<(Source, u64), SegmentError> {
        let source = Source::from_id(source).ok_or(SegmentError::Malformed("source"))?;
        let distance = unzigzag(self.positions.varint()?);
        let expected = &mut self.expected[usize::from(source.id())];
        let offset = expected.checked_add_signed(distance);
        let end = offset.and_then(|offset| offset.checked_add(length));
        match (offset, end) {
            (Some(offset), Some(end))
                if readable(&self.written, self.cache.size(source), source, offset..end) =>
            {
                *expected = end;
                Ok((source, offset))
            }
            _ => Err(SegmentError::Malformed("position")),
        }
    }
}

fn readable(written: &[Range<u64>], size: u64, source: Source, wanted: Range<u64>) -> bool {
    wanted.end <= size
        && (source != Source::Root
            || written.iter().any(|range| range.start <= wanted.start && wanted.end <= range.end))
}

/// What of the root image can be read when segment `number` is applied: all of it for a UKI, what the segments before made for
/// a root image.
fn written(head: &Head, number: usize) -> Vec<Range<u64>> {
    if head.kind == Kind::Uki {
        return head.input(Source::Root).map(|input| 0..input.size).into_iter().collect();
    }
    let before = head.segments.iter().take(number);
    let mut made: Vec<_> =
        before.map(|segment| segment.start..segment.start + u64::from(segment.length)).collect();
    made.sort_unstable_by_key(|range| range.start);
    made.dedup_by(|next, last| {
        let adjacent = next.start == last.end;
        if adjacent {
            last.end = next.end;
        }
        adjacent
    });
    made
}
