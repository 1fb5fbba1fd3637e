//! What a host relies on: a plan, followed front to back, gives the image, whatever the slots hold.

use proptest::prelude::*;

use crate::digest::Digest;
use crate::name::Slot;
use crate::payload::{Frame, Head, Prefix, head_bytes};

use super::*;

/// Blocks are numbers here; their "hash" is the SHA-256 of the number.
fn leaf(block: u32) -> Leaf {
    *Digest::of(&block.to_le_bytes()).as_bytes()
}

fn index(image: &[u32], lengths: &[u8]) -> Index {
    let mut chunks = Vec::new();
    let mut start = 0;
    for &length in lengths.iter().cycle() {
        let left = image.len() - start;
        if left == 0 {
            break;
        }
        let blocks = usize::from(length).min(left);
        let leaves: Vec<Leaf> = image[start..start + blocks].iter().map(|block| leaf(*block)).collect();
        let mut last = [0; 4];
        last.copy_from_slice(&leaves[blocks - 1][..4]);
        chunks.push(Chunk { start: start as u64, blocks: blocks as u8, last, id: id_of(&leaves) });
        start += blocks;
    }
    Index { blocks: image.len() as u64, salt: Digest::of(b"salt"), chunks }
}

fn head(blocks: usize, per_frame: usize) -> Head {
    let mut frames = Vec::new();
    let mut offset = head_bytes(blocks.div_ceil(per_frame)) as u64;
    for start in (0..blocks).step_by(per_frame) {
        let blocks = per_frame.min(blocks - start) as u32;
        frames.push(Frame {
            offset,
            packed: 10,
            start: start as u64,
            blocks,
            prefix: Prefix::default(),
            sha256: Digest::of(b""),
        });
        offset += 10;
    }
    Head { blocks: blocks as u64, frames }
}

/// Follows a plan as an agent would.
fn follow(steps: &[Step], payload: &Head, image: &[u32], booted: &[u32], inactive: &mut Vec<u32>) {
    inactive.resize(inactive.len().max(image.len()), 0);
    for step in steps {
        match step {
            Step::Keep { .. } => {}
            Step::Copy { slot, from, to, blocks } => {
                for n in 0..*blocks as usize {
                    let (from, to) = (*from as usize + n, *to as usize + n);
                    inactive[to] = if *slot == Slot::A { booted[from] } else { inactive[from] };
                }
            }
            Step::Fetch { frames } => {
                for frame in &payload.frames[frames.clone()] {
                    let range = frame.start as usize..(frame.start + u64::from(frame.blocks)) as usize;
                    inactive[range.clone()].copy_from_slice(&image[range]);
                }
            }
        }
    }
}

fn search(index: &Index, booted: &[u32], inactive: &[u32]) -> Vec<Option<Found>> {
    let mut search = Search::new(index);
    let mut scan = search.scan(Slot::A, Holding::Source);
    booted.iter().for_each(|block| scan.push(&leaf(*block)));
    let mut scan = search.scan(Slot::B, Holding::Destination);
    inactive.iter().for_each(|block| scan.push(&leaf(*block)));
    search.finish()
}

#[test]
fn what_did_not_change_is_not_fetched() {
    let booted: Vec<u32> = (0..1000).collect();
    let mut image = booted.clone();
    image[500] = 5000;
    let index = index(&image, &[16]);
    let payload = head(1000, 16);
    let found = search(&index, &booted, &[]);
    let steps = plan(&index, &payload, &found).unwrap();
    assert_eq!(fetched(&steps, &payload), 10);
    assert_eq!(steps.len(), 3, "{steps:?}");
    let kept = search(&index, &[], &booted);
    let steps = plan(&index, &payload, &kept).unwrap();
    assert_eq!(steps.iter().filter(|step| matches!(step, Step::Keep { .. })).count(), 2);
    assert_eq!(fetched(&steps, &payload), 10);
}

/// What a search finds, the plain way: each chunk is compared with every place.
fn find(index: &Index, booted: &[u32], inactive: &[u32]) -> Vec<Option<Found>> {
    let at = |image: &[u32], chunk: &Chunk, block: u64| {
        let blocks = image.get(block as usize..block as usize + usize::from(chunk.blocks));
        let leaves = blocks.map(|blocks| blocks.iter().map(|block| leaf(*block)).collect::<Vec<_>>());
        leaves.is_some_and(|leaves| id_of(&leaves) == chunk.id)
    };
    let one = |chunk: &Chunk| {
        let found = |slot, block, in_place| Some(Found { slot, block, in_place });
        if at(inactive, chunk, chunk.start) {
            return found(Slot::B, chunk.start, true);
        }
        let source = (0..booted.len() as u64).find(|block| at(booted, chunk, *block));
        let further_back = || (chunk.start..inactive.len() as u64).find(|block| at(inactive, chunk, *block));
        match source {
            Some(block) => found(Slot::A, block, false),
            None => further_back().and_then(|block| found(Slot::B, block, false)),
        }
    };
    index.chunks.iter().map(one).collect()
}

