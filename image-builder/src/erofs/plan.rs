//! Decides where everything goes: a pure function of what an image holds and the layout it follows.

use std::collections::{BTreeMap, BTreeSet};

use upright_manifests::BLOCK_SIZE;
use upright_manifests::digest::Digest;
use upright_manifests::erofs::SLOT;

use super::WriteError;
use super::layout::{Apart, FileRun, Layout, Record, RecordOf, Records, Run, path_text};
use super::model::{Data, Model, Node};
use super::space::{Old, Space, Want};
use crate::tree::Content;

/// Slots in a block.
const PAGE: u64 = BLOCK_SIZE / SLOT as u64;
/// More blocks than an image can have, and more slots than its metadata.
const ENDLESS: u64 = 1 << 60;
/// No boundary that a run of blocks could cross.
const NO_PAGE: u64 = u64::MAX;
/// A layout that leaves more than this part of its blocks unused is not followed.
const WASTE: u64 = 10;

/// Where everything is.
pub(super) struct Plan<'a> {
    /// What the next image follows.
    pub(super) layout: Layout,
    /// The slot of each node's record, which is its number.
    pub(super) slots: Vec<u64>,
    /// The slot of each shared extended attribute.
    pub(super) xattr_slots: Vec<u64>,
    /// The first block of each node's data, zero if it has no blocks.
    pub(super) blocks: Vec<u64>,
    /// Contents by their first block.
    pub(super) files: BTreeMap<u64, &'a Content>,
    /// Whether the base was followed.
    pub(super) followed: bool,
}

impl<'a> Plan<'a> {
    /// Follows `base` if there is one and it does not waste too much; else places everything anew, sorted by path.
    pub(super) fn new(model: &Model<'a>, base: Option<&Layout>) -> Result<Self, WriteError> {
        let distinct = Distinct::of(model);
        if let Some(base) = base
            && let Some(plan) = Self::arrange(model, &distinct, Some(base))
            && plan.waste() * WASTE <= plan.layout.blocks
        {
            return plan.checked();
        }
        Self::arrange(model, &distinct, None).ok_or(WriteError::TooLarge)?.checked()
    }

    fn arrange(model: &Model<'a>, distinct: &Distinct<'a>, base: Option<&Layout>) -> Option<Self> {
        let meta = Metadata::arrange(model, base)?;
        let apart = || model.nodes.iter().enumerate().filter(|(_, node)| is_apart(node));
        let mut wants = vec![meta.want()];
        wants.extend(apart().map(|(_, node)| want_apart(node, base)));
        let old_files = OldFiles::of(base, distinct);
        wants.extend(distinct.files.iter().map(|file| old_files.want(file)));
        let starts = Space::new(1, ENDLESS, NO_PAGE).place(&wants)?;

        let region = Run { start: starts[0], blocks: meta.region_blocks };
        let mut blocks = vec![0; model.nodes.len()];
        let (apart_starts, file_starts) = starts[1..].split_at(apart().count());
        apart().zip(apart_starts).for_each(|((index, _), &start)| blocks[index] = start);
        let of_file = |index: usize| distinct.of_node[index].map(|file| file_starts[file]);
        (0..blocks.len()).for_each(|index| blocks[index] = of_file(index).unwrap_or(blocks[index]));
        let files =
            distinct.files.iter().zip(file_starts).map(|(file, &start)| (start, file.content)).collect();
        let ends = starts.iter().zip(&wants).map(|(start, want)| start + want.length);
        let layout = Layout {
            blocks: ends.max().unwrap_or(1),
            metadata: metadata_runs(region, model, &blocks),
            files: distinct.runs(file_starts),
            records: records(region, model, &meta, &blocks),
        };
        let Metadata { slots, xattr_slots, .. } = meta;
        Some(Self { layout, slots, xattr_slots, blocks, files, followed: base.is_some() })
    }

    /// How many blocks hold nothing.
    fn waste(&self) -> u64 {
        let files: u64 = self.layout.files.iter().map(FileRun::blocks).sum();
        let metadata: u64 = self.layout.metadata.iter().map(|run| run.blocks).sum();
        self.layout.blocks - files - metadata
    }

    /// The plan, if the format can address all of it.
    fn checked(self) -> Result<Self, WriteError> {
        let root_fits = self.slots.first().is_some_and(|&slot| u16::try_from(slot).is_ok());
        let blocks_fit = u32::try_from(self.layout.blocks).is_ok();
        if root_fits && blocks_fit { Ok(self) } else { Err(WriteError::TooLarge) }
    }
}

