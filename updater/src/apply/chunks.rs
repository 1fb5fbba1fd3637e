//! The way by chunks: what the slots hold already is found by their dm-verity trees, the rest is fetched.
//!
//! A tree is only a hint here. One that lies, because its slot was half written or is damaged, costs a download: the
//! read-back tells.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::AtomicU64;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::chunks::{Holding, Index, Scan, Search, Step, fetched as bytes_of, plan};
use upright_manifests::digest::Digest;
use upright_manifests::name::Slot;
use upright_manifests::payload::{Frame, Head, Unpacker};
use upright_manifests::release::RootImage;
use upright_manifests::verity::{Geometry, SUPERBLOCK_SIZE, Superblock};

use super::error::WayError;
use super::full::{payload_head, write};
use super::install::Observer;
use super::target::Target;
use crate::fetch::{FetchError, Retry, with_parts};
use crate::host::{BlockDevice, Remote};
use crate::slot::IO_SIZE;

/// The longest index that is accepted, in bytes.
const MAX_INDEX: u64 = 64 << 20;

/// A slot whose blocks may be used.
pub(super) struct Holder<'a> {
    /// Which slot.
    pub(super) slot: Slot,
    /// Its root partition.
    pub(super) root: &'a dyn BlockDevice,
    /// Its verity partition.
    pub(super) verity: &'a dyn BlockDevice,
}

/// Writes the image out of what `holder` has and what is missing.
pub(super) fn run(
    remote: &dyn Remote,
    root: &RootImage,
    holder: &Holder<'_>,
    retry: Retry,
    target: &mut Target<'_>,
    fetched: &AtomicU64,
    observer: &mut Observer<'_>,
) -> Result<(), WayError> {
    let index = fetch_index(remote, root, retry, fetched)?;
    let head = payload_head(remote, root, retry)?;
    let mut search = Search::new(&index);
    scan(&index.salt, holder, search.scan(holder.slot, Holding::Source))
        .map_err(WayError::device("read a hash tree"))?;
    let steps = after(plan(&index, &head, &search.finish())?, target.durable() / BLOCK_SIZE, &head);
    tracing::info!(bytes = bytes_of(&steps, &head), "chunks to fetch");
    if let Some(step) = steps.first() {
        target.rewind(range_of(step, &head).0 * BLOCK_SIZE);
    }
    let wanted: Vec<Frame> = steps.iter().flat_map(|step| frames_of(step, &head)).cloned().collect();
    let parts: Vec<_> = wanted.iter().map(Frame::range).collect();
    let holders = BTreeMap::from([(holder.slot, holder.root)]);
    with_parts(remote, root.full.path.as_str(), &parts, retry, fetched, |parts| {
        let mut unpacker = Unpacker::new()?;
        for step in &steps {
            match step {
                Step::Keep { blocks, .. } => {
                    target.skip(blocks * BLOCK_SIZE).map_err(WayError::device("write the slot"))?;
                }
                Step::Copy { slot, from, blocks, .. } => copy(holders.get(slot), *from, *blocks, target)
                    .map_err(WayError::device("copy from the other slot"))?,
                Step::Fetch { .. } => {
                    write(parts, frames_of(step, &head), &mut unpacker, target, observer)?;
                }
            }
            observer.at(target.position());
        }
        Ok::<_, WayError>(())
    })?;
    target.finish().map_err(WayError::device("write the slot"))
}

fn fetch_index(
    remote: &dyn Remote,
    root: &RootImage,
    retry: Retry,
    fetched: &AtomicU64,
) -> Result<Index, WayError> {
    let (path, size) = (root.chunks.path.as_str(), root.chunks.size);
    if size > MAX_INDEX {
        let error = FetchError::TooLarge { path: path.to_owned(), length: size, limit: MAX_INDEX };
        return Err(error.into());
    }
    let whole = 0..size;
    let whole = std::slice::from_ref(&whole);
    let bytes = with_parts(remote, path, whole, retry, fetched, |parts| parts.next())?;
    match Digest::of(&bytes) {
        found if found == root.chunks.sha256 => Ok(Index::parse(&bytes)?),
        found => {
            let (path, expected) = (path.to_owned(), root.chunks.sha256);
            Err(FetchError::Hash { path, expected, found }.into())
        }
    }
}

/// Hands the hashes of a slot's blocks to the search. A slot without a usable tree holds nothing.
fn scan(salt: &Digest, holder: &Holder<'_>, mut scan: Scan<'_, '_>) -> io::Result<()> {
    let mut first = vec![0; BLOCK_SIZE as usize];
    holder.verity.read_at(&mut first, 0)?;
    let superblock = first.first_chunk::<SUPERBLOCK_SIZE>().and_then(|bytes| Superblock::parse(bytes).ok());
    let Some(superblock) = superblock.filter(|superblock| superblock.salt == *salt) else { return Ok(()) };
    let Ok(geometry) = Geometry::new(superblock.data_blocks) else { return Ok(()) };
    let blocks = superblock.data_blocks;
    let Some(start) = geometry.leaf_offset(0).filter(|_| blocks > 1) else { return Ok(()) };
    let mut left = blocks;
    let mut offset = start;
    let mut buffer = vec![0; IO_SIZE];
    while left > 0 {
        let hashes = left.min((IO_SIZE / 32) as u64);
        let bytes = (hashes * 32).next_multiple_of(BLOCK_SIZE) as usize;
        holder.verity.read_at(&mut buffer[..bytes], offset)?;
        let (leaves, _) = buffer[..hashes as usize * 32].as_chunks::<32>();
        leaves.iter().for_each(|leaf| scan.push(leaf));
        left -= hashes;
        offset += bytes as u64;
    }
    Ok(())
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

fn copy(from: Option<&&dyn BlockDevice>, block: u64, blocks: u64, target: &mut Target<'_>) -> io::Result<()> {
    let from = from.ok_or_else(|| io::Error::other("the plan names a slot that is not used"))?;
    let mut buffer = vec![0; IO_SIZE];
    let (mut offset, mut left) = (block * BLOCK_SIZE, blocks * BLOCK_SIZE);
    while left > 0 {
        let part = left.min(IO_SIZE as u64) as usize;
        from.read_at(&mut buffer[..part], offset)?;
        io::Write::write_all(target, &buffer[..part])?;
        offset += part as u64;
        left -= part as u64;
    }
    Ok(())
}
