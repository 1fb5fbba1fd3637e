//! The superblock at the start of a hash device: cryptsetup's on-disk format, version 1.
//!
//! ```text
//! 0    signature  "verity\0\0"        72   data blocks      u64
//! 8    version    u32, 1              80   salt's length    u16, 32
//! 12   hash type  u32, 1              82   zero             6
//! 16   UUID       16                  88   salt             256
//! 32   algorithm  32, "sha256"        344  zero             168
//! 64   data block size  u32, 4096
//! 68   hash block size  u32, 4096
//! ```

use super::geometry::Geometry;
use super::{BLOCK, VerityError};
use crate::BLOCK_SIZE;
use crate::digest::Digest;
use crate::uuid::Uuid;

/// Length of a superblock in bytes; the rest of its block is zero.
pub const SUPERBLOCK_SIZE: usize = 512;

const SIGNATURE: &[u8; 8] = b"verity\0\0";
const VERSION: u32 = 1;
const HASH_TYPE: u32 = 1;
const ALGORITHM: &[u8; 32] = b"sha256\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const BLOCK_SIZE_FIELD: u32 = BLOCK_SIZE as u32;
const SALT_SIZE: u16 = 32;

/// What a superblock says beyond what is fixed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// The UUID the hash device is found by.
    pub uuid: Uuid,
    /// How many data blocks the tree covers.
    pub data_blocks: u64,
    /// The salt of all hashes.
    pub salt: Digest,
}

impl Superblock {
    /// The superblock's bytes.
    pub fn to_bytes(&self) -> [u8; SUPERBLOCK_SIZE] {
        let mut bytes = [0; SUPERBLOCK_SIZE];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, SIGNATURE);
        put(8, &VERSION.to_le_bytes());
        put(12, &HASH_TYPE.to_le_bytes());
        put(16, self.uuid.as_bytes());
        put(32, ALGORITHM);
        put(64, &BLOCK_SIZE_FIELD.to_le_bytes());
        put(68, &BLOCK_SIZE_FIELD.to_le_bytes());
        put(72, &self.data_blocks.to_le_bytes());
        put(80, &SALT_SIZE.to_le_bytes());
        put(88, self.salt.as_bytes());
        bytes
    }

    /// The block that begins with the superblock, as it stands before the tree.
    pub fn to_block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..SUPERBLOCK_SIZE].copy_from_slice(&self.to_bytes());
        block
    }

    /// Reads the superblock at the start of a block.
    pub fn parse_block(block: &[u8; BLOCK]) -> Result<Self, VerityError> {
        let bytes = block.first_chunk().ok_or(VerityError::Superblock("length"))?;
        Self::parse(bytes)
    }

    /// Reads a superblock; an error unless it is of exactly the kind that [`Superblock::to_bytes`] makes.
    pub fn parse(bytes: &[u8; SUPERBLOCK_SIZE]) -> Result<Self, VerityError> {
        let fixed: [(&str, usize, &[u8]); 7] = [
            ("signature", 0, SIGNATURE),
            ("version", 8, &VERSION.to_le_bytes()),
            ("hash type", 12, &HASH_TYPE.to_le_bytes()),
            ("hash algorithm", 32, ALGORITHM),
            ("data block size", 64, &BLOCK_SIZE_FIELD.to_le_bytes()),
            ("hash block size", 68, &BLOCK_SIZE_FIELD.to_le_bytes()),
            ("salt length", 80, &SALT_SIZE.to_le_bytes()),
        ];
        if let Some((name, ..)) =
            fixed.into_iter().find(|(_, at, field)| bytes[*at..*at + field.len()] != **field)
        {
            return Err(VerityError::Superblock(name));
        }
        let data_blocks = u64::from_le_bytes(array(bytes, 72));
        Geometry::new(data_blocks)?;
        Ok(Self { uuid: array::<16>(bytes, 16).into(), data_blocks, salt: array::<32>(bytes, 88).into() })
    }
}

fn array<const N: usize>(bytes: &[u8; SUPERBLOCK_SIZE], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip_and_any_other_kind_is_refused() {
        let superblock =
            Superblock { uuid: Uuid::derive("test", b""), data_blocks: 7, salt: Digest::of(b"salt") };
        let bytes = superblock.to_bytes();
        assert_eq!(Superblock::parse(&bytes), Ok(superblock));
        for at in [0, 8, 12, 32, 39, 64, 68, 80] {
            let mut other = bytes;
            other[at] ^= 1;
            assert!(matches!(Superblock::parse(&other), Err(VerityError::Superblock(_))), "{at}");
        }
        let mut empty = bytes;
        empty[72] = 0;
        assert_eq!(Superblock::parse(&empty), Err(VerityError::DataBlocks(0)));
    }
}
