//! Writes what was found, once it is proven, and reads it back.

use std::io;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::chunks::Leaf;
use upright_manifests::name::Slot;
use upright_manifests::verity::{BLOCK, BlockHasher};

use super::damage::{Damage, Frames};
use super::gather::{from_frames, from_here};
use super::leaves::{PER_BLOCK, block, leaf, root_of};
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

/// Mends the slot: the image first, then the tree that belongs to it. The slot is whole when this returns without an error.
pub fn mend(
    patient: Patient<'_>,
    damage: &Damage,
    fetched: Option<(&Fetcher<'_>, &Frames)>,
    reporter: &mut dyn Reporter,
) -> Result<Mended, ApplyError> {
    let slot = patient.slot.slot;
    let told = |source| match source {
        WayError::Other(_) => beyond(slot, "what was found for it does not make the image that was signed"),
        source => ApplyError::Mend { slot, source },
    };
    let mut found = from_here(patient, damage).map_err(told)?;
    if let Some((fetcher, frames)) = fetched {
        reporter.step(&format!("fetching what slot {slot} lacks"));
        let total = frames.bytes();
        let observe = &mut |at| reporter.bytes(at, total);
        from_frames(patient, damage, fetcher, frames, &mut found, observe).map_err(told)?;
    }
    let mut mended = Mended::default();
    if !damage.wanted.is_empty() {
        let leaves = proven(patient, damage, &found)?;
        mended.blocks = write_image(patient, &found, &leaves)?;
    }
    for _ in 0..ROUNDS {
        reporter.step(&format!("reading slot {slot}"));
        let total = patient.params.data_blocks.saturating_mul(BLOCK_SIZE);
        let seen = survey(patient.slot, patient.params, &mut |at| reporter.bytes(at, total))?;
        if seen.found != patient.params.root_hash || !seen.unreadable.is_empty() {
            return Err(loses(patient, "what was written to it does not read back"));
        }
        // Made of an image that has the signed root hash: the only tree there can be.
        if seen.tree.is_empty() {
            return Ok(mended);
        }
        mended.tree += seen.tree.len() as u64;
        write_tree(patient, &seen.tree)?;
    }
    Err(loses(patient, "its hash tree does not read back as it was written"))
}

/// The hashes of the blocks that are wanted, which are leaves of a tree with the signed root hash: computed from what is
/// stored, what was believed instead, and what was found.
fn proven(patient: Patient<'_>, damage: &Damage, found: &Blocks) -> Result<Vec<(u64, Leaf)>, ApplyError> {
    let Patient { slot, params, .. } = patient;
    let failed = |source| ApplyError::Device { what: "read the slot".to_owned(), source };
    let geometry = params.geometry().map_err(|error| failed(io::Error::other(error)))?;
    let hasher = BlockHasher::new(&params.salt);
    let mut instead = damage.instead.clone();
    for number in &damage.unknown {
        let mut made = Box::new([0; BLOCK]);
        let start = number.saturating_sub(first_leaf(&geometry)) * PER_BLOCK;
        for (place, at) in made.as_chunks_mut::<32>().0.iter_mut().zip(start..params.data_blocks) {
            let block =
                found.get(&at).ok_or_else(|| beyond(slot.slot, "not all of its blocks could be had"))?;
            *place = *hasher.hash(block).as_bytes();
        }
        instead.insert(*number, made);
    }
    if geometry.levels().is_empty() {
        return Ok(vec![(0, *params.root_hash.as_bytes())]);
    }
    if root_of(slot.verity, params, &instead)? != params.root_hash {
        return Err(beyond(slot.slot, "what was found for it does not make the root hash that was signed"));
    }
    let mut leaves = Vec::with_capacity(damage.wanted.len());
    for number in damage.wanted.keys() {
        let at = first_leaf(&geometry) + number / PER_BLOCK;
        let stored;
        let from = match instead.get(&at) {
            Some(block) => block,
            None => {
                stored = block(slot.verity, at).map_err(failed)?;
                &stored
            }
        };
        leaves.push((*number, leaf(from, number % PER_BLOCK)));
    }
    Ok(leaves)
}

/// Writes the blocks that are not there already; how many that were.
fn write_image(patient: Patient<'_>, found: &Blocks, leaves: &[(u64, Leaf)]) -> Result<u64, ApplyError> {
    let Patient { slot, params, .. } = patient;
    let failed = |source| ApplyError::Device { what: format!("write slot {}", slot.slot), source };
    let hasher = BlockHasher::new(&params.salt);
    let is_right = |block: &[u8; BLOCK], leaf: &Leaf| hasher.hash(block).as_bytes() == leaf;
    let mut written = Vec::new();
    for (number, leaf) in leaves {
        let mut there = Box::new([0; BLOCK]);
        let readable = slot.root.read_at(&mut there[..], number * BLOCK_SIZE).is_ok();
        if readable && is_right(&there, leaf) {
            continue;
        }
        let block = found.get(number).filter(|block| is_right(block, leaf));
        let block = block.ok_or_else(|| beyond(slot.slot, &format!("block {number} could not be had")))?;
        slot.root.write_at(&block[..], number * BLOCK_SIZE).map_err(failed)?;
        written.push((number, leaf));
    }
    slot.root.sync().map_err(failed)?;
    for (number, leaf) in &written {
        if !is_right(&*block(slot.root, **number).map_err(failed)?, leaf) {
            return Err(loses(patient, &format!("block {number} does not read back as it was written")));
        }
    }
    Ok(written.len() as u64)
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

fn beyond(slot: Slot, reason: &str) -> ApplyError {
    ApplyError::Beyond { slot, reason: reason.to_owned() }
}

fn loses(patient: Patient<'_>, reason: &str) -> ApplyError {
    let source = io::Error::other(format!("{reason}; the disk loses writes"));
    ApplyError::Device { what: format!("mend slot {}", patient.slot.slot), source }
}
