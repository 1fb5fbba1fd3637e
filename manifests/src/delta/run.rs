//! Follows the operations of a segment.

use std::io::{self, Write};
use std::ops::Range;

use crate::wire::unzigzag;

use super::apply::{Output, SegmentError};
use super::cache::{CACHE_BYTES, Cache};
use super::format::*;
use super::numbers::{Difference, Numbers};
use super::rebuild::{Packer, Part, Rebuild};
use super::recipes::{self, Expected};
use super::streams::{self, Stream, Streams};

/// A segment being applied.
pub(super) struct Run<'r, 's, 'p> {
    /// The ranges of the root image that can be read; ascending, none next to another.
    written: Vec<Range<u64>>,
    segment: &'r Segment,
    cache: &'r mut Cache<'s>,
    buffer: &'r mut [u8],
    /// What the parts of a rebuild hold.
    plain: Vec<u8>,
    /// Bytes of memory that a rebuild may take.
    memory: u64,
    expected: Expected,
    tags: Stream<'p>,
    lengths: Stream<'p>,
    positions: Stream<'p>,
    difference: Stream<'p>,
    literal: Stream<'p>,
    recipes: Stream<'p>,
}

impl<'r, 's, 'p> Run<'r, 's, 'p> {
    /// Opens segment `number`, whose hash is right.
    pub(super) fn new(
        head: &'r Head,
        number: usize,
        packed: &'p [u8],
        cache: &'r mut Cache<'s>,
        buffer: &'r mut [u8],
    ) -> Result<Self, SegmentError> {
        let segment = head.segments.get(number).ok_or(SegmentError::Number(number))?;
        let Streams { memory: streams, each } = streams::open(packed)?;
        let [tags, lengths, positions, difference, literal, recipes] = each;
        let taken = streams + u64::from(CACHE_BYTES) + packed.len() as u64;
        let memory = u64::from(head.memory);
        let memory = memory.checked_sub(taken).ok_or(SegmentError::Memory(taken.saturating_sub(memory)))?;
        cache.limit(memory);
        Ok(Self {
            written: written(head, number),
            segment,
            cache,
            buffer,
            plain: Vec::new(),
            memory,
            expected: [segment.start; Source::ALL.len()],
            tags,
            lengths,
            positions,
            difference,
            literal,
            recipes,
        })
    }

    /// Makes all that the segment makes.
    pub(super) fn all(mut self, target: &mut dyn Output) -> Result<(), SegmentError> {
        let length = u64::from(self.segment.length);
        let mut made = 0;
        while let Some(tag) = self.tags.byte()? {
            made += self.operation(tag, length - made, target, true)?;
        }
        if made != length {
            return Err(SegmentError::Malformed("end"));
        }
        let Self { lengths, positions, difference, literal, recipes, .. } = &mut self;
        for stream in [lengths, positions, difference, literal, recipes] {
            if stream.byte()?.is_some() {
                return Err(SegmentError::Malformed("length of a stream"));
            }
        }
        Ok(())
    }

    /// Follows one operation; gives how many bytes it made, at most `left`.
    fn operation(
        &mut self,
        tag: u8,
        left: u64,
        out: &mut dyn Output,
        outermost: bool,
    ) -> Result<u64, SegmentError> {
        let length = self.lengths.varint()?;
        if length == 0 || length > left {
            return Err(SegmentError::Malformed("length of an operation"));
        }
        match tag & 0xf {
            OP_LITERAL if tag == OP_LITERAL => self.literal(length, out)?,
            OP_ZERO if tag == OP_ZERO => self.zero(length, out)?,
            OP_COPY => self.copy(tag >> 4, length, out)?,
            OP_ADD => self.add(tag >> 4, length, Numbers::Bytes, out)?,
            OP_ADD_WORDS => self.add(tag >> 4, length, Numbers::Words, out)?,
            OP_ADD_CODE => self.add(tag >> 4, length, Numbers::Code, out)?,
            OP_REBUILD if tag == OP_REBUILD && outermost => self.rebuild(length, out)?,
            _ => return Err(SegmentError::Malformed("operation")),
        }
        Ok(length)
    }

    fn literal(&mut self, mut length: u64, out: &mut dyn Output) -> Result<(), SegmentError> {
        while length > 0 {
            let some = self.literal.some(usize::try_from(length).unwrap_or(usize::MAX))?;
            if some.is_empty() {
                return Err(SegmentError::Malformed("end of a stream"));
            }
            out.write_all(some).map_err(SegmentError::Write)?;
            length -= some.len() as u64;
        }
        Ok(())
    }

    fn zero(&mut self, mut length: u64, out: &mut dyn Output) -> Result<(), SegmentError> {
        self.buffer.fill(0);
        while length > 0 {
            let part = length.min(self.buffer.len() as u64) as usize;
            out.write_all(&self.buffer[..part]).map_err(SegmentError::Write)?;
            length -= part as u64;
        }
        Ok(())
    }

