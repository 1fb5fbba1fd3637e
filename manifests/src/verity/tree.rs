//! The hash tree in one pass over the data, with one open block a level in memory.

use sha2::{Digest as _, Sha256};

use super::geometry::{Geometry, HASH_SIZE, Level};
use super::{VerityError, VerityParams};
use crate::BLOCK_SIZE;
use crate::digest::Digest;

/// [`BLOCK_SIZE`] as a length in memory.
pub const BLOCK: usize = BLOCK_SIZE as usize;

const HASH: usize = HASH_SIZE as usize;

/// Hashes blocks the way dm-verity does: SHA-256 over salt and block.
#[derive(Clone)]
pub struct BlockHasher {
    salted: Sha256,
}

impl BlockHasher {
    /// A hasher for one salt.
    pub fn new(salt: &Digest) -> Self {
        Self { salted: Sha256::new_with_prefix(salt.as_bytes()) }
    }

    /// The hash of a block, as a leaf of the tree or in a level above.
    pub fn hash(&self, block: &[u8; BLOCK]) -> Digest {
        let mut hash = self.salted.clone();
        hash.update(block);
        <[u8; 32]>::from(hash.finalize()).into()
    }
}

/// Takes the blocks of a tree as they are completed.
///
/// Any `FnMut(u64, &[u8; 4096]) -> Result<(), E>` is one; [`Discard`] is the one for who wants the root alone.
pub trait TreeSink {
    /// Why a block could not be taken.
    type Error;

    /// Takes the block at byte `offset` of the hash device. Each block comes once; each level's come in ascending order, and
    /// the superblock (offset zero) never comes.
    fn put(&mut self, offset: u64, block: &[u8; BLOCK]) -> Result<(), Self::Error>;
}

impl<F: FnMut(u64, &[u8; BLOCK]) -> Result<(), E>, E> TreeSink for F {
    type Error = E;

    fn put(&mut self, offset: u64, block: &[u8; BLOCK]) -> Result<(), E> {
        self(offset, block)
    }
}

/// Drops the tree: for verification, where the root is all that counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Discard;

impl TreeSink for Discard {
    type Error = std::convert::Infallible;

    fn put(&mut self, _: u64, _: &[u8; BLOCK]) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Why a tree could not be built.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError<E> {
    /// The data is not whole blocks.
    #[error("verity tree was given {0} bytes, not a multiple of {BLOCK_SIZE}")]
    Unaligned(usize),
    /// More or fewer data blocks than announced.
    #[error("verity tree was given {found} blocks of {expected}")]
    Count {
        /// Blocks given.
        found: u64,
        /// Blocks announced.
        expected: u64,
    },
    /// The sink refused a block.
    #[error(transparent)]
    Sink(E),
}

/// Builds a hash tree from data blocks that come in order.
pub struct TreeBuilder<S> {
    hasher: BlockHasher,
    salt: Digest,
    geometry: Geometry,
    open: Vec<OpenBlock>,
    seen: u64,
    root: Option<Digest>,
    sink: S,
}

/// The block of a level that is being filled; its unused rest is zero.
struct OpenBlock {
    bytes: Box<[u8; BLOCK]>,
    filled: usize,
    done: u64,
    level: Level,
}

impl<S: TreeSink> TreeBuilder<S> {
    /// A builder for a tree over `data_blocks` blocks; what it needs in memory is a block for each level, at most six.
    pub fn new(salt: Digest, data_blocks: u64, sink: S) -> Result<Self, VerityError> {
        let geometry = Geometry::new(data_blocks)?;
        let open = geometry.levels().iter().map(|&level| OpenBlock::new(level)).collect();
        Ok(Self { hasher: BlockHasher::new(&salt), salt, geometry, open, seen: 0, root: None, sink })
    }

    /// Takes the next data blocks; the length is a multiple of 4096.
    pub fn update(&mut self, data: &[u8]) -> Result<(), TreeError<S::Error>> {
        let (blocks, rest) = data.as_chunks::<BLOCK>();
        if !rest.is_empty() {
            return Err(TreeError::Unaligned(data.len()));
        }
        blocks.iter().try_for_each(|block| self.push_leaf(self.hasher.hash(block)))
    }

    /// Takes the hash of the next data block, computed elsewhere with a [`BlockHasher`] of the same salt.
    pub fn push_leaf(&mut self, hash: Digest) -> Result<(), TreeError<S::Error>> {
        self.seen += 1;
        if self.seen > self.geometry.data_blocks() {
            return Err(self.miscounted());
        }
        self.push(0, hash)
    }

    /// How many data blocks were taken.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Completes the tree: the parameters with the root hash, and the sink, which has every block by now.
    pub fn finish(mut self) -> Result<(VerityParams, S), TreeError<S::Error>> {
        if self.seen != self.geometry.data_blocks() {
            return Err(self.miscounted());
        }
        for level in 0..self.open.len() {
            if self.open[level].filled > 0 {
                self.close(level)?;
            }
        }
        match self.root {
            Some(root) => Ok((VerityParams::new(root, self.salt, &self.geometry), self.sink)),
            None => Err(self.miscounted()),
        }
    }

    /// Adds a hash to a level; above the top it is the root.
    fn push(&mut self, level: usize, hash: Digest) -> Result<(), TreeError<S::Error>> {
        let Some(open) = self.open.get_mut(level) else {
            self.root = Some(hash);
            return Ok(());
        };
        open.bytes[open.filled..open.filled + HASH].copy_from_slice(hash.as_bytes());
        open.filled += HASH;
        if open.filled == BLOCK { self.close(level) } else { Ok(()) }
    }

    /// Hands a level's open block to the sink and its hash to the level above.
    fn close(&mut self, level: usize) -> Result<(), TreeError<S::Error>> {
        let open = &mut self.open[level];
        self.sink.put(open.offset(), &open.bytes).map_err(TreeError::Sink)?;
        let hash = self.hasher.hash(&open.bytes);
        open.bytes.fill(0);
        open.filled = 0;
        open.done += 1;
        self.push(level + 1, hash)
    }

    fn miscounted(&self) -> TreeError<S::Error> {
        TreeError::Count { found: self.seen, expected: self.geometry.data_blocks() }
    }
}

impl OpenBlock {
    fn new(level: Level) -> Self {
        Self { bytes: Box::new([0; BLOCK]), filled: 0, done: 0, level }
    }

    fn offset(&self) -> u64 {
        (self.level.start + self.done) * BLOCK_SIZE
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
