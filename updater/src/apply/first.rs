//! The image's first block, which holds the file system's superblock and is therefore written last.
//!
//! While a slot is being written, its root partition starts with zeros and its verity partition has no superblock: no initrd
//! can find either by UUID. The block is kept in memory and, from the first checkpoint on, in the second block of the verity
//! partition, where the top of the hash tree goes in the end. It gets its place when everything else was read back.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Range;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::verity::{BLOCK, BlockHasher, VerityParams};

use super::hints::Before;
use super::readback::Partitions;

/// Where the block waits on the verity partition; its tree's top goes there last.
pub(super) const WAITS_AT: u64 = BLOCK_SIZE;

/// The image's first block while the slot is being written.
pub(super) struct First<'a> {
    at: Partitions<'a>,
    bytes: RefCell<Box<[u8; BLOCK]>>,
    /// It differs from what waits on the verity partition.
    changed: Cell<bool>,
    before: Cell<Before>,
}

impl<'a> First<'a> {
    /// Takes the slot's superblocks away, durably, if they are there. With `resumed`, an earlier call has done so, and may even
    /// have come as far as [`Self::reveal`].
    pub(super) fn conceal(at: Partitions<'a>, resumed: bool, params: &VerityParams) -> io::Result<Self> {
        let mut bytes = Box::new([0; BLOCK]);
        at.root.read_at(&mut bytes[..], 0)?;
        let before = Before::conceal(at.verity)?;
        let is_zero = bytes.iter().all(|byte| *byte == 0);
        if resumed && Self::can_wait(at) && (is_zero || !is_in_tree(at, params, &bytes)?) {
            at.verity.read_at(&mut bytes[..], WAITS_AT)?;
        } else if !resumed {
            if !is_zero {
                at.root.write_at(&[0; BLOCK], 0)?;
            }
            // Also what a run before this one did that was killed here.
            at.root.sync()?;
        }
        let (bytes, changed, before) = (RefCell::new(bytes), Cell::new(!resumed), Cell::new(before));
        Ok(Self { at, bytes, changed, before })
    }

    /// What is known of what the slot holds.
    pub(super) fn before(&self) -> Before {
        self.before.get()
    }

    /// Something was written to the slot, or is about to be: its hash tree does not tell what it holds any more.
    pub(super) fn touch(&self) {
        self.before.set(self.before.get().touched());
    }

    /// Whether how far the writing got may be remembered: the block can wait on the verity partition.
    pub(super) fn can_wait(at: Partitions<'_>) -> bool {
        at.verity.size() >= WAITS_AT + BLOCK_SIZE
    }

    /// Keeps the block durably. A hash tree of a single level is in its place then, and tells nothing any more.
    pub(super) fn keep(&self) -> io::Result<()> {
        if self.changed.get() && Self::can_wait(self.at) {
            self.at.verity.write_at(&self.bytes.borrow()[..], WAITS_AT)?;
            self.at.verity.sync()?;
            self.changed.set(false);
        }
        Ok(())
    }

    /// Gives the block its content.
    pub(super) fn set(&self, bytes: &[u8]) {
        let mut held = self.bytes.borrow_mut();
        if held[..] != *bytes {
            held.copy_from_slice(bytes);
            self.changed.set(true);
        }
    }

    /// Puts the block into a buffer that holds the bytes of `range` of the image, if it belongs there. Ranges start at multiples
    /// of the block size.
    pub(super) fn overlay(&self, buffer: &mut [u8], range: Range<u64>) {
        if range.start == 0 {
            let length = buffer.len().min(BLOCK);
            buffer[..length].copy_from_slice(&self.bytes.borrow()[..length]);
        }
    }

    /// Gives the block its place, durably, and reads it back.
    pub(super) fn reveal(&self) -> io::Result<()> {
        let bytes = self.bytes.borrow();
        self.at.root.write_at(&bytes[..], 0)?;
        self.at.root.sync()?;
        let mut found = [0; BLOCK];
        self.at.root.read_at(&mut found, 0)?;
        match found == **bytes {
            true => Ok(()),
            false => Err(io::Error::other(
                "the image's first block does not read back as it was written; the disk loses writes",
            )),
        }
    }
}

/// Whether the tree was made of this first block; one that was torn when it got its place is another.
fn is_in_tree(at: Partitions<'_>, params: &VerityParams, bytes: &[u8; BLOCK]) -> io::Result<bool> {
    let leaves = params.geometry().ok().and_then(|geometry| geometry.leaf_offset(0));
    let Some(offset) = leaves.filter(|offset| offset + BLOCK_SIZE <= at.verity.size()) else {
        return Ok(true);
    };
    let mut leaf = [0; BLOCK];
    at.verity.read_at(&mut leaf, offset)?;
    Ok(leaf.starts_with(BlockHasher::new(&params.salt).hash(bytes).as_bytes()))
}
