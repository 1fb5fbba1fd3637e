//! The whole installation: ways until one leads there, the read-back, the UKI.

use std::io;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::bytes::human;
use upright_manifests::chunks::Holding;
use upright_manifests::digest::Digest;
use upright_manifests::release::Release;

use super::delta::Images;
use super::error::{ApplyError, WayError};
use super::first::First;
use super::hints::Hint;
use super::readback::{self, Partitions};
use super::target::{MAX_UNNOTED, Noted, Target};
use super::ways::{Allowance, Way, ways};
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
    pub(super) fn at(&mut self, position: u64) {
        self.reporter.bytes(position, self.total);
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
    let held_release = first.hint().is_some();
    let mut work = Work {
        job,
        first,
        held_release,
        writes: plan.writes,
        before: progress.fetched,
        progress,
        keep,
        reporter,
    };
    let mut failed = Vec::new();
    for (way, fetches) in &plan.ways[next..] {
        match work.attempt(way, *fetches)? {
            Ok(()) => return work.finish(),
            Err(error) => {
                tracing::warn!(way = way.name(), "{error}");
                // A server that gave the release's manifest a moment ago, and twice nothing of this way, has only that to hide.
                let is_stuck = error.is_temporary() && way.name() == last && work.progress.place() == reached;
                let ends = error.concerns_all_ways() && !is_stuck;
                failed.push((way.name().to_owned(), error));
                if ends {
                    break;
                }
            }
        }
    }
    if failed.len() > 1 && failed.first().is_some_and(|(_, error)| error.concerns_all_ways()) {
        // It was the server after all: another run begins with the best way again.
        last.clone_into(&mut work.progress.way);
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

/// An installation under way.
struct Work<'w, 'j> {
    job: &'w Job<'j>,
    first: First<'j>,
    /// Whether the slot held a whole release, as far as its hash tree tells.
    held_release: bool,
    /// How many bytes are written at most.
    writes: u64,
    /// Bytes that were fetched by runs before this one.
    before: u64,
    progress: Progress,
    keep: Keep<'w>,
    reporter: &'w mut dyn Reporter,
}

impl Work<'_, '_> {
    /// Writes the slot by one way and reads it back. What reads back wrong is mended, once, by fetching what is wrong.
    fn attempt(&mut self, way: &Way, fetches: u64) -> Result<Result<(), WayError>, ApplyError> {
        let (version, slot) = (&self.job.release.version, self.job.target.slot);
        if self.progress.way != way.name() {
            way.name().clone_into(&mut self.progress.way);
            self.progress.segments = None;
        }
        let verb = if self.progress.durable > 0 { "going on" } else { "beginning" };
        self.reporter.step(&format!(
            "{verb} to write {version} to slot {slot} by {}: at most {} to fetch and {} to write",
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
        self.reporter.step(&format!("mending slot {slot}"));
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
        let untouched = progress.durable == 0 && progress.written == 0;
        let mut holders = Vec::new();
        if let (Way::Chunks, Some(hint)) = (way, Hint::of(job.base.verity).ok().flatten()) {
            holders.push(chunks::Holder { at: job.base, hint, holding: Holding::Source, from: 0 });
        }
        if let (Way::Chunks, Some(hint)) = (way, self.first.hint()) {
            let unnoted = if progress.durable > 0 { MAX_UNNOTED } else { 0 };
            let from = (progress.durable + unnoted).div_ceil(BLOCK_SIZE);
            holders.push(chunks::Holder { at: job.target, hint, holding: Holding::Destination, from });
        }
        self.with_target(|first, target, observer| match way {
            Way::Full => full::run(job.fetcher, root, target, observer),
            Way::Chunks => chunks::run(job.fetcher, root, &holders, target, observer),
            Way::Delta(edge) => {
                if let (true, Some(held), Ok(Some(base))) =
                    (untouched, first.hint(), Hint::of(job.base.verity))
                {
                    let (base, held) = ((&base, job.base.verity), (&held, job.target.verity));
                    target.believe(Hint::common(base, held).unwrap_or_default());
                }
                // Its segments come in any order, so what the slot held before cannot be told any more after a restart.
                first.forget_hint().map_err(WayError::device("write the hash tree"))?;
                let images = Images::making(job.base.root, job.target.root, first);
                delta::run(job.fetcher, root, edge, &images, done, target, observer)
            }
        })
    }

    /// Fetches what is not as it should be: the read-back has made the tree of what is there.
    fn mend(&mut self) -> Result<(), WayError> {
        let (job, root) = (self.job, &self.job.release.root);
        let hint = Hint::written(&root.verity);
        let holder = chunks::Holder { at: job.target, hint, holding: Holding::Destination, from: 0 };
        self.with_target(|_, target, observer| {
            chunks::run(job.fetcher, root, std::slice::from_ref(&holder), target, observer)
        })
    }

    /// Runs something that writes the root partition, and keeps account of it.
    fn with_target(
        &mut self,
        work: impl FnOnce(&First<'_>, &mut Target<'_>, &mut Observer<'_>) -> Result<(), WayError>,
    ) -> Result<(), WayError> {
        let (job, first, held, before) = (self.job, &self.first, self.held_release, self.before);
        let (progress, keep) = (&mut self.progress, &mut *self.keep);
        let (durable, written) = (progress.durable, progress.written);
        let mut checkpoint = |noted: Noted| {
            (progress.durable, progress.segments) = (noted.durable, noted.segments);
            progress.fetched = before + job.fetcher.fetched();
            keep(progress).map_err(io::Error::other)
        };
        let mut target = Target::new(job.target, first, durable, held, &mut checkpoint);
        let mut observer = Observer { reporter: self.reporter, total: job.release.root.size };
        let result = work(first, &mut target, &mut observer);
        let now = target.written();
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
        uki::stage(job.fetcher, job.release, job.target.root, job.boot, job.entry)?;
        uki::compare_staged(job.boot, job.entry, job.release)?;
        let fetched = before + job.fetcher.fetched();
        Ok(WayTaken { way: progress.way, fetched, written: progress.written, milliseconds: 0, medium: None })
    }
}
