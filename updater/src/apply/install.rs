//! The whole installation: ways until one leads there, the read-back, the UKI.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use upright_manifests::digest::Digest;
use upright_manifests::release::Release;

use super::error::{ApplyError, WayError};
use super::readback::{self, Partitions};
use super::target::Target;
use super::ways::{Way, ways};
use super::{chunks, delta, full, uki};
use crate::agent::Reporter;
use crate::boot::{BootLoader, Entry};
use crate::fetch::Retry;
use crate::host::Remote;
use crate::machine::{Progress, WayTaken};
use crate::store::StoreError;

/// What is to be installed, from where to where.
pub struct Job<'a> {
    /// The repository.
    pub remote: &'a dyn Remote,
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
    /// Ways to leave out.
    pub without: &'a [String],
    /// How a dropped line is taken up again.
    pub retry: Retry,
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
    mut progress: Progress,
    keep: Keep<'_>,
    reporter: &mut dyn Reporter,
) -> Result<WayTaken, ApplyError> {
    let version = &job.release.version;
    readback::invalidate(job.target.verity)?;
    let plan = ways(job.release, &job.base_hash, job.without);
    let first = plan.ways.iter().position(|(way, _)| way.name() == progress.way).unwrap_or(0);
    let mut failed = Vec::new();
    for (way, _) in &plan.ways[first..] {
        progress.way = way.name().to_owned();
        let verb = if progress.durable > 0 { "going on" } else { "beginning" };
        reporter.step(&format!("{verb} to write {version} to slot {} by {}", job.target.slot, way.name()));
        if let Err(error) = run(job, way, &mut progress, keep, reporter) {
            let all = error.concerns_all_ways();
            failed.push((progress.way.clone(), error));
            if all {
                break;
            }
            continue;
        }
        match read_back(job, &progress.way, reporter) {
            Ok(()) => return finish(job, progress, keep, reporter),
            // Hints that lied, or a base that is not what it should be: everything again, another way.
            Err(ApplyError::ReadBack { .. }) if *way != Way::Full => {
                tracing::warn!(
                    way = way.name(),
                    "the slot does not hold what was signed; trying another way"
                );
                progress.durable = 0;
                keep(&progress)?;
            }
            Err(error) => return Err(error),
        }
    }
    Err(ApplyError::NoWay { version: version.clone(), ways: failed })
}

fn run(
    job: &Job<'_>,
    way: &Way,
    progress: &mut Progress,
    keep: Keep<'_>,
    reporter: &mut dyn Reporter,
) -> Result<(), WayError> {
    let Job { remote, release, retry, .. } = *job;
    let fetched = AtomicU64::new(0);
    let before = progress.clone();
    let mut checkpoint = |durable| {
        progress.durable = durable;
        progress.fetched = before.fetched + fetched.load(Ordering::Relaxed);
        keep(progress).map_err(io::Error::other)
    };
    let mut target = Target::new(job.target.root, before.durable, &mut checkpoint);
    let mut observer = Observer { reporter, total: release.root.size };
    let root = &release.root;
    let result = match way {
        Way::Full => full::run(remote, root, retry, &mut target, &fetched, &mut observer),
        Way::Chunks => {
            let Partitions { slot, root: image, verity } = job.base;
            let holder = chunks::Holder { slot, root: image, verity };
            chunks::run(remote, root, &holder, retry, &mut target, &fetched, &mut observer)
        }
        Way::Delta(edge) => {
            delta::run(remote, root, edge, job.base.root, retry, &mut target, &fetched, &mut observer)
        }
    };
    let written = target.written();
    progress.fetched = before.fetched + fetched.load(Ordering::Relaxed);
    progress.written = before.written + written;
    result
}

fn read_back(job: &Job<'_>, way: &str, reporter: &mut dyn Reporter) -> Result<(), ApplyError> {
    let (release, slot) = (job.release, job.target.slot);
    reporter.step(&format!("reading slot {slot} back"));
    let total = release.root.size;
    let observe = &mut |at| reporter.bytes(at, total);
    readback::verify(job.target, &release.version, way, &release.root.verity, observe)
}

fn finish(
    job: &Job<'_>,
    mut progress: Progress,
    keep: Keep<'_>,
    reporter: &mut dyn Reporter,
) -> Result<WayTaken, ApplyError> {
    // A restart from here on reads the slot back again and fetches no more of it.
    progress.durable = job.release.root.size;
    keep(&progress)?;
    reporter.step("composing the UKI");
    let fetched = AtomicU64::new(0);
    uki::stage(job.remote, job.release, job.target.root, job.boot, job.entry, job.retry, &fetched)?;
    uki::compare_staged(job.boot, job.entry, job.release)?;
    Ok(WayTaken {
        way: progress.way,
        fetched: progress.fetched + fetched.into_inner(),
        written: progress.written,
        milliseconds: 0,
    })
}
