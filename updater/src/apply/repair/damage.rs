//! What is damaged in a slot, and where each block that is wanted can be had: a plan, for which nothing is written.

use std::collections::BTreeMap;
use std::io;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::chunks::Leaf;
use upright_manifests::name::Slot;
use upright_manifests::payload::{Frame, Head};
use upright_manifests::release::RootImage;
use upright_manifests::verity::BlockHasher;

use super::leaves::{Belief, PER_BLOCK, block, judge, leaf, root_of};
use super::survey::{first_leaf, survey};
use super::{Blocks, Patient};
use crate::apply::error::{ApplyError, WayError};
use crate::apply::full::payload_head;
use crate::apply::hints::{Hint, Leaves};
use crate::apply::readback::Partitions;
use crate::fetch::Fetcher;

/// How many blocks at most are mended, one by one: 16 MiB of memory. More than that is an update's business.
const MOST: usize = 4096;

/// What is damaged in a slot.
pub struct Damage {
    /// The blocks of the image that have to be written.
    pub(super) wanted: BTreeMap<u64, Want>,
    /// Blocks of leaves that are believed instead of those that are stored.
    pub(super) instead: Blocks,
    /// Blocks of leaves of which neither what is stored nor what the image makes is right.
    pub(super) unknown: Vec<u64>,
    /// How many blocks of the verity partition are wrong, as far as the image tells.
    pub tree: usize,
}

/// A block that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Want {
    /// What it should hash to, if that is known.
    pub(super) leaf: Option<Leaf>,
    /// A slot that has it, and its number there.
    pub(super) here: Option<(Slot, u64)>,
}

/// What has to be fetched.
pub struct Frames {
    pub(super) path: String,
    pub(super) frames: Vec<Frame>,
}

impl Frames {
    /// How many bytes they have.
    pub fn bytes(&self) -> u64 {
        self.frames.iter().map(|frame| u64::from(frame.packed)).sum()
    }
}

impl Damage {
    /// Whether there is nothing to mend.
    pub fn is_none(&self) -> bool {
        self.wanted.is_empty() && self.tree == 0
    }

    /// How many blocks of the image have to be written.
    pub fn blocks(&self) -> usize {
        self.wanted.len()
    }

    /// How many of them are somewhere on this host.
    pub fn here(&self) -> usize {
        self.wanted.values().filter(|want| want.here.is_some()).count()
    }

    /// The frames of the full payload that hold the others; the head that names them is fetched.
    pub fn frames(&self, fetcher: &Fetcher<'_>, root: &RootImage) -> Result<Frames, WayError> {
        let head = payload_head(fetcher, root)?;
        Ok(Frames { path: root.full.path.to_string(), frames: self.missing_of(&head) })
    }

    fn missing_of(&self, head: &Head) -> Vec<Frame> {
        let missing = self.wanted.iter().filter(|(_, want)| want.here.is_none());
        // Ascending, as the blocks are.
        let mut numbers: Vec<usize> = missing.filter_map(|(block, _)| head.frame_of(*block)).collect();
        numbers.dedup();
        numbers.into_iter().filter_map(|number| head.frames.get(number).cloned()).collect()
    }
}