#[test]
fn a_block_that_many_chunks_end_with_costs_no_more_for_each_of_them() {
    let hashed = |chunks: u32| {
        // Some data in front of zeros again and again; all of the data changed, and all zeros are there.
        let file = |data: u32| (0..chunks).flat_map(move |n| [vec![n + data], vec![0; 31]].concat());
        let (image, slot): (Vec<_>, Vec<_>) = (file(1000).collect(), file(100_000).collect());
        let index = index(&image, &[32]);
        let mut search = Search::new(&index);
        for (at, holding) in [(Slot::A, Holding::Source), (Slot::B, Holding::Destination)] {
            let mut scan = search.scan(at, holding);
            slot.iter().for_each(|block| scan.push(&leaf(*block)));
        }
        let hashed = search.hashed;
        assert!(search.finish().iter().all(Option::is_none));
        hashed
    };
    assert!(hashed(50) <= 2 * 50 * 32, "once for each block of each slot");
    assert!(hashed(100) <= 2 * 100 * 32);
}

#[test]
fn of_chunks_that_one_block_ends_some_lengths_are_looked_for() {
    let image = vec![0; 255 * 256 / 2];
    let lengths: Vec<u8> = (1..=255).rev().collect();
    let index = index(&image, &lengths);
    let found = search(&index, &image, &[]);
    let lengths = index.chunks.iter().zip(found).filter(|(_, found)| found.is_some());
    let mut lengths: Vec<u8> = lengths.map(|(chunk, _)| chunk.blocks).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, (1..=32).collect::<Vec<u8>>());
}

#[test]
fn an_index_round_trips_and_others_are_refused() {
    let sample = index(&(0..300).collect::<Vec<_>>(), &[7, 255]);
    let bytes = sample.to_bytes();
    assert_eq!(Index::parse(&bytes), Ok(sample));
    let changed = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        Index::parse(&bytes)
    };
    assert_eq!(changed(0, 0), Err(IndexError::Magic));
    assert_eq!(changed(8, 9), Err(IndexError::Version(9)));
    assert_eq!(changed(12, 99), Err(IndexError::Length(bytes.len())));
    assert_eq!(changed(56, 0), Err(IndexError::Cover(300)));
    assert_eq!(changed(56, 8), Err(IndexError::Cover(300)));
    assert!((0..bytes.len()).all(|length| Index::parse(&bytes[..length]).is_err()));
}

proptest! {
    /// Blocks of few kinds, so that many chunks end with the same one, are alike, or are found in more than one place.
    #[test]
    fn all_chunks_that_are_there_are_found_and_best_where_they_stay(
        image in prop::collection::vec(0u32..3, 1..100),
        booted in prop::collection::vec(0u32..3, 0..60),
        inactive in prop::collection::vec(0u32..3, 0..120),
        lengths in prop::collection::vec(1u8..6, 1..6),
    ) {
        let index = index(&image, &lengths);
        prop_assert_eq!(search(&index, &booted, &inactive), find(&index, &booted, &inactive));
    }

    #[test]
    fn a_plan_gives_the_image(
        image in prop::collection::vec(0u32..40, 1..120),
        booted in prop::collection::vec(0u32..40, 0..120),
        inactive in prop::collection::vec(0u32..40, 0..120),
        shared in 0usize..120,
        lengths in prop::collection::vec(1u8..12, 1..6),
        per_frame in 1usize..20,
    ) {
        let (mut booted, mut inactive) = (booted, inactive);
        booted.extend(&image[shared.min(image.len())..]);
        inactive.splice(0..0, image[..shared.min(image.len())].iter().skip(3).copied());
        let index = index(&image, &lengths);
        let payload = head(image.len(), per_frame);
        let steps = plan(&index, &payload, &search(&index, &booted, &inactive)).unwrap();
        follow(&steps, &payload, &image, &booted, &mut inactive);
        prop_assert_eq!(&inactive[..image.len()], &image[..]);
    }
}