/// Where the records are in the metadata region.
struct Metadata {
    slots: Vec<u64>,
    xattr_slots: Vec<u64>,
    /// The lengths behind `slots` and `xattr_slots`, in that order.
    lengths: Vec<u64>,
    region_blocks: u64,
    /// The region's place, if the base's is kept.
    kept: Option<Run>,
}

impl Metadata {
    /// Places the records in the base's region, or in a new one if they do not fit there or it has become far too large.
    fn arrange(model: &Model<'_>, base: Option<&Layout>) -> Option<Self> {
        let fresh = Self::fresh(model)?;
        let kept = base.and_then(|base| Self::kept(model, &base.records));
        Some(kept.filter(|kept| kept.region_blocks / 2 <= fresh.region_blocks).unwrap_or(fresh))
    }

    fn kept(model: &Model<'_>, base: &Records) -> Option<Self> {
        let end = base.region.blocks.checked_mul(PAGE)?;
        let starts = Space::new(1, end, PAGE).place(&record_wants(model, Some(base)))?;
        let root_fits = u16::try_from(starts[0]).is_ok();
        root_fits.then(|| Self::new(model, starts, base.region.blocks, Some(base.region)))
    }

    fn fresh(model: &Model<'_>) -> Option<Self> {
        let wants = record_wants(model, None);
        let starts = Space::new(1, ENDLESS, PAGE).place(&wants)?;
        let end = starts.iter().zip(&wants).map(|(start, want)| start + want.length).max()?;
        let used = end.div_ceil(PAGE);
        Some(Self::new(model, starts, used + (used / 8).max(1), None))
    }

    fn new(model: &Model<'_>, mut starts: Vec<u64>, region_blocks: u64, kept: Option<Run>) -> Self {
        let lengths = record_wants(model, None).iter().map(|want| want.length).collect();
        let xattr_slots = starts.split_off(model.nodes.len());
        Self { slots: starts, xattr_slots, lengths, region_blocks, kept }
    }

    /// What is wanted for the region: its old place, or a new one.
    fn want(&self) -> Want {
        let old = self.kept.map(|run| Old { start: run.start, length: run.blocks, same: true });
        Want { length: self.region_blocks, old }
    }
}

/// What is wanted for each node's record and then for each shared extended attribute.
fn record_wants(model: &Model<'_>, base: Option<&Records>) -> Vec<Want> {
    let old: BTreeMap<&RecordOf, &Record> =
        base.iter().flat_map(|base| &base.records).map(|record| (&record.of, record)).collect();
    let want = |(of, length): (RecordOf, u64)| {
        let record = old.get(&of);
        let old = record.map(|it| Old { start: it.slot, length: it.slots, same: it.slots == length });
        Want { length, old }
    };
    record_lengths(model).map(want).collect()
}

/// What each record holds and its length in slots. The root has the rest of the first block, so that it can grow and
/// keep a number of 16 bits; number zero is left out, as programs take it for a deleted file.
fn record_lengths<'m>(model: &'m Model<'_>) -> impl Iterator<Item = (RecordOf, u64)> + 'm {
    let of_node = |(index, node): (usize, &Node<'_>)| {
        let least = if index == 0 { PAGE - 1 } else { 1 };
        (RecordOf::Path(path_text(node.path())), node.slots().max(least))
    };
    let of_xattr = |entry: &[u8]| (RecordOf::Xattr(Digest::of(entry)), entry.len().div_ceil(SLOT) as u64);
    model.nodes.iter().enumerate().map(of_node).chain(model.pool.shared().map(of_xattr))
}

fn records(region: Run, model: &Model<'_>, meta: &Metadata, blocks: &[u64]) -> Records {
    let slots = meta.slots.iter().chain(&meta.xattr_slots);
    let of = record_lengths(model).map(|(of, _)| of);
    let placed = slots.zip(&meta.lengths).zip(of);
    let mut records: Vec<Record> = placed.map(|((&slot, &slots), of)| Record { slot, slots, of }).collect();
    records.sort_by_key(|record| record.slot);
    let apart = model.nodes.iter().zip(blocks).filter(|(node, _)| is_apart(node));
    let mut apart: Vec<Apart> = apart
        .map(|(node, &start)| Apart { start, blocks: node.blocks(), path: path_text(node.path()) })
        .collect();
    apart.sort_by_key(|apart| apart.start);
    Records { region, records, apart }
}

