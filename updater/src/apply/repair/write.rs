//! Writes what was found, as soon as it is proven, and reads it back.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::chunks::Leaf;
use upright_manifests::name::Slot;
use upright_manifests::verity::{BLOCK, BlockHasher, Geometry};

use super::damage::{Damage, Frames};
use super::gather::{from_frames, from_here};
use super::leaves::{PER_BLOCK, block, leads_to_root, leaf, root_of};
use super::survey::{first_leaf, survey};
use super::{Blocks, Patient};
use crate::agent::Reporter;
use crate::apply::error::{ApplyError, WayError};
use crate::fetch::Fetcher;
use crate::host::BlockDevice;

/// How often a slot is read and its tree mended at most: each time as much is as is kept in memory.
const ROUNDS: usize = 64;

/// What was done to a slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mended {
    /// Blocks of the image that were written.
    pub blocks: u64,
    /// Blocks of the verity partition that were written.
    pub tree: u64,
}

/// A slot that is being mended. What is proven is written as it comes, and stays whatever becomes of the rest.
pub struct Mending<'a> {
    pub(super) patient: Patient<'a>,
    pub(super) damage: &'a Damage,
    geometry: Geometry,
    hasher: BlockHasher,
    /// What was found so far, which frames may refer back to.
    pub(super) found: Blocks,
    /// What blocks hash to that are to be written still, as far as the root hash proves it.
    proven: BTreeMap<u64, Leaf>,
    /// Blocks of leaves that are believed instead of those that are stored.
    instead: Blocks,
    /// Blocks of leaves that can be told only by all that they cover.
    unknown: Vec<u64>,
    mended: Mended,
}

impl<'a> Mending<'a> {
    /// Sees what is proven. Nothing is written.
    pub fn begin(patient: Patient<'a>, damage: &'a Damage) -> Result<Self, ApplyError> {
        let params = patient.params;
        let geometry = params.geometry().map_err(|error| unread(io::Error::other(error)))?;
        let mut mending = Self {
            patient,
            damage,
            geometry,
            hasher: BlockHasher::new(&params.salt),
            found: Blocks::new(),
            proven: BTreeMap::new(),
            instead: damage.instead.clone(),
            unknown: damage.unknown.clone(),
            mended: Mended::default(),
        };
        match mending.unknown.is_empty() {
            true => mending.prove_all()?,
            false => mending.prove_what_can_be()?,
        }
        Ok(mending)
    }

    /// What was written so far.
    pub fn mended(&self) -> Mended {
        self.mended
    }

    /// Writes the blocks that are on this host.
    pub fn take_here(&mut self) -> Result<(), ApplyError> {
        let found = from_here(self.patient, self.damage).map_err(|source| self.told(source))?;
        self.take(found)
    }

    /// Writes the blocks that are in `frames`, those of each as it comes.
    pub fn fetch(
        &mut self,
        fetcher: &Fetcher<'_>,
        frames: &Frames,
        reporter: &mut dyn Reporter,
    ) -> Result<(), ApplyError> {
        reporter.step(&format!("fetching what slot {} lacks", self.patient.slot.slot));
        let total = frames.bytes();
        from_frames(self, fetcher, frames, &mut |at| reporter.bytes(at, total))
    }

    /// Writes what is left, then the tree that belongs to the image. The slot is whole when this returns without an error.
    pub fn finish(&mut self, reporter: &mut dyn Reporter) -> Result<(), ApplyError> {
        let Patient { slot, params, .. } = self.patient;
        if !self.damage.wanted.is_empty() {
            self.learn_all()?;
            self.write()?;
        }
        if let Some(number) = self.proven.keys().next() {
            return Err(beyond(slot.slot, &format!("block {number} could not be had")));
        }
        for _ in 0..ROUNDS {
            reporter.step(&format!("reading slot {}", slot.slot));
            let total = params.data_blocks.saturating_mul(BLOCK_SIZE);
            let seen = survey(slot, params, &mut |at| reporter.bytes(at, total))?;
            if seen.found != params.root_hash || !seen.unreadable.is_empty() {
                return Err(loses(self.patient, "what was written to it does not read back"));
            }
            // Made of an image that has the signed root hash: the only tree there can be.
            if seen.tree.is_empty() {
                return Ok(());
            }
            write_tree(self.patient, &seen.tree)?;
            self.mended.tree += seen.tree.len() as u64;
        }
        Err(loses(self.patient, "its hash tree does not read back as it was written"))
    }