/// Reads the slot and finds what is damaged, and where it can be had on this host.
pub fn look(patient: Patient<'_>, observe: &mut dyn FnMut(u64)) -> Result<Damage, ApplyError> {
    let Patient { slot, params, .. } = patient;
    let seen = survey(slot, params, observe)?;
    let tree = seen.tree.len();
    let mut damage = Damage { wanted: BTreeMap::new(), instead: Blocks::new(), unknown: Vec::new(), tree };
    if seen.found == params.root_hash && seen.unreadable.is_empty() {
        return Ok(damage);
    }
    let beyond = |reason: &str| ApplyError::Beyond { slot: slot.slot, reason: reason.to_owned() };
    if seen.is_more {
        return Err(beyond("too much of it differs from its hash tree, if that is its own at all"));
    }
    let failed = |source| ApplyError::Device { what: "read the hash tree".to_owned(), source };
    let geometry = params.geometry().map_err(|error| failed(io::Error::other(error)))?;
    let trusted = root_of(slot.verity, params, &Blocks::new())? == params.root_hash;
    let first = first_leaf(&geometry);
    for (number, made) in seen.tree.iter().filter(|(number, _)| **number >= first) {
        let belief = match trusted {
            true => Belief::Stored,
            false => judge(slot.verity, params, &geometry, *number, made).map_err(failed)?,
        };
        let stored = block(slot.verity, *number).map_err(failed)?;
        let start = number.saturating_sub(first) * PER_BLOCK;
        let covered = start..params.data_blocks.min(start + PER_BLOCK);
        match belief {
            Belief::Made => drop(damage.instead.insert(*number, made.clone())),
            Belief::Neither => {
                damage.unknown.push(*number);
                for block in covered {
                    damage.wanted.insert(block, Want { leaf: None, here: None });
                }
            }
            Belief::Stored => {
                for (block, index) in covered.zip(0..) {
                    let expected = leaf(&stored, index);
                    if leaf(made, index) != expected {
                        damage.wanted.insert(block, Want { leaf: Some(expected), here: None });
                    }
                }
            }
        }
        if damage.wanted.len() > MOST {
            return Err(beyond("more than 4096 of its blocks are damaged"));
        }
    }
    if damage.unknown.is_empty() && root_of(slot.verity, params, &damage.instead)? != params.root_hash {
        return Err(beyond("it holds something else, to which its hash tree belongs"));
    }
    // One that cannot be read is wanted even where zeros would be right; a tree of one block has no leaves.
    for number in seen.unreadable.iter().chain(Some(&0).filter(|_| geometry.levels().is_empty())) {
        let at = first.saturating_add(number / PER_BLOCK);
        let leaf = match geometry.levels().is_empty() {
            true => *params.root_hash.as_bytes(),
            false => leaf(&*block(slot.verity, at).map_err(failed)?, number % PER_BLOCK),
        };
        damage.wanted.entry(*number).or_insert(Want { leaf: Some(leaf), here: None });
    }
    for at in [Some(slot), patient.other].into_iter().flatten() {
        damage.find_in(at, patient)?;
    }
    Ok(damage)
}

impl Damage {
    /// Finds blocks that are wanted in a slot, as its tree tells, and makes sure that they are there.
    fn find_in(&mut self, at: Partitions<'_>, patient: Patient<'_>) -> Result<(), ApplyError> {
        let own = at.slot == patient.slot.slot;
        let params = patient.params;
        // The own superblock may be what is damaged.
        let hint = if own { Some(Hint::written(params)) } else { Hint::of(at.verity).ok().flatten() };
        let Some(hint) = hint.filter(|hint| hint.salt == params.salt) else { return Ok(()) };
        let missing = self.wanted.iter().filter(|(_, want)| want.here.is_none());
        let mut wanted: Vec<(Leaf, u64)> =
            missing.filter_map(|(block, want)| Some((want.leaf?, *block))).collect();
        wanted.sort_unstable();
        let hasher = BlockHasher::new(&params.salt);
        // What cannot be read there is found elsewhere, or fetched.
        let Ok(mut leaves) = Leaves::new(&hint, at.verity) else { return Ok(()) };
        let mut number = 0;
        while let Ok(Some(some)) = leaves.some() {
            for leaf in some {
                let first = wanted.partition_point(|(other, _)| other < leaf);
                let same = wanted[first..].iter().take_while(|(other, _)| other == leaf);
                let blocks: Vec<u64> = same.map(|(_, block)| *block).collect();
                let is_there = || {
                    let damaged = own && blocks.contains(&number);
                    let fits = number < at.root.size() / BLOCK_SIZE;
                    let found = block(at.root, number).map(|block| hasher.hash(&block));
                    !damaged && fits && found.is_ok_and(|found| found.as_bytes() == leaf)
                };
                if !blocks.is_empty() && is_there() {
                    for block in &blocks {
                        if let Some(want) = self.wanted.get_mut(block) {
                            want.here = want.here.or(Some((at.slot, number)));
                        }
                    }
                }
                number += 1;
            }
        }
        Ok(())
    }
}
