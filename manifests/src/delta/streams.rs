//! The streams of a segment, unpacked as they are read.

use std::io::{self, Read};

use crate::wire::Wire;

use super::apply::SegmentError;
use super::format::*;

/// One stream: what is left of it can be read, and nothing more.
pub(super) struct Stream<'a> {
    bytes: io::Take<Bytes<'a>>,
    buffer: Box<[u8]>,
    filled: usize,
    at: usize,
}

enum Bytes<'a> {
    Stored(&'a [u8]),
    Zstd(zstd::stream::read::Decoder<'a, &'a [u8]>),
}

impl Read for Bytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stored(bytes) => bytes.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

const BUFFER: usize = 32 << 10;

impl<'a> Stream<'a> {
    fn empty() -> Self {
        Self { bytes: Bytes::Stored(&[]).take(0), buffer: Box::default(), filled: 0, at: 0 }
    }

    fn open(kind: usize, codec: u8, length: u32, packed: &'a [u8]) -> Result<Self, SegmentError> {
        let bytes = match codec {
            STORED if packed.len() == length as usize => Bytes::Stored(packed),
            ZSTD => {
                let unpack = |_| SegmentError::Unpack { stream: kind };
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(packed).map_err(unpack)?.single_frame();
                decoder.window_log_max(window_log(kind, length as usize)).map_err(unpack)?;
                Bytes::Zstd(decoder)
            }
            _ => return Err(SegmentError::Malformed("codec")),
        };
        let buffer = vec![0; BUFFER.min(length as usize)].into();
        Ok(Self { bytes: bytes.take(u64::from(length)), buffer, filled: 0, at: 0 })
    }

    /// Some of what is next, at most `limit` bytes; nothing at the end.
    pub(super) fn some(&mut self, limit: usize) -> Result<&[u8], SegmentError> {
        if self.at == self.filled {
            self.at = 0;
            self.filled = self
                .bytes
                .read(&mut self.buffer)
                .map_err(|_| SegmentError::Malformed("compressed stream"))?;
        }
        let taken = &self.buffer[self.at..self.filled.min(self.at.saturating_add(limit))];
        self.at += taken.len();
        Ok(taken)
    }

    /// The next byte; `None` at the end.
    pub(super) fn byte(&mut self) -> Result<Option<u8>, SegmentError> {
        Ok(self.some(1)?.first().copied())
    }

    /// Fills `buffer`.
    pub(super) fn fill(&mut self, mut buffer: &mut [u8]) -> Result<(), SegmentError> {
        while !buffer.is_empty() {
            let some = self.some(buffer.len())?;
            if some.is_empty() {
                return Err(SegmentError::Malformed("end of a stream"));
            }
            let (filled, rest) = std::mem::take(&mut buffer).split_at_mut(some.len());
            filled.copy_from_slice(some);
            buffer = rest;
        }
        Ok(())
    }

    /// A number in LEB128.
    pub(super) fn varint(&mut self) -> Result<u64, SegmentError> {
        let mut digits = [0; 10];
        for at in 0..digits.len() {
            let byte = self.byte()?.ok_or(SegmentError::Malformed("end of a stream"))?;
            digits[at] = byte;
            if byte & 0x80 == 0 {
                let number = Wire::new(&digits[..=at]).varint();
                return number.map_err(|_| SegmentError::Malformed("number"));
            }
        }
        Err(SegmentError::Malformed("number"))
    }
}

/// The streams of a segment.
pub(super) struct Streams<'a> {
    /// The memory they take, in bytes.
    pub(super) memory: u64,
    /// In the order of their numbers; a stream that is not there is empty.
    pub(super) each: [Stream<'a>; STREAMS],
}

/// Opens the streams of a segment.
pub(super) fn open(packed: &[u8]) -> Result<Streams<'_>, SegmentError> {
    let short = |_| SegmentError::Malformed("stream table");
    let mut each = std::array::from_fn(|_| Stream::empty());
    let mut memory = 0;
    let mut wire = Wire::new(packed);
    let count = usize::from(wire.u8().map_err(short)?);
    let mut table = Wire::new(wire.take(count * STREAM_ENTRY).map_err(short)?);
    let mut next = 0;
    for _ in 0..count {
        let (kind, codec) = (usize::from(table.u8().map_err(short)?), table.u8().map_err(short)?);
        let (length, packed) = (table.u32().map_err(short)?, table.u32().map_err(short)?);
        if kind < next || kind >= STREAMS {
            return Err(SegmentError::Malformed("stream"));
        }
        next = kind + 1;
        memory += stream_memory(kind, length as usize);
        each[kind] = Stream::open(kind, codec, length, wire.take(packed as usize).map_err(short)?)?;
    }
    if wire.is_empty() { Ok(Streams { memory, each }) } else { Err(SegmentError::Malformed("length")) }
}

/// The window of a stream of `length` bytes, as a power of two: all of it, but for its kind's limit.
pub(super) fn window_log(kind: usize, length: usize) -> u32 {
    length.checked_next_power_of_two().map_or(31, usize::ilog2).clamp(10, WINDOW_LOGS[kind])
}

/// What unpacking a stream of `length` bytes takes, in bytes.
pub(super) fn stream_memory(kind: usize, length: usize) -> u64 {
    (1 << window_log(kind, length)) + DECODER
}

/// What a zstd decoder takes beside its window: its tables, two blocks of 128 KiB and our buffer.
const DECODER: u64 = 480 << 10;
