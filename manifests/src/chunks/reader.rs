//! Parses an index.

use crate::payload::MAX_BLOCKS;
use crate::wire::{Short, Wire};

use super::format::*;

/// Why an index is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// It does not start as one.
    #[error("chunk index is not one: wrong magic")]
    Magic,
    /// A version newer than this program.
    #[error("chunk index has version {0}, this program reads version {VERSION}; update upright first")]
    Version(u16),
    /// Its length is not what its fields say.
    #[error("chunk index of {0} bytes does not match its number of chunks")]
    Length(usize),
    /// The chunks do not cover the image.
    #[error("chunk index does not cover its {0} blocks")]
    Cover(u64),
}

impl Index {
    /// Reads an index whose length and hash were verified. Allocates in proportion to `bytes` only.
    pub fn parse(bytes: &[u8]) -> Result<Self, IndexError> {
        let short = |_: Short| IndexError::Length(bytes.len());
        let mut wire = Wire::new(bytes);
        if wire.array().map_err(short)? != MAGIC {
            return Err(IndexError::Magic);
        }
        let version = wire.u16().map_err(short)?;
        if version != VERSION {
            return Err(IndexError::Version(version));
        }
        let _reserved = wire.u16().map_err(short)?;
        let count = wire.u32().map_err(short)? as usize;
        let blocks = wire.u64().map_err(short)?;
        let salt = wire.array::<32>().map_err(short)?.into();
        if count.checked_mul(ENTRY) != Some(wire.left()) {
            return Err(IndexError::Length(bytes.len()));
        }
        let lengths = wire.take(count).map_err(short)?;
        let (lasts, _) = wire.take(count * 4).map_err(short)?.as_chunks::<4>();
        let (ids, _) = wire.take(count * 8).map_err(short)?.as_chunks::<8>();
        let mut start = 0;
        let mut chunks = Vec::with_capacity(count);
        for ((&length, &last), &id) in lengths.iter().zip(lasts).zip(ids) {
            if length == 0 {
                return Err(IndexError::Cover(blocks));
            }
            chunks.push(Chunk { start, blocks: length, last, id });
            start += u64::from(length);
        }
        if start != blocks || blocks > MAX_BLOCKS {
            return Err(IndexError::Cover(blocks));
        }
        Ok(Self { blocks, salt, chunks })
    }
}