    pub(super) fn told(&self, source: WayError) -> ApplyError {
        let slot = self.patient.slot.slot;
        match source {
            WayError::Other(_) => {
                beyond(slot, "what was found for it does not make the image that was signed")
            }
            source => ApplyError::Mend { slot, source },
        }
    }

    /// Writes more blocks that were found, as far as they are proven by now.
    pub(super) fn take(&mut self, more: Blocks) -> Result<(), ApplyError> {
        self.found.extend(more);
        if !self.unknown.is_empty() {
            self.learn()?;
        }
        self.write()
    }

    /// All leaves of blocks that are wanted are proven: with what is believed in its place, they have the signed root hash.
    fn prove_all(&mut self) -> Result<(), ApplyError> {
        let Patient { slot, params, .. } = self.patient;
        if self.geometry.levels().is_empty() {
            self.proven
                .extend(self.damage.wanted.keys().map(|number| (*number, *params.root_hash.as_bytes())));
            return Ok(());
        }
        if !self.damage.wanted.is_empty() && root_of(slot.verity, params, &self.instead)? != params.root_hash
        {
            return Err(beyond(
                slot.slot,
                "what was found for it does not make the root hash that was signed",
            ));
        }
        let blocks: BTreeSet<u64> = self.damage.wanted.keys().map(|number| self.leaves_of(*number)).collect();
        blocks.into_iter().try_for_each(|number| self.believe(number))
    }

    /// While some blocks of leaves are not known, those of the others are proven by the blocks above them, where these are whole.
    fn prove_what_can_be(&mut self) -> Result<(), ApplyError> {
        let known = self.damage.wanted.keys().map(|number| self.leaves_of(*number));
        let known: BTreeSet<u64> = known.filter(|number| !self.unknown.contains(number)).collect();
        for number in known {
            let leaves = self.leaves(number)?;
            if self.is_proven(number, &leaves)? {
                self.believe(number)?;
            }
        }
        Ok(())
    }

    /// The blocks of leaves all of whose blocks were found are known by now.
    fn learn(&mut self) -> Result<(), ApplyError> {
        for number in self.unknown.clone() {
            let Some(made) = self.made(number) else { continue };
            if self.is_proven(number, &made)? {
                self.unknown.retain(|other| *other != number);
                self.instead.insert(number, made);
                self.believe(number)?;
            }
        }
        Ok(())
    }

    /// Nothing more is to be found: what no block above proves is proven by all leaves together, or not at all.
    fn learn_all(&mut self) -> Result<(), ApplyError> {
        if self.damage.unknown.is_empty() {
            return Ok(());
        }
        for number in std::mem::take(&mut self.unknown) {
            let slot = self.patient.slot.slot;
            let made = self.made(number);
            let made = made.ok_or_else(|| beyond(slot, "not all of its blocks could be had"))?;
            self.instead.insert(number, made);
        }
        self.prove_all()
    }

    /// Takes the hashes in a block of leaves for proven.
    fn believe(&mut self, number: u64) -> Result<(), ApplyError> {
        let leaves = self.leaves(number)?;
        let start = number.saturating_sub(first_leaf(&self.geometry)) * PER_BLOCK;
        let wanted = self.damage.wanted.range(start..start.saturating_add(PER_BLOCK));
        self.proven.extend(wanted.map(|(block, _)| (*block, leaf(&leaves, block - start))));
        Ok(())
    }

