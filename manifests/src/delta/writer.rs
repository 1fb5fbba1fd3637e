//! Writes heads and packs segments.

use crate::wire::{put_varint, zigzag};
use zstd::zstd_safe::CParameter;

use super::cache::CACHE_BYTES;
use super::format::*;
use super::numbers::Numbers;
use super::rebuild::Rebuild;
use super::recipes::{self, Expected};
use super::streams::{stream_memory, window_log};

impl Head {
    /// The head's bytes: what stands in front of the segments.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(head_bytes(self.inputs.len(), self.segments.len()));
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.push(match self.kind {
            Kind::Root => 0,
            Kind::Uki => 1,
        });
        out.push(self.inputs.len() as u8);
        out.extend(FEATURES.to_le_bytes());
        out.extend(self.memory.to_le_bytes());
        out.extend((self.segments.len() as u32).to_le_bytes());
        out.extend(self.target_size.to_le_bytes());
        out.extend(self.target_id.as_bytes());
        for input in &self.inputs {
            out.extend([input.source.id(), 0, 0, 0, 0, 0, 0, 0]);
            out.extend(input.size.to_le_bytes());
            out.extend(input.id.as_bytes());
        }
        for segment in &self.segments {
            out.extend(segment.packed.to_le_bytes());
            out.extend(segment.length.to_le_bytes());
            out.extend(segment.start.to_le_bytes());
            out.extend(segment.sha256.as_bytes());
        }
        out
    }
}

/// Why a segment could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// zstd refused.
    #[error("cannot compress a delta segment: {0}")]
    Compress(std::io::Error),
    /// Larger than a reader accepts.
    #[error("delta segment has {0} bytes, more than the {MAX_SEGMENT_PACKED} allowed")]
    TooLarge(usize),
    /// Takes more memory than a host may be asked for.
    #[error("applying the delta takes {0} bytes of memory, more than the {MAX_MEMORY} allowed")]
    Memory(u64),
}

/// A segment in the making. Operations that continue the one before become part of it.
#[derive(Debug, Clone)]
pub struct SegmentWriter {
    streams: [Vec<u8>; STREAMS],
    expected: Expected,
    length: u64,
    /// What the operations of a rebuild have still to make.
    plain: u64,
    /// What the rebuild that takes most takes.
    rebuilding: u64,
    last: Option<Op>,
}

#[derive(Debug, Clone, Copy)]
struct Op {
    tag: u8,
    offset: u64,
    length: u64,
}

impl SegmentWriter {
    /// An empty segment that makes the target from byte `start` on.
    pub fn new(start: u64) -> Self {
        Self {
            streams: Default::default(),
            expected: [start; Source::ALL.len()],
            length: 0,
            plain: 0,
            rebuilding: 0,
            last: None,
        }
    }

    /// How many bytes of the target it makes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Brings bytes along.
    pub fn literal(&mut self, bytes: &[u8]) {
        self.push(OP_LITERAL, 0, bytes.len() as u64);
        self.streams[LITERAL].extend(bytes);
    }

    /// Makes zeros.
    pub fn zero(&mut self, length: u64) {
        self.push(OP_ZERO, 0, length);
    }

    /// Copies from a source.
    pub fn copy(&mut self, source: Source, offset: u64, length: u64) {
        self.push(OP_COPY | source.id() << 4, offset, length);
    }

    /// Adds `difference`, which was taken as `numbers`, to a source.
    pub fn add(&mut self, source: Source, offset: u64, numbers: Numbers, difference: &[u8]) {
        let operation = match numbers {
            Numbers::Bytes => OP_ADD,
            Numbers::Words => OP_ADD_WORDS,
            Numbers::Code => OP_ADD_CODE,
        };
        self.push(operation | source.id() << 4, offset, difference.len() as u64);
        self.streams[DIFFERENCE].extend(difference);
    }

    /// Compresses what the operations that follow make, as many of them as make all of its content.
    pub fn rebuild(&mut self, rebuild: &Rebuild) {
        self.push(OP_REBUILD, 0, rebuild.length);
        self.flush();
        recipes::put(rebuild, &mut self.expected, &mut self.streams[RECIPES]);
        self.expected[usize::from(Source::Plain.id())] = 0;
        self.plain = rebuild.plain;
        self.rebuilding = self.rebuilding.max(rebuild.memory().unwrap_or(u64::from(u32::MAX)));
    }

    /// What applying it takes, in bytes, beside its own bytes.
    pub fn memory(&mut self) -> u64 {
        self.flush();
        let used = self.streams.iter().enumerate().filter(|(_, stream)| !stream.is_empty());
        let streams: u64 = used.map(|(kind, stream)| stream_memory(kind, stream.len())).sum();
        u64::from(CACHE_BYTES) + streams + self.rebuilding
    }

    /// The segment's stored bytes, compressed at a zstd level.
    pub fn pack(mut self, level: i32) -> Result<Vec<u8>, PackError> {
        self.flush();
        let used = self.streams.iter().filter(|stream| !stream.is_empty()).count();
        let mut table = vec![used as u8];
        let mut body: Vec<u8> = Vec::new();
        for (kind, stream) in self.streams.iter().enumerate().filter(|(_, stream)| !stream.is_empty()) {
            let packed =
                compress(stream, level, window_log(kind, stream.len())).map_err(PackError::Compress)?;
            let (codec, bytes) = if packed.len() < stream.len() { (ZSTD, &packed) } else { (STORED, stream) };
            table.extend([kind as u8, codec]);
            table.extend((stream.len() as u32).to_le_bytes());
            table.extend((bytes.len() as u32).to_le_bytes());
            body.extend(bytes);
        }
        table.extend(body);
        if table.len() > MAX_SEGMENT_PACKED as usize {
            return Err(PackError::TooLarge(table.len()));
        }
        Ok(table)
    }

    fn push(&mut self, tag: u8, offset: u64, length: u64) {
        if length == 0 {
            return;
        }
        // What goes into a rebuild counts once, as what comes out.
        let inside = self.plain > 0;
        match self.plain {
            0 => self.length += length,
            plain => self.plain = plain.saturating_sub(length),
        }
        let reads = reads(tag);
        // Where a number may begin before and end behind, the difference is one for each operation.
        let joins = !matches!(tag & 0xf, OP_ADD_WORDS | OP_ADD_CODE);
        match &mut self.last {
            Some(last) if last.tag == tag && joins && (!reads || last.offset + last.length == offset) => {
                last.length += length;
            }
            _ => {
                self.flush();
                self.last = Some(Op { tag, offset, length });
            }
        }
        if inside && self.plain == 0 {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let Some(op) = self.last.take() else { return };
        self.streams[TAGS].push(op.tag);
        put_varint(&mut self.streams[LENGTHS], op.length);
        if reads(op.tag) {
            let expected = &mut self.expected[usize::from(op.tag >> 4)];
            let distance = op.offset.wrapping_sub(*expected) as i64;
            put_varint(&mut self.streams[POSITIONS], zigzag(distance));
            *expected = op.offset + op.length;
        }
    }
}

/// Whether an operation reads from a source.
fn reads(tag: u8) -> bool {
    matches!(tag & 0xf, OP_COPY | OP_ADD | OP_ADD_WORDS | OP_ADD_CODE)
}

fn compress(bytes: &[u8], level: i32, window_log: u32) -> std::io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    compressor.set_parameter(CParameter::WindowLog(window_log))?;
    compressor.compress(bytes)
}
