//! What differs between the image in a slot and the tree beside it.

use std::collections::BTreeSet;
use std::io;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::digest::Digest;
use upright_manifests::verity::{BLOCK, Geometry, TreeSink, VerityParams};

use super::{Blocks, Forgiving};
use crate::apply::error::ApplyError;
use crate::apply::readback::{Partitions, read_tree};
use crate::slot::AlignedBuffer;

/// How many blocks of a tree that differ are kept in memory: 4 MiB, which stand for half a gigabyte of an image.
const MOST: usize = 1024;

/// What was found in a slot.
pub(super) struct Survey {
    /// The root hash of the image that is there.
    pub(super) found: Digest,
    /// The blocks of the verity partition that are not what the image makes them, as they would be, by number; the superblock among
    /// them.
    pub(super) tree: Blocks,
    /// Blocks of the image that cannot be read.
    pub(super) unreadable: BTreeSet<u64>,
    /// There are more than were kept.
    pub(super) is_more: bool,
}

/// Reads the whole slot.
pub(super) fn survey(
    slot: Partitions<'_>,
    params: &VerityParams,
    observe: &mut dyn FnMut(u64),
) -> Result<Survey, ApplyError> {
    let failed = |source| ApplyError::Device { what: "read the hash tree".to_owned(), source };
    params.geometry().map_err(|error| failed(io::Error::other(error)))?;
    let verity = Forgiving::new(slot.verity);
    let root = Forgiving::new(slot.root);
    let mut difference = Difference {
        verity: &verity,
        stored: AlignedBuffer::new(BLOCK),
        survey: Survey {
            found: params.root_hash,
            tree: Blocks::new(),
            unreadable: BTreeSet::new(),
            is_more: false,
        },
    };
    let found = read_tree(&root, params, &mut difference, observe)?;
    let superblock = params.superblock().map_err(|error| failed(io::Error::other(error)))?;
    difference.put(0, &superblock.to_block()).map_err(failed)?;
    Ok(Survey { found, unreadable: root.unreadable(), ..difference.survey })
}

/// The block of the verity partition with which the leaves begin; beyond all where there are none.
pub(super) fn first_leaf(geometry: &Geometry) -> u64 {
    geometry.levels().first().map_or(u64::MAX, |level| level.start)
}

/// Keeps the blocks that differ.
struct Difference<'a> {
    verity: &'a Forgiving<'a>,
    stored: AlignedBuffer,
    survey: Survey,
}

impl TreeSink for Difference<'_> {
    type Error = io::Error;

    fn put(&mut self, offset: u64, block: &[u8; BLOCK]) -> io::Result<()> {
        use crate::host::BlockDevice;
        self.verity.read_at(&mut self.stored, offset)?;
        if self.stored[..] == block[..] {
            return Ok(());
        }
        let number = offset / BLOCK_SIZE;
        match self.survey.tree.len() >= MOST && number > 0 {
            true => self.survey.is_more = true,
            false => drop(self.survey.tree.insert(number, Box::new(*block))),
        }
        Ok(())
    }
}
