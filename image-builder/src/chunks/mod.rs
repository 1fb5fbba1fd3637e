//! Cuts an image into chunks and makes their index.
//!
//! A chunk begins where a file, a frame or the metadata does, so that what changed in one file touches no chunk of another and
//! no frame but its own.

use std::collections::{BTreeSet, HashSet};

use upright_manifests::chunks::{Chunk, Index, Leaf, MAX_CHUNK_BLOCKS, id_of};
use upright_manifests::digest::Digest;
use upright_manifests::payload::Head;

use crate::erofs::{Layout, Run};

/// The most blocks of a file's chunk: a longer file is cut into several.
const FILE_BLOCKS: u64 = 32;
/// The blocks of a chunk of metadata, which changes in many small places.
const METADATA_BLOCKS: u64 = 4;

/// The index of an image whose blocks have the hashes `leaves`, made with `salt`.
pub fn index(leaves: &[Leaf], salt: Digest, layout: &Layout, payload: &Head) -> Index {
    let blocks = leaves.len() as u64;
    let mut chunks = Vec::new();
    let mut start = 0;
    for end in boundaries(blocks, layout, payload).into_iter().skip_while(|end| *end == 0) {
        while start < end {
            let length = (end - start).min(MAX_CHUNK_BLOCKS as u64);
            chunks.push(chunk(leaves, start, length as u8));
            start += length;
        }
    }
    Index { blocks, salt, chunks }
}

/// The runs of an image's blocks that none of the images before has, by the blocks' hashes: what
/// [`crate::payload::encode`] keeps in frames of their own.
pub fn fresh<'a>(leaves: &[Leaf], before: impl IntoIterator<Item = &'a Leaf>) -> Vec<Run> {
    let known: HashSet<&Leaf> = before.into_iter().collect();
    let mut runs: Vec<Run> = Vec::new();
    for (block, _) in (0..).zip(leaves).filter(|(_, leaf)| !known.contains(leaf)) {
        match runs.last_mut() {
            Some(run) if run.start + run.blocks == block => run.blocks += 1,
            _ => runs.push(Run { start: block, blocks: 1 }),
        }
    }
    runs
}

fn boundaries(blocks: u64, layout: &Layout, payload: &Head) -> BTreeSet<u64> {
    let mut ends: BTreeSet<u64> = payload.frames.iter().map(|frame| frame.start).collect();
    let mut within = |start: u64, length: u64, step: u64| {
        ends.extend((0..length).step_by(step as usize).map(|at| start + at));
        ends.insert(start + length);
    };
    for run in &layout.metadata {
        within(run.start, run.blocks, METADATA_BLOCKS);
    }
    for file in &layout.files {
        within(file.start, file.size.div_ceil(upright_manifests::BLOCK_SIZE), FILE_BLOCKS);
    }
    ends.insert(blocks);
    ends.retain(|end| *end <= blocks);
    ends
}

fn chunk(leaves: &[Leaf], start: u64, blocks: u8) -> Chunk {
    let own = &leaves[start as usize..start as usize + usize::from(blocks)];
    let mut last = [0; 4];
    if let Some(leaf) = own.last() {
        last.copy_from_slice(&leaf[..4]);
    }
    Chunk { start, blocks, last, id: id_of(own) }
}

#[cfg(test)]
mod tests {
    use upright_manifests::chunks::{Holding, Search, Step, fetched, plan};
    use upright_manifests::name::Slot;
    use upright_manifests::payload::{Frame, Prefix};

    use super::*;
    use crate::erofs::FileRun;

    fn leaf(block: u64) -> Leaf {
        *Digest::of(&block.to_le_bytes()).as_bytes()
    }

    fn layout() -> Layout {
        let file = |start, size| FileRun { start, size, sha256: Digest::of(b""), path: format!("f{start}") };
        Layout {
            blocks: 900,
            metadata: vec![Run { start: 0, blocks: 10 }],
            files: vec![file(10, 20_000), file(15, 600 * 4096), file(620, 1)],
            ..Layout::default()
        }
    }

    #[test]
    fn a_changed_file_costs_its_own_frames_only() {
        let before: Vec<Leaf> = (0..900).map(leaf).collect();
        let mut after = before.clone();
        (10..15).for_each(|block| after[block as usize] = leaf(block + 5000));
        let fresh = fresh(&after, &before);
        assert_eq!(fresh, [Run { start: 10, blocks: 5 }]);
        let mut offset = 0;
        let frames = [(0, 10), (10, 5), (15, 500), (515, 385)].map(|(start, blocks)| {
            offset += 100;
            Frame { offset, packed: 100, start, blocks, prefix: Prefix::default(), sha256: Digest::of(b"") }
        });
        let payload = Head { blocks: 900, frames: frames.to_vec() };
        let index = index(&after, Digest::of(b"salt"), &layout(), &payload);
        assert_eq!(Index::parse(&index.to_bytes()), Ok(index.clone()));
        let mut search = Search::new(&index);
        let mut scan = search.scan(Slot::A, Holding::Source);
        before.iter().for_each(|leaf| scan.push(leaf));
        let steps = plan(&index, &payload, &search.finish()).unwrap();
        assert_eq!(fetched(&steps, &payload), 100, "{steps:?}");
        assert_eq!(steps[1], Step::Fetch { frames: 1..2 });
        assert_eq!(steps.len(), 3);
    }
}
