//! The whole installation: ways until one leads there, the read-back, the UKI.

use std::io;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::bytes::human;
use upright_manifests::chunks::Holding;
use upright_manifests::digest::Digest;
use upright_manifests::release::Release;

use super::chunks::{Holder, Told};
use super::delta::Images;
use super::error::{ApplyError, WayError};
use super::first::First;
use super::foresee::require_whole;
use super::hints::{Before, Hint};
use super::readback::{self, Partitions};
use super::target::{Noted, Target};
use super::ways::{Allowance, Way, WayPlan, ways};
use super::{chunks, delta, full, uki};
use crate::agent::Reporter;
use crate::boot::{BootLoader, Entry};
use crate::fetch::Fetcher;
use crate::machine::{Progress, WayTaken};
use crate::store::StoreError;

/// What is to be installed, from where to where.
pub struct Job<'a> {
    /// The repository.
    pub fetcher: &'a Fetcher<'a>,
    /// The boot loader, whose entry for the slot is gone already.
    pub boot: &'a dyn BootLoader,
    /// The release.
    pub release: &'a Release,
    /// Its boot entry.
    pub entry: &'a Entry,
    /// The slot it goes to.
    pub target: Partitions<'a>,
    /// The slot that runs.
    pub base: Partitions<'a>,
    /// The root hash of what runs.
    pub base_hash: Digest,
    /// What it may use.
    pub allowance: Allowance<'a>,
}

/// Keeps the progress, durably.
pub(super) type Keep<'a> = &'a mut dyn FnMut(&Progress) -> Result<(), StoreError>;

/// Tells how far a step is.
pub(super) struct Observer<'a> {
    reporter: &'a mut dyn Reporter,
    total: u64,
}

impl Observer<'_> {
    /// A step begins.
    pub(super) fn step(&mut self, line: &str) {
        self.reporter.step(line);
    }

    /// The step got as far as a position in the image. A slot may hold a longer one.
    pub(super) fn at(&mut self, position: u64) {
        self.reporter.bytes(position.min(self.total), self.total);
    }
}

/// Installs the release, going on from `progress`. When it returns without an error, the slot holds the release, read back and
/// compared, and the UKI is staged, read back and compared.
pub fn install(
    job: &Job<'_>,
    progress: Progress,
    keep: Keep<'_>,
    reporter: &mut dyn Reporter,
) -> Result<WayTaken, ApplyError> {
    let plan = ways(job.release, &job.base_hash, job.allowance);
    let (last, reached) = (progress.way.clone(), progress.place());
    let next = plan.ways.iter().position(|(way, _)| way.name() == last).unwrap_or(0);
    let resumed = progress.durable > 0 || progress.segments.is_some();
    let first = First::conceal(job.target, resumed, &job.release.root.verity)
        .map_err(|source| ApplyError::Device { what: "clear the slot's superblocks".to_owned(), source })?;
    let (writes, before) = (plan.writes, progress.fetched);
    let ahead = job.fetcher.fetched();
    let mut work = Work { job, first, writes, before, ahead, progress, keep, reporter };
    let (mut failed, mut ended) = (Vec::new(), false);
    for (way, fetches) in &plan.ways[next..] {
        match work.attempt(way, *fetches)? {
            Ok(()) => return work.finish(),
            Err(error) => {
                tracing::warn!(way = way.name(), "{error}");
                // A server that gave the release's manifest a moment ago, and twice nothing of this way, has only that to hide.
                let is_stuck = error.is_temporary() && way.name() == last && work.progress.place() == reached;
                ended = error.concerns_all_ways() && !is_stuck;
                failed.push((way.name().to_owned(), error));
                if ended {
                    break;
                }
            }
        }
    }
    let next = match failed.first() {
        Some(_) if !ended => begin_again(&plan, &work.progress, job.release.root.size),
        // It was the server after all: another run begins with the best way again.
        Some((_, first)) if failed.len() > 1 && first.concerns_all_ways() => last,
        _ => work.progress.way.clone(),
    };
    if next != work.progress.way {
        work.progress.way = next;
        (work.keep)(&work.progress)?;
    }
    let (slot, version) = (job.target.slot, job.release.version.clone());
    match failed.pop() {
        Some((way, WayError::ReadBack { expected, found })) => {
            Err(ApplyError::ReadBack { slot, version, way, expected, found })
        }
        last => Err(ApplyError::NoWay { version, ways: failed.into_iter().chain(last).collect() }),
    }
}