    fn copy(&mut self, source: u8, mut length: u64, out: &mut dyn Output) -> Result<(), SegmentError> {
        let (source, mut offset) = self.from(source, length)?;
        while length > 0 {
            let mut done = out.pass(source, offset, length).map_err(SegmentError::Write)?.min(length);
            if done == 0 {
                let limit = usize::try_from(length).unwrap_or(usize::MAX);
                let some = some(&self.plain, self.cache, source, offset, limit)?;
                out.write_all(some).map_err(SegmentError::Write)?;
                done = some.len() as u64;
            }
            offset += done;
            length -= done;
        }
        Ok(())
    }

    fn add(
        &mut self,
        source: u8,
        mut length: u64,
        numbers: Numbers,
        out: &mut dyn Output,
    ) -> Result<(), SegmentError> {
        let (source, mut offset) = self.from(source, length)?;
        let mut difference = Difference::new(numbers, offset);
        while length > 0 {
            let limit = length.min(self.buffer.len() as u64) as usize;
            let some = some(&self.plain, self.cache, source, offset, limit)?;
            let sum = &mut self.buffer[..some.len()];
            self.difference.fill(sum)?;
            difference.add(sum, some);
            out.write_all(sum).map_err(SegmentError::Write)?;
            offset += sum.len() as u64;
            length -= sum.len() as u64;
        }
        Ok(())
    }

    fn rebuild(&mut self, length: u64, out: &mut dyn Output) -> Result<(), SegmentError> {
        let rebuild = recipes::take(&mut self.recipes, &mut self.expected, length)?;
        let memory = rebuild.memory().ok_or(SegmentError::Malformed("recipe"))?;
        if memory > self.memory {
            return Err(SegmentError::Memory(memory - self.memory));
        }
        // What no rebuild takes is for the cache.
        self.cache.limit(self.memory - memory);
        self.unpack(&rebuild)?;
        self.expected[usize::from(Source::Plain.id())] = 0;
        let mut out = Exactly { out, left: length };
        let failed = SegmentError::Rebuild;
        let mut packer = rebuild.recipe.packer(rebuild.plain, &mut out).map_err(failed)?;
        let mut left = rebuild.plain;
        while left > 0 {
            let tag = self.tags.byte()?.ok_or(SegmentError::Malformed("end of a stream"))?;
            left -= self.operation(tag, left, &mut packer, false)?;
        }
        packer.finish().map_err(failed)?;
        self.plain = Vec::new();
        self.cache.limit(self.memory);
        if out.left == 0 { Ok(()) } else { Err(SegmentError::Malformed("end of a rebuild")) }
    }

    /// Unpacks the parts of a rebuild whose memory is known to be at hand.
    fn unpack(&mut self, rebuild: &Rebuild) -> Result<(), SegmentError> {
        let length: u64 = rebuild.parts.iter().map(|part| part.plain).sum();
        self.plain = Vec::with_capacity(length as usize);
        for Part { packing, source, offset, packed, plain } in &rebuild.parts {
            let (mut at, end) = (*offset, offset + packed);
            if !readable(&self.written, self.cache.size(*source), *source, at..end) {
                return Err(SegmentError::Malformed("position"));
            }
            let mut bytes = Vec::with_capacity(*packed as usize);
            while at < end {
                let limit = usize::try_from(end - at).unwrap_or(usize::MAX);
                bytes.extend(self.cache.some(*source, at, limit)?);
                at = offset + bytes.len() as u64;
            }
            packing.unpack(&bytes, *plain as usize, &mut self.plain).map_err(SegmentError::Rebuild)?;
        }
        Ok(())
    }

    /// The next position in a source, where `length` bytes can be read.
    fn from(&mut self, source: u8, length: u64) -> Result<(Source, u64), SegmentError> {
        let source = Source::from_id(source).ok_or(SegmentError::Malformed("source"))?;
        let distance = unzigzag(self.positions.varint()?);
        let expected = &mut self.expected[usize::from(source.id())];
        let size = match source {
            Source::Plain => self.plain.len() as u64,
            _ => self.cache.size(source),
        };
        let offset = expected.checked_add_signed(distance);
        let end = offset.and_then(|offset| offset.checked_add(length));
        match (offset, end) {
            (Some(offset), Some(end)) if readable(&self.written, size, source, offset..end) => {
                *expected = end;
                Ok((source, offset))
            }
            _ => Err(SegmentError::Malformed("position")),
        }
    }
}

/// The longest run of bytes of a source that is at hand, at most `limit` of them.
fn some<'a>(
    plain: &'a [u8],
    cache: &'a mut Cache<'_>,
    source: Source,
    offset: u64,
    limit: usize,
) -> Result<&'a [u8], SegmentError> {
    if source != Source::Plain {
        return cache.some(source, offset, limit);
    }
    let rest = plain.get(offset as usize..).unwrap_or_default();
    Ok(&rest[..rest.len().min(limit)])
}

impl Output for Packer<&mut Exactly<'_>> {}

/// Passes on as many bytes as it should, and no more.
struct Exactly<'a> {
    out: &'a mut dyn Output,
    left: u64,
}

impl Write for Exactly<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or_else(|| io::Error::other("more comes out than should"))?;
        self.out.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
