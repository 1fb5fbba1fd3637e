//! Finds, for each frame, the part of the image before it that it has most in common with, however far back.
//!
//! Programs written in one language and modules of one kind share much, and stand further apart than a compressor looks back.

use std::collections::HashMap;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::payload::MAX_PREFIX_BLOCKS;

use super::encode::{PayloadError, Read};
use crate::anchors::anchors;
use crate::erofs::Run;
use crate::parallel;

/// The most blocks that are chosen.
const MOST: u64 = MAX_PREFIX_BLOCKS as u64 / 2;
/// The least anchors that a frame must have in common with them.
const LEAST: usize = 8;
/// A frame must have one in so many of its anchors in common.
const SHARE: usize = 32;
/// Blocks before the first anchor in common that are taken along.
const MARGIN: u64 = 4;

/// What each of the frames, ascending runs of blocks, has most in common with.
pub(super) fn similar(frames: &[Run], read: Read<'_>) -> Result<Vec<Option<Run>>, PayloadError> {
    let anchors = parallel::map(frames, |frame| Ok(anchors(&read(*frame)?)))?;
    // Where an anchor was seen last.
    let mut seen: HashMap<u64, u32> = HashMap::new();
    let mut similar = Vec::with_capacity(frames.len());
    for (frame, anchors) in frames.iter().zip(anchors) {
        let mut common: Vec<u64> = anchors
            .iter()
            .filter_map(|(anchor, _)| seen.get(anchor))
            .map(|block| u64::from(*block))
            .collect();
        similar.push(densest(&mut common, anchors.len() / SHARE));
        let block = |at: u64| (frame.start + at / BLOCK_SIZE) as u32;
        seen.extend(anchors.into_iter().map(|(anchor, at)| (anchor, block(at))));
    }
    Ok(similar)
}

/// The stretch of at most [`MOST`] blocks that has the most of these, if it has enough.
fn densest(blocks: &mut [u64], enough: usize) -> Option<Run> {
    blocks.sort_unstable();
    let mut first = 0;
    let mut best: Option<(usize, usize)> = None;
    for last in 0..blocks.len() {
        while blocks[last] - blocks[first] >= MOST - MARGIN {
            first += 1;
        }
        if best.is_none_or(|(count, _)| last - first + 1 > count) {
            best = Some((last - first + 1, first));
        }
    }
    let (count, first) = best.filter(|(count, _)| *count >= enough.max(LEAST))?;
    let start = blocks[first].saturating_sub(MARGIN);
    Some(Run { start, blocks: blocks[first + count - 1] + 1 - start })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moved_is_found_and_what_is_new_is_not() {
        let noise = |seed: u64, length: u64| {
            let mut state = seed;
            let next = move |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            };
            (0..length).map(next).collect::<Vec<u8>>()
        };
        let (first, second) = (noise(1, 40 * BLOCK_SIZE), noise(2, 40 * BLOCK_SIZE));
        // The first again, from its block 10 on, and not at the start of a block.
        let mut image = [&first[..], &second[..], &second[..100], &first[10 * 4096..]].concat();
        image.resize(110 * 4096, 0);
        let run = |start, blocks| Run { start, blocks };
        let read = |run: Run| {
            Ok(image[(run.start * BLOCK_SIZE) as usize..((run.start + run.blocks) * BLOCK_SIZE) as usize]
                .to_vec())
        };
        let found = similar(&[run(0, 40), run(40, 40), run(80, 30)], &read).unwrap();
        assert_eq!(found[..2], [None, None]);
        let far = found[2].unwrap();
        assert!((6..=11).contains(&far.start) && (38..=40).contains(&(far.start + far.blocks)), "{far:?}");
    }
}