/// The way that another run begins with when all have failed: the cheapest, or the last one if it wrote so much of the image of
/// `size` bytes that it has less left to fetch.
pub(super) fn begin_again(plan: &WayPlan, progress: &Progress, size: u64) -> String {
    // What is there from the image's start is of use to every way but a delta.
    let left = |(way, bytes): &(Way, u64)| match way {
        Way::Delta(_) => u128::from(*bytes),
        Way::Chunks | Way::Full => {
            u128::from(*bytes) * u128::from(size.saturating_sub(progress.durable)) / u128::from(size.max(1))
        }
    };
    let last = plan.ways.iter().find(|(way, _)| way.name() == progress.way);
    let next = plan.ways.iter().take(1).chain(last).min_by_key(|way| left(way));
    next.map(|(way, _)| way.name().to_owned()).unwrap_or_default()
}

/// An installation under way.
struct Work<'w, 'j> {
    job: &'w Job<'j>,
    first: First<'j>,
    /// How many bytes are written at most.
    writes: u64,
    /// Bytes that were fetched by runs before this one.
    before: u64,
    /// Bytes that were fetched for this run before it began.
    ahead: u64,
    progress: Progress,
    keep: Keep<'w>,
    reporter: &'w mut dyn Reporter,
}

impl Work<'_, '_> {
    /// Writes the slot by one way and reads it back. What reads back wrong is mended, once, by fetching what is wrong.
    fn attempt(&mut self, way: &Way, fetches: u64) -> Result<Result<(), WayError>, ApplyError> {
        let (version, slot) = (&self.job.release.version, self.job.target.slot);
        // Half a way costs more than none.
        if let Err(error) = require_whole(self.job.fetcher, self.job.release, way) {
            return Ok(Err(error));
        }
        if self.progress.way != way.name() {
            way.name().clone_into(&mut self.progress.way);
            self.progress.segments = None;
        }
        let verb = if self.progress.durable > 0 { "going on" } else { "beginning" };
        let (fetched, written) =
            ((self.before + self.job.fetcher.fetched()).saturating_sub(self.ahead), self.progress.written);
        let beside = match fetched + written {
            0 => String::new(),
            _ => format!(", beside the {} fetched and {} written so far", human(fetched), human(written)),
        };
        self.reporter.step(&format!(
            "{verb} to write {version} to slot {slot} by {}: at most {} to fetch and {} to write{beside}",
            way.name(),
            human(fetches),
            human(self.writes)
        ));
        if let Err(error) = self.write(way) {
            return Ok(Err(error));
        }
        let Some(mismatch) = self.read_back()? else { return Ok(Ok(())) };
        if self.job.allowance.without.iter().any(|name| name == Way::Chunks.name()) {
            return Ok(Err(mismatch));
        }
        tracing::warn!(way = way.name(), "{mismatch}; fetching what is wrong");
        Way::Chunks.name().clone_into(&mut self.progress.way);
        let most = human(self.job.release.root.full.size);
        self.reporter.step(&format!("mending slot {slot}: at most {most} more to fetch"));
        if let Err(error) = self.mend() {
            tracing::warn!("cannot mend it: {error}");
            return Ok(Err(if error.concerns_all_ways() { error } else { mismatch }));
        }
        Ok(self.read_back()?.map_or(Ok(()), Err))
    }

    fn write(&mut self, way: &Way) -> Result<(), WayError> {
        let (job, root, progress) = (self.job, &self.job.release.root, &self.progress);
        let done = match (way, progress.segments) {
            (Way::Delta(edge), Some((delta, segments))) if delta == edge.delta.sha256 => segments,
            _ => 0,
        };
        let mut holders = Vec::new();
        if let (Way::Chunks, Some(hint)) = (way, Hint::of(job.base.verity).ok().flatten()) {
            let told = Told::Tree(hint);
            holders.push(Holder { at: job.base, holding: Holding::Source, told });
        }
        let (image, durable) = (root.verity.data_blocks, progress.durable / BLOCK_SIZE);
        let told = match self.first.before() {
            Before::Whole(hint) => Some(Told::Tree(hint)),
            Before::Mixed(blocks) if durable < image => Some(Told::Content(durable..blocks.max(image))),
            Before::Mixed(_) | Before::Unknown => None,
        };
        if let (Way::Chunks, Some(told)) = (way, told) {
            holders.push(Holder { at: job.target, holding: Holding::Destination, told });
        }
        self.with_target(|first, target, observer| match way {
            Way::Full => full::run(job.fetcher, root, target, observer),
            Way::Chunks => chunks::run(job.fetcher, root, &holders, target, observer),
            Way::Delta(edge) => {
                if let (Before::Whole(held), Ok(Some(base))) = (first.before(), Hint::of(job.base.verity)) {
                    let (base, held) = ((&base, job.base.verity), (&held, job.target.verity));
                    target.believe(Hint::common(base, held).unwrap_or_default());
                }
                let images = Images::making(job.base.root, job.target.root, first);
                delta::run(job.fetcher, root, edge, &images, done, target, observer)
            }
        })
    }

