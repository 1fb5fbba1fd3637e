//! What each block should hash to, and the proof of it.

use std::io;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::chunks::Leaf;
use upright_manifests::digest::Digest;
use upright_manifests::verity::{BLOCK, BlockHasher, Geometry, TreeBuilder, VerityParams};

use super::survey::first_leaf;
use super::{Blocks, Forgiving};
use crate::apply::error::ApplyError;
use crate::apply::readback::Sink;
use crate::host::BlockDevice;
use crate::slot::{AlignedBuffer, IO_SIZE};

/// Hashes a block of the tree has room for.
pub(super) const PER_BLOCK: u64 = (BLOCK / 32) as u64;

/// What is to be believed of a block of leaves that is not what the image makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Belief {
    /// It is right, and the image is damaged.
    Stored,
    /// It is damaged, and the image is right.
    Made,
    /// Both are damaged.
    Neither,
}

/// Judges a block of leaves by its hash in the level above, as that is stored. Nothing is proven by this.
pub(super) fn judge(
    verity: &dyn BlockDevice,
    params: &VerityParams,
    geometry: &Geometry,
    number: u64,
    made: &[u8; BLOCK],
) -> io::Result<Belief> {
    let hasher = BlockHasher::new(&params.salt);
    let expected = match geometry.levels().get(1) {
        None => params.root_hash,
        Some(above) => {
            let index = number.saturating_sub(first_leaf(geometry));
            let block = block(verity, above.start + index / PER_BLOCK)?;
            leaf(&block, index % PER_BLOCK).into()
        }
    };
    Ok(match () {
        () if hasher.hash(made) == expected => Belief::Made,
        () if hasher.hash(&*block(verity, number)?) == expected => Belief::Stored,
        () => Belief::Neither,
    })
}

/// Whether a block of leaves is proven by the blocks above it, as they are stored, up to the root hash.
pub(super) fn leads_to_root(
    verity: &dyn BlockDevice,
    params: &VerityParams,
    geometry: &Geometry,
    number: u64,
    leaves: &[u8; BLOCK],
) -> io::Result<bool> {
    let hasher = BlockHasher::new(&params.salt);
    let mut index = number.saturating_sub(first_leaf(geometry));
    let mut hash = hasher.hash(leaves);
    for level in geometry.levels().iter().skip(1) {
        let above = block(verity, level.start + index / PER_BLOCK)?;
        if leaf(&above, index % PER_BLOCK) != *hash.as_bytes() {
            return Ok(false);
        }
        (hash, index) = (hasher.hash(&above), index / PER_BLOCK);
    }
    Ok(hash == params.root_hash)
}

/// The root hash of the leaves that are stored, with those in `instead` in their places.
pub(super) fn root_of(
    verity: &dyn BlockDevice,
    params: &VerityParams,
    instead: &Blocks,
) -> Result<Digest, ApplyError> {
    let failed = |source| ApplyError::Device { what: "read the hash tree".to_owned(), source };
    let impossible = |error: &dyn std::fmt::Display| failed(io::Error::other(error.to_string()));
    let geometry = params.geometry().map_err(|error| impossible(&error))?;
    let Some(level) = geometry.levels().first().copied() else {
        return Ok(params.root_hash);
    };
    let verity = Forgiving::new(verity);
    let sink: Sink<'static> = Box::new(|_, _| Ok(()));
    let mut builder =
        TreeBuilder::new(params.salt, params.data_blocks, sink).map_err(|error| impossible(&error))?;
    let mut buffer = AlignedBuffer::new(IO_SIZE);
    let mut left = params.data_blocks;
    for start in (0..level.blocks).step_by(IO_SIZE / BLOCK) {
        let count = (level.blocks - start).min((IO_SIZE / BLOCK) as u64);
        let bytes = &mut buffer[..count as usize * BLOCK];
        verity.read_at(bytes, (level.start + start) * BLOCK_SIZE).map_err(failed)?;
        for (stored, number) in bytes.as_chunks::<BLOCK>().0.iter().zip(level.start + start..) {
            let block = instead.get(&number).map_or(stored, |block| block);
            for leaf in block.as_chunks::<32>().0.iter().take(left.min(PER_BLOCK) as usize) {
                builder.push_leaf((*leaf).into()).map_err(|error| impossible(&error))?;
            }
            left -= left.min(PER_BLOCK);
        }
    }
    Ok(builder.finish().map_err(|error| impossible(&error))?.0.root_hash)
}

/// A block of a partition; zeros where it cannot be read.
pub(super) fn block(device: &dyn BlockDevice, number: u64) -> io::Result<Box<[u8; BLOCK]>> {
    let mut block = Box::new([0; BLOCK]);
    Forgiving::new(device).read_at(&mut block[..], number.saturating_mul(BLOCK_SIZE))?;
    Ok(block)
}

/// A hash in a block of the tree.
pub(super) fn leaf(block: &[u8; BLOCK], index: u64) -> Leaf {
    block.as_chunks().0.get(index as usize).copied().unwrap_or_default()
}
