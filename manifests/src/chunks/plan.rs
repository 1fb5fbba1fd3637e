//! Decides what to copy, what to leave and what to fetch.

use std::ops::Range;

use crate::name::Slot;
use crate::payload::Head;

use super::format::Index;
use super::search::Found;

/// One step of an update by chunks. Steps come in the order of the blocks they fill, front to back, and together fill
/// each block once; taken in this order, no step reads from the slot being written what an earlier step overwrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The slot being written holds these blocks already.
    Keep {
        /// The first block.
        to: u64,
        /// How many.
        blocks: u64,
    },
    /// Copy blocks, front to back: where the slot is the one being written, `from` is greater than `to`.
    Copy {
        /// The slot to read.
        slot: Slot,
        /// The first block to read.
        from: u64,
        /// The first block to fill.
        to: u64,
        /// How many.
        blocks: u64,
    },
    /// Fetch frames of the full payload and write what they hold; one range of the file.
    Fetch {
        /// Numbers of the frames in the payload's head.
        frames: Range<usize>,
    },
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Index and payload are not of the same image.
    #[error("chunk index covers {index} blocks, the payload {payload}")]
    Sizes {
        /// The index's number of blocks.
        index: u64,
        /// The payload's number of blocks.
        payload: u64,
    },
}

/// The steps that make the image of `index` out of what was found and frames of the payload. A frame is
/// fetched when any chunk in it was not found.
pub fn plan(index: &Index, payload: &Head, found: &[Option<Found>]) -> Result<Vec<Step>, PlanError> {
    if index.blocks != payload.blocks || found.len() != index.chunks.len() {
        return Err(PlanError::Sizes { index: index.blocks, payload: payload.blocks });
    }
    let mut steps = Vec::new();
    let mut first = 0;
    for (number, frame) in payload.frames.iter().enumerate() {
        let range = frame.start..frame.start + u64::from(frame.blocks);
        let overlapping = index.chunks[first..]
            .iter()
            .zip(&found[first..])
            .take_while(|(chunk, _)| chunk.start < range.end);
        if overlapping.clone().any(|(_, found)| found.is_none()) {
            push(&mut steps, Step::Fetch { frames: number..number + 1 });
        } else {
            for (chunk, found) in overlapping {
                let part =
                    chunk.start.max(range.start)..(chunk.start + u64::from(chunk.blocks)).min(range.end);
                if let Some(found) = found {
                    push(&mut steps, local(found, part.start - chunk.start, &part));
                }
            }
        }
        let ended = index.chunks[first..]
            .iter()
            .take_while(|chunk| chunk.start + u64::from(chunk.blocks) <= range.end)
            .count();
        first += ended;
    }
    Ok(steps)
}

/// How many bytes of the payload a plan fetches, its head not counted.
pub fn fetched(steps: &[Step], payload: &Head) -> u64 {
    steps
        .iter()
        .filter_map(|step| match step {
            Step::Fetch { frames } => payload.frames.get(frames.clone()),
            Step::Keep { .. } | Step::Copy { .. } => None,
        })
        .flatten()
        .map(|frame| u64::from(frame.packed))
        .sum()
}

fn local(found: &Found, into: u64, part: &Range<u64>) -> Step {
    let blocks = part.end - part.start;
    if found.in_place {
        Step::Keep { to: part.start, blocks }
    } else {
        Step::Copy { slot: found.slot, from: found.block + into, to: part.start, blocks }
    }
}

/// Appends a step, as part of the last one where it continues it.
fn push(steps: &mut Vec<Step>, step: Step) {
    match (steps.last_mut(), &step) {
        (Some(Step::Keep { to, blocks }), Step::Keep { to: next, blocks: more })
            if *to + *blocks == *next =>
        {
            *blocks += more;
        }
        (
            Some(Step::Copy { slot, from, to, blocks }),
            Step::Copy { slot: slot2, from: from2, to: to2, blocks: more },
        ) if slot == slot2 && *from + *blocks == *from2 && *to + *blocks == *to2 => *blocks += more,
        (Some(Step::Fetch { frames }), Step::Fetch { frames: next }) if frames.end == next.start => {
            frames.end = next.end;
        }
        _ => steps.push(step),
    }
}
