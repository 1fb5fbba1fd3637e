//! Parses heads.

use crate::wire::{Short, Wire};

use super::format::*;

/// Why the head of a delta is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It does not start as one.
    #[error("delta head is not one: wrong magic")]
    Magic,
    /// A version newer than this program.
    #[error("delta head has version {0}, this program reads version {VERSION}; update upright first")]
    Version(u16),
    /// It uses what this program does not know.
    #[error("delta needs features {0:#x} that this program does not have; update upright first")]
    Features(u32),
    /// Its length is not what its fields say.
    #[error("delta head does not match its tables")]
    Length,
    /// Fields that cannot be.
    #[error("delta head has an impossible {0}")]
    Impossible(&'static str),
}

impl From<Short> for HeadError {
    fn from(_: Short) -> Self {
        Self::Length
    }
}

impl Head {
    /// Reads a head whose length and hash were verified. Allocates in proportion to `bytes` only.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeadError> {
        let mut wire = Wire::new(bytes);
        if wire.array()? != MAGIC {
            return Err(HeadError::Magic);
        }
        let version = wire.u16()?;
        if version != VERSION {
            return Err(HeadError::Version(version));
        }
        let (kind, sources, features) = (wire.u8()?, usize::from(wire.u8()?), wire.u32()?);
        if features & !FEATURES != 0 {
            return Err(HeadError::Features(features & !FEATURES));
        }
        let kind = match kind {
            0 => Kind::Root,
            1 => Kind::Uki,
            _ => return Err(HeadError::Impossible("kind")),
        };
        let (memory, count) = (wire.u32()?, wire.u32()? as usize);
        let (target_size, target_id) = (wire.u64()?, wire.array()?.into());
        if memory > MAX_MEMORY {
            return Err(HeadError::Impossible("memory bound"));
        }
        let inputs = inputs(&mut wire, sources)?;
        if count.checked_mul(SEGMENT_ENTRY) != Some(wire.left()) {
            return Err(HeadError::Length);
        }
        let segments = segments(&mut wire, count, bytes.len() as u64, target_size)?;
        Ok(Self { kind, memory, target_size, target_id, inputs, segments })
    }

    /// The delta file's length in bytes.
    pub fn file_size(&self) -> u64 {
        let head = head_bytes(self.inputs.len(), self.segments.len()) as u64;
        self.segments.last().map_or(head, |segment| segment.range().end)
    }

    /// What the delta needs of a source.
    pub fn input(&self, source: Source) -> Option<&Input> {
        self.inputs.iter().find(|input| input.source == source)
    }
}

fn inputs(wire: &mut Wire<'_>, count: usize) -> Result<Vec<Input>, HeadError> {
    let mut inputs: Vec<Input> = Vec::with_capacity(count);
    for _ in 0..count {
        let id = wire.u8()?;
        let source = Source::from_id(id).filter(|source| *source != Source::Plain);
        let source = source.ok_or(HeadError::Impossible("source"))?;
        wire.take(7)?;
        let input = Input { source, size: wire.u64()?, id: wire.array()?.into() };
        if inputs.last().is_some_and(|last| last.source >= source) || input.size > i64::MAX as u64 {
            return Err(HeadError::Impossible("source"));
        }
        inputs.push(input);
    }
    Ok(inputs)
}

fn segments(
    wire: &mut Wire<'_>,
    count: usize,
    mut offset: u64,
    target: u64,
) -> Result<Vec<Segment>, HeadError> {
    let mut segments = Vec::with_capacity(count);
    for _ in 0..count {
        let (packed, length, start) = (wire.u32()?, wire.u32()?, wire.u64()?);
        if packed == 0 || packed > MAX_SEGMENT_PACKED {
            return Err(HeadError::Impossible("segment length"));
        }
        if length == 0 || length > MAX_SEGMENT_TARGET {
            return Err(HeadError::Impossible("segment target"));
        }
        segments.push(Segment { offset, packed, start, length, sha256: wire.array()?.into() });
        offset += u64::from(packed);
    }
    let mut made: Vec<_> = segments.iter().map(|segment| (segment.start, segment.length)).collect();
    made.sort_unstable();
    let end = made.into_iter().try_fold(0u64, |next, (start, length)| {
        if start == next { start.checked_add(u64::from(length)) } else { None }
    });
    if end == Some(target) { Ok(segments) } else { Err(HeadError::Impossible("target size")) }
}
