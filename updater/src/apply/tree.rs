//! The hash tree on a slot's verity partition: written while the image is read back, completed when that was right, and
//! read back itself.

use std::io;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::digest::Digest;
use upright_manifests::verity::{
    BLOCK, Geometry, Superblock, TreeBuilder, TreeError, TreeSink, VerityError, VerityParams,
};

use super::first::WAITS_AT;
use crate::host::BlockDevice;
use crate::slot::{AlignedBuffer, IO_SIZE};

/// Writes the blocks of a tree in runs, all but the top one.
pub(super) struct TreeWriter<'a> {
    device: &'a dyn BlockDevice,
    /// Where the run starts.
    start: u64,
    run: AlignedBuffer,
    filled: usize,
    /// The top of the tree: the image's first block waits in its place.
    top: Option<Box<[u8; BLOCK]>>,
}

impl<'a> TreeWriter<'a> {
    pub(super) fn new(device: &'a dyn BlockDevice) -> Self {
        Self { device, start: 0, run: AlignedBuffer::new(IO_SIZE), filled: 0, top: None }
    }

    /// Writes out what is left, but for the top; durable when this returns.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.write_run()?;
        self.device.sync()
    }

    /// Writes the top, then the superblock: from then on the tree exists.
    pub(super) fn complete(&self, superblock: &Superblock) -> io::Result<()> {
        if let Some(top) = &self.top {
            self.device.write_at(&top[..], WAITS_AT)?;
            self.device.sync()?;
        }
        self.device.write_at(&superblock.to_block(), 0)?;
        self.device.sync()
    }

    fn write_run(&mut self) -> io::Result<()> {
        if self.filled > 0 {
            self.device.write_at(&self.run[..self.filled], self.start)?;
            self.filled = 0;
        }
        Ok(())
    }
}

impl TreeSink for TreeWriter<'_> {
    type Error = io::Error;

    fn put(&mut self, offset: u64, block: &[u8; BLOCK]) -> io::Result<()> {
        if offset == WAITS_AT {
            self.top = Some(Box::new(*block));
            return Ok(());
        }
        if offset != self.start + self.filled as u64 || self.filled == self.run.len() {
            self.write_run()?;
        }
        if self.filled == 0 {
            self.start = offset;
        }
        self.run[self.filled..self.filled + BLOCK].copy_from_slice(block);
        self.filled += BLOCK;
        Ok(())
    }
}

/// Why a tree is not the one it should be.
#[derive(Debug, thiserror::Error)]
pub enum CheckTreeError {
    /// The parameters contradict each other.
    #[error(transparent)]
    Verity(#[from] VerityError),
    /// The partition cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// A block of the partition is not what it should be.
    #[error("block {0} of the hash tree is damaged")]
    Damaged(u64),
}

/// Compares superblock and tree on a verity partition with `params`: each block, against the root hash.
pub fn check_tree(device: &dyn BlockDevice, params: &VerityParams) -> Result<(), CheckTreeError> {
    let geometry = params.geometry()?;
    let mut reader =
        Reader { device, size: params.hash_size, start: 0, length: 0, buffer: AlignedBuffer::new(IO_SIZE) };
    if *reader.block(0)? != params.superblock()?.to_block() {
        return Err(CheckTreeError::Damaged(0));
    }
    let Some(leaves) = geometry.leaf_offset(0) else { return Ok(()) };
    match rebuild(&mut reader, params, &geometry, leaves) {
        Ok(root) if root == params.root_hash => Ok(()),
        // Leaves that make another root: which one is wrong, only the data would tell.
        Ok(_) => Err(CheckTreeError::Damaged(leaves / BLOCK_SIZE)),
        Err(TreeError::Sink(error)) => Err(error),
        Err(error) => Err(CheckTreeError::Read(io::Error::other(error.to_string()))),
    }
}

/// Builds the tree from the leaves that are there, compares all other blocks, and tells the root.
fn rebuild(
    reader: &mut Reader<'_>,
    params: &VerityParams,
    geometry: &Geometry,
    leaves: u64,
) -> Result<Digest, TreeError<CheckTreeError>> {
    let mut above = Reader {
        device: reader.device,
        size: params.hash_size,
        start: 0,
        length: 0,
        // Little, since it goes to another level now and then.
        buffer: AlignedBuffer::new(16 * BLOCK),
    };
    let compare = |offset: u64, block: &[u8; BLOCK]| match above.block(offset)? == *block {
        true => Ok(()),
        false => Err(CheckTreeError::Damaged(offset / BLOCK_SIZE)),
    };
    let verity = |error| TreeError::Sink(CheckTreeError::Verity(error));
    let mut builder = TreeBuilder::new(params.salt, geometry.data_blocks(), compare).map_err(verity)?;
    for number in 0..geometry.data_blocks() {
        let offset = leaves + number * 32;
        let block = reader.block(offset / BLOCK_SIZE * BLOCK_SIZE).map_err(TreeError::Sink)?;
        let mut leaf = [0; 32];
        leaf.copy_from_slice(&block[(offset % BLOCK_SIZE) as usize..][..32]);
        builder.push_leaf(leaf.into())?;
    }
    Ok(builder.finish()?.0.root_hash)
}

/// Reads blocks through large reads.
struct Reader<'a> {
    device: &'a dyn BlockDevice,
    size: u64,
    start: u64,
    length: usize,
    buffer: AlignedBuffer,
}

impl Reader<'_> {
    fn block(&mut self, offset: u64) -> Result<&[u8], CheckTreeError> {
        if offset < self.start || offset >= self.start + self.length as u64 {
            let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
            let length = left.min(self.buffer.len());
            self.device.read_at(&mut self.buffer[..length], offset)?;
            (self.start, self.length) = (offset, length);
        }
        let at = (offset - self.start) as usize;
        self.buffer.get(at..at + BLOCK).ok_or(CheckTreeError::Damaged(offset / BLOCK_SIZE))
    }
}
