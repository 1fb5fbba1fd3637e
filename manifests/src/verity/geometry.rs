//! Where the levels of a hash tree are on the hash device.

use super::VerityError;
use crate::BLOCK_SIZE;

/// Hashes a block holds.
pub(super) const PER_BLOCK: u64 = BLOCK_SIZE / HASH_SIZE;
/// Length of a hash in bytes.
pub const HASH_SIZE: u64 = 32;

/// The largest number of data blocks a tree may cover: 4 PiB, far from where offsets overflow.
pub const MAX_DATA_BLOCKS: u64 = 1 << 40;

/// Where the levels of the tree over a number of data blocks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    data_blocks: u64,
    levels: Vec<Level>,
}

/// One level of a tree, in blocks of the hash device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Its first block.
    pub start: u64,
    /// How many blocks.
    pub blocks: u64,
}

impl Geometry {
    /// The geometry of the tree over `data_blocks` blocks of 4096 bytes.
    pub fn new(data_blocks: u64) -> Result<Self, VerityError> {
        if data_blocks == 0 || data_blocks > MAX_DATA_BLOCKS {
            return Err(VerityError::DataBlocks(data_blocks));
        }
        let mut levels = Vec::new();
        let mut blocks = data_blocks;
        while blocks > 1 {
            blocks = blocks.div_ceil(PER_BLOCK);
            levels.push(Level { start: 0, blocks });
        }
        let mut start = 1;
        for level in levels.iter_mut().rev() {
            level.start = start;
            start += level.blocks;
        }
        Ok(Self { data_blocks, levels })
    }

    /// How many data blocks the tree covers.
    pub fn data_blocks(&self) -> u64 {
        self.data_blocks
    }

    /// The length of the hash device's content in bytes: superblock and all levels.
    pub fn hash_size(&self) -> u64 {
        (1 + self.levels.iter().map(|level| level.blocks).sum::<u64>()) * BLOCK_SIZE
    }

    /// The byte offset on the hash device of the hash of `data_block`; none if the tree does not cover the block, or
    /// covers it alone, when the root is its hash.
    pub fn leaf_offset(&self, data_block: u64) -> Option<u64> {
        let leaves = self.levels.first()?;
        (data_block < self.data_blocks).then(|| leaves.start * BLOCK_SIZE + data_block * HASH_SIZE)
    }

    /// The levels, leaves first.
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_leaf_offsets_at_the_edges() {
        // data blocks, blocks of the hash device, block of the first leaf
        let table = [
            (1, 1, None),
            (2, 2, Some(1)),
            (128, 2, Some(1)),
            (129, 4, Some(2)),
            (16385, 1 + 1 + 2 + 129, Some(4)),
        ];
        for (data_blocks, hash_blocks, first_leaf) in table {
            let geometry = Geometry::new(data_blocks).unwrap();
            assert_eq!(geometry.hash_size(), hash_blocks * BLOCK_SIZE, "{data_blocks}");
            assert_eq!(
                geometry.leaf_offset(0),
                first_leaf.map(|block: u64| block * BLOCK_SIZE),
                "{data_blocks}"
            );
            assert_eq!(geometry.leaf_offset(data_blocks), None);
        }
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for data_blocks in [0, MAX_DATA_BLOCKS + 1, u64::MAX] {
            assert_eq!(Geometry::new(data_blocks), Err(VerityError::DataBlocks(data_blocks)));
        }
        assert!(Geometry::new(MAX_DATA_BLOCKS).is_ok());
    }
}