/// Whether a node's data is metadata in blocks of its own.
fn is_apart(node: &Node<'_>) -> bool {
    node.blocks() > 0 && matches!(node.data, Data::Directory(_) | Data::Target(_))
}

fn want_apart(node: &Node<'_>, base: Option<&Layout>) -> Want {
    let path = path_text(node.path());
    let old = base.and_then(|base| base.records.apart.iter().find(|apart| apart.path == path));
    let length = node.blocks();
    let old = old.map(|old| Old { start: old.start, length: old.blocks, same: old.blocks == length });
    Want { length, old }
}

/// The runs of metadata in ascending order, neighbours joined.
fn metadata_runs(region: Run, model: &Model<'_>, blocks: &[u64]) -> Vec<Run> {
    let apart = model.nodes.iter().zip(blocks).filter(|(node, _)| is_apart(node));
    let apart = apart.map(|(node, &start)| Run { start, blocks: node.blocks() });
    let mut runs: Vec<Run> = [Run { start: 0, blocks: 1 }, region].into_iter().chain(apart).collect();
    runs.sort_by_key(|run| run.start);
    runs.dedup_by(|next, run| {
        let joined = run.start + run.blocks == next.start;
        run.blocks += if joined { next.blocks } else { 0 };
        joined
    });
    runs
}

/// The distinct contents of a tree, ordered by the first path that has them.
struct Distinct<'a> {
    files: Vec<DistinctFile<'a>>,
    /// For each node the index of its content.
    of_node: Vec<Option<usize>>,
}

struct DistinctFile<'a> {
    content: &'a Content,
    /// All paths that have it, in order.
    paths: BTreeSet<&'a [u8]>,
}

impl<'a> Distinct<'a> {
    fn of(model: &Model<'a>) -> Self {
        let mut known: BTreeMap<(Digest, u64), usize> = BTreeMap::new();
        let mut files: Vec<DistinctFile<'a>> = Vec::new();
        let mut of_node = Vec::with_capacity(model.nodes.len());
        for node in &model.nodes {
            let Data::File(content) = node.data else {
                of_node.push(None);
                continue;
            };
            let index = *known.entry((content.sha256, content.size)).or_insert(files.len());
            if index == files.len() {
                files.push(DistinctFile { content, paths: BTreeSet::new() });
            }
            files[index].paths.extend(&node.paths);
            of_node.push(Some(index));
        }
        Self { files, of_node }
    }

    fn runs(&self, starts: &[u64]) -> Vec<FileRun> {
        let run = |(file, &start): (&DistinctFile<'_>, &u64)| FileRun {
            start,
            size: file.content.size,
            sha256: file.content.sha256,
            path: file.path(),
        };
        let mut runs: Vec<FileRun> = self.files.iter().zip(starts).map(run).collect();
        runs.sort_by_key(|run| run.start);
        runs
    }
}

impl DistinctFile<'_> {
    fn path(&self) -> String {
        path_text(self.paths.first().copied().unwrap_or_default())
    }

    fn blocks(&self) -> u64 {
        self.content.size.div_ceil(BLOCK_SIZE)
    }
}

/// The files of the layout that is followed.
struct OldFiles<'b> {
    by_content: BTreeMap<(Digest, u64), &'b FileRun>,
    /// Those whose content is gone, by path.
    gone: BTreeMap<&'b str, &'b FileRun>,
}

impl<'b> OldFiles<'b> {
    fn of(base: Option<&'b Layout>, distinct: &Distinct<'_>) -> Self {
        let files = || base.iter().flat_map(|base| &base.files);
        let kept: BTreeSet<(Digest, u64)> =
            distinct.files.iter().map(|file| (file.content.sha256, file.content.size)).collect();
        let gone = files().filter(|run| !kept.contains(&(run.sha256, run.size)));
        Self {
            by_content: files().map(|run| ((run.sha256, run.size), run)).collect(),
            gone: gone.map(|run| (run.path.as_str(), run)).collect(),
        }
    }

    /// The blocks that have the content, or those of the content that one of its paths had.
    fn want(&self, file: &DistinctFile<'_>) -> Want {
        let same = self.by_content.get(&(file.content.sha256, file.content.size));
        let replaced = || file.paths.iter().find_map(|path| self.gone.get(path_text(path).as_str()));
        let old = |run: &&FileRun, same| Old { start: run.start, length: run.blocks(), same };
        let old = same.map(|run| old(run, true)).or_else(|| replaced().map(|run| old(run, false)));
        Want { length: file.blocks(), old }
    }
}
