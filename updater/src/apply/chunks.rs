//! The way by chunks: what the slots hold already is found by their dm-verity trees, or by reading them, and the rest is fetched.

use std::io;
use std::ops::Range;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::chunks::{Holding, Index, Search, Step, fetched as bytes_of, plan};
use upright_manifests::digest::Digest;
use upright_manifests::name::Slot;
use upright_manifests::payload::{Frame, Head};
use upright_manifests::release::RootImage;

use super::error::WayError;
use super::full::{FrameUnpacker, payload_head, write};
use super::hints::{Hint, scan_content};
use super::install::Observer;
use super::readback::Partitions;
use super::target::{Target, WRITE};
use crate::fetch::Fetcher;
use crate::host::BlockDevice;

/// The longest index that is accepted, in bytes: looking for its 320,000 chunks takes 28 MiB of memory.
const MAX_INDEX: u64 = 4 << 20;

/// A slot whose blocks may be used.
pub(super) struct Holder<'a> {
    /// Its partitions.
    pub(super) at: Partitions<'a>,
    /// What it is to this update.
    pub(super) holding: Holding,
    /// What it holds.
    pub(super) told: Told,
}

/// What tells the hashes of the blocks that a slot holds.
pub(super) enum Told {
    /// Its hash tree.
    Tree(Hint),
    /// These blocks themselves, which are read.
    Content(Range<u64>),
}

impl Holder<'_> {
    fn has_salt(&self, salt: Digest) -> bool {
        match &self.told {
            Told::Tree(hint) => hint.salt == salt,
            Told::Content(_) => true,
        }
    }
}

/// Writes the image out of what `holders` have and what is missing.
pub(super) fn run(
    fetcher: &Fetcher<'_>,
    root: &RootImage,
    holders: &[Holder<'_>],
    target: &mut Target<'_>,
    observer: &mut Observer<'_>,
) -> Result<(), WayError> {
    if !holders.iter().any(|holder| holder.has_salt(root.verity.salt)) {
        return Err(WayError::NothingToUse);
    }
    let index = Index::parse(&fetcher.blob(&root.chunks, MAX_INDEX)?)?;
    let head = payload_head(fetcher, root)?;
    let mut search = Search::new(&index);
    for holder in holders.iter().filter(|holder| holder.has_salt(index.salt)) {
        let scan = search.scan(holder.at.slot, holder.holding);
        match &holder.told {
            Told::Tree(hint) => {
                hint.scan(holder.at.verity, scan).map_err(WayError::source("read a hash tree"))?;
            }
            Told::Content(blocks) => {
                observer.step(&format!("reading what slot {} holds", holder.at.slot));
                let mut observe = |at| observer.at(at);
                scan_content(holder.at.root, &index.salt, blocks.clone(), scan, &mut observe);
            }
        }
    }
    let steps = after(plan(&index, &head, &search.finish())?, target.durable() / BLOCK_SIZE, &head);
    drop(index);
    let bytes = bytes_of(&steps, &head);
    tracing::info!(bytes, "chunks to fetch");
    let needed = root.chunks.size + root.full.head_size + bytes;
    if needed > root.full.size {
        return Err(WayError::Dearer { needed, full: root.full.size });
    }
    if let Some(step) = steps.first() {
        target.seek(range_of(step, &head).0 * BLOCK_SIZE).map_err(WayError::device("write the slot"))?;
    }
    let parts: Vec<_> = steps.iter().flat_map(|step| frames_of(step, &head)).map(Frame::range).collect();
    fetcher.with_parts(root.full.path.as_str(), &parts, |parts| {
        let mut unpacker = FrameUnpacker::new()?;
        for step in &steps {
            match step {
                Step::Keep { blocks, .. } => {
                    target.skip(blocks * BLOCK_SIZE).map_err(WayError::device("write the slot"))?;
                }
                Step::Copy { slot, from, blocks, .. } => copy(holders, *slot, *from, *blocks, target)?,
                Step::Fetch { .. } => write(parts, frames_of(step, &head), &mut unpacker, target, observer)?,
            }
            observer.at(target.position());
        }
        Ok::<_, WayError>(())
    })?;
    target.finish().map_err(WayError::device("write the slot"))
}

/// The steps from `block` on; the first may begin before it.
fn after(steps: Vec<Step>, block: u64, head: &Head) -> Vec<Step> {
    let remaining = steps.into_iter().filter_map(|step| {
        let (to, blocks) = range_of(&step, head);
        let done = block.saturating_sub(to).min(blocks);
        match step {
            _ if to + blocks <= block => None,
            Step::Keep { to, blocks } => Some(Step::Keep { to: to + done, blocks: blocks - done }),
            Step::Copy { slot, from, to, blocks } => {
                Some(Step::Copy { slot, from: from + done, to: to + done, blocks: blocks - done })
            }
            Step::Fetch { frames } => {
                let gone = head.frames[frames.clone()]
                    .partition_point(|frame| frame.start + u64::from(frame.blocks) <= block);
                Some(Step::Fetch { frames: frames.start + gone..frames.end })
            }
        }
    });
    remaining.collect()
}

/// The first block that a step fills, and how many it fills.
fn range_of(step: &Step, head: &Head) -> (u64, u64) {
    match step {
        Step::Keep { to, blocks } | Step::Copy { to, blocks, .. } => (*to, *blocks),
        Step::Fetch { .. } => {
            let frames = frames_of(step, head);
            let start = frames.first().map_or(0, |frame| frame.start);
            (start, frames.iter().map(|frame| u64::from(frame.blocks)).sum())
        }
    }
}

fn frames_of<'h>(step: &Step, head: &'h Head) -> &'h [Frame] {
    match step {
        Step::Fetch { frames } => head.frames.get(frames.clone()).unwrap_or_default(),
        Step::Keep { .. } | Step::Copy { .. } => &[],
    }
}

fn copy(
    holders: &[Holder<'_>],
    slot: Slot,
    block: u64,
    blocks: u64,
    target: &mut Target<'_>,
) -> Result<(), WayError> {
    let missing = || io::Error::other("the plan names a slot that is not used");
    let holder = holders.iter().find(|holder| holder.at.slot == slot);
    let from: &dyn BlockDevice =
        holder.map(|holder| holder.at.root).ok_or_else(missing).map_err(WayError::source("copy blocks"))?;
    let (mut offset, mut left) = (block * BLOCK_SIZE, blocks * BLOCK_SIZE);
    while left > 0 {
        let part = left.min(WRITE as u64) as usize;
        let room = target.reserve(part).map_err(WayError::device("write the slot"))?;
        from.read_at(room, offset).map_err(WayError::source("copy blocks of a slot"))?;
        target.commit(part).map_err(WayError::device("write the slot"))?;
        offset += part as u64;
        left -= part as u64;
    }
    Ok(())
}