    /// The block of leaves that is believed.
    fn leaves(&self, number: u64) -> Result<Box<[u8; BLOCK]>, ApplyError> {
        match self.instead.get(&number) {
            Some(leaves) => Ok(leaves.clone()),
            None => block(self.patient.slot.verity, number).map_err(unread),
        }
    }

    /// The block of leaves for a block of the image.
    fn leaves_of(&self, number: u64) -> u64 {
        first_leaf(&self.geometry).saturating_add(number / PER_BLOCK)
    }

    fn is_proven(&self, number: u64, leaves: &[u8; BLOCK]) -> Result<bool, ApplyError> {
        let Patient { slot, params, .. } = self.patient;
        leads_to_root(slot.verity, params, &self.geometry, number, leaves).map_err(unread)
    }

    /// A block of leaves as the blocks make it that were found, if all were.
    fn made(&self, number: u64) -> Option<Box<[u8; BLOCK]>> {
        let mut made = Box::new([0; BLOCK]);
        let start = number.saturating_sub(first_leaf(&self.geometry)) * PER_BLOCK;
        for (place, at) in made.as_chunks_mut::<32>().0.iter_mut().zip(start..self.patient.params.data_blocks)
        {
            *place = *self.hasher.hash(self.found.get(&at)?).as_bytes();
        }
        Some(made)
    }

    /// Writes the blocks that are proven and were found, unless they are there already, and reads them back.
    fn write(&mut self) -> Result<(), ApplyError> {
        let Patient { slot, .. } = self.patient;
        let failed = |source| ApplyError::Device { what: format!("write slot {}", slot.slot), source };
        let is_right = |block: &[u8; BLOCK], leaf: &Leaf| self.hasher.hash(block).as_bytes() == leaf;
        let (mut done, mut written) = (Vec::new(), Vec::new());
        for (number, leaf) in &self.proven {
            let Some(block) = self.found.get(number).filter(|block| is_right(block, leaf)) else { continue };
            let mut there = Box::new([0; BLOCK]);
            let readable = slot.root.read_at(&mut there[..], number * BLOCK_SIZE).is_ok();
            done.push(*number);
            if !(readable && is_right(&there, leaf)) {
                slot.root.write_at(&block[..], number * BLOCK_SIZE).map_err(failed)?;
                written.push((*number, *leaf));
            }
        }
        if !written.is_empty() {
            slot.root.sync().map_err(failed)?;
        }
        for (number, leaf) in &written {
            if !is_right(&*block(slot.root, *number).map_err(failed)?, leaf) {
                return Err(loses(
                    self.patient,
                    &format!("block {number} does not read back as it was written"),
                ));
            }
        }
        self.proven.retain(|number, _| done.binary_search(number).is_err());
        self.mended.blocks += written.len() as u64;
        Ok(())
    }
}

/// Writes blocks of the tree, the superblock last.
fn write_tree(patient: Patient<'_>, wrong: &Blocks) -> Result<(), ApplyError> {
    let verity: &dyn BlockDevice = patient.slot.verity;
    let write = || {
        for (number, block) in wrong.iter().rev() {
            if *number == 0 {
                verity.sync()?;
            }
            verity.write_at(&block[..], number * BLOCK_SIZE)?;
        }
        verity.sync()
    };
    let what = format!("write the hash tree of slot {}", patient.slot.slot);
    write().map_err(|source| ApplyError::Device { what, source })
}

fn unread(source: io::Error) -> ApplyError {
    ApplyError::Device { what: "read the slot".to_owned(), source }
}

fn beyond(slot: Slot, reason: &str) -> ApplyError {
    ApplyError::Beyond { slot, reason: reason.to_owned() }
}

fn loses(patient: Patient<'_>, reason: &str) -> ApplyError {
    let source = io::Error::other(format!("{reason}; the disk loses writes"));
    ApplyError::Device { what: format!("mend slot {}", patient.slot.slot), source }
}