    /// Fetches what is not as it should be: the read-back has made the tree of what is there.
    fn mend(&mut self) -> Result<(), WayError> {
        let (job, root) = (self.job, &self.job.release.root);
        let told = Told::Tree(Hint::written(&root.verity));
        let mut holders = vec![Holder { at: job.target, holding: Holding::Destination, told }];
        if let Ok(Some(base)) = Hint::of(job.base.verity) {
            // What is wrong may have come from there: its tree is not believed.
            let told = Told::Content(0..base.blocks);
            holders.insert(0, Holder { at: job.base, holding: Holding::Source, told });
        }
        self.with_target(|_, target, observer| chunks::run(job.fetcher, root, &holders, target, observer))
    }

    /// Runs something that writes the root partition, and keeps account of it.
    fn with_target(
        &mut self,
        work: impl FnOnce(&First<'_>, &mut Target<'_>, &mut Observer<'_>) -> Result<(), WayError>,
    ) -> Result<(), WayError> {
        let (job, first, before) = (self.job, &self.first, self.before);
        let (progress, keep) = (&mut self.progress, &mut *self.keep);
        let (durable, written) = (progress.durable, progress.written);
        let mut checkpoint = |noted: Noted| {
            (progress.durable, progress.segments) = (noted.durable, noted.segments);
            progress.fetched = before + job.fetcher.fetched();
            progress.written = written + noted.written;
            keep(progress).map_err(io::Error::other)
        };
        let may_hold = first.before() != Before::Unknown;
        let mut target = Target::new(job.target, first, durable, may_hold, &mut checkpoint);
        let mut observer = Observer { reporter: self.reporter, total: job.release.root.size };
        let result = work(first, &mut target, &mut observer);
        let now = target.written();
        if now > 0 {
            first.touch();
        }
        self.progress.fetched = before + job.fetcher.fetched();
        self.progress.written = written + now;
        if result.is_err() {
            // What it cost is told even so; when that cannot be kept, the error that led here is the one to tell.
            let _ = (self.keep)(&self.progress);
        }
        result
    }

    /// Reads the slot back; what is not what was signed is an error of the way, and what was written counts for nothing.
    fn read_back(&mut self) -> Result<Option<WayError>, ApplyError> {
        let (release, slot) = (self.job.release, self.job.target.slot);
        self.reporter.step(&format!("reading slot {slot} back"));
        let reporter = &mut *self.reporter;
        let observe = &mut |at| reporter.bytes(at, release.root.size);
        let (version, params) = (&release.version, &release.root.verity);
        let result =
            readback::verify(self.job.target, &self.first, version, &self.progress.way, params, observe);
        match result {
            Ok(()) => Ok(None),
            Err(ApplyError::ReadBack { expected, found, .. }) => {
                (self.progress.durable, self.progress.segments) = (0, None);
                (self.keep)(&self.progress)?;
                Ok(Some(WayError::ReadBack { expected, found }))
            }
            Err(error) => Err(error),
        }
    }

    fn finish(self) -> Result<WayTaken, ApplyError> {
        let Self { job, before, mut progress, keep, reporter, .. } = self;
        // A restart from here on reads the slot back again and fetches no more of it.
        progress.durable = job.release.root.size;
        keep(&progress)?;
        reporter.step("composing the UKI");
        uki::stage(job.fetcher, job.release, job.target.root, |uki| job.boot.stage(job.entry, uki))?;
        uki::compare_staged(job.release, job.boot.staged(job.entry))?;
        let fetched = before + job.fetcher.fetched();
        Ok(WayTaken { way: progress.way, fetched, written: progress.written, milliseconds: 0, medium: None })
    }
}
