//! All cuts of one recording.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use upright_manifests::digest::Digest;

use super::cuts::{Cut, Effort, Step, cuts};
use super::disk::{Content, Disk};
use super::event::{Event, SECTOR, Write};
use super::gpt;
use super::judge::{AREAS, Built, Judge, Outcome};
use super::log::Log;
use super::print::{Print, Prints};
use super::random::Random;
use crate::story::{RELEASES, Recording, Teller, copy_sparse};

/// How often it is said how far things are.
const EVERY: Duration = Duration::from_secs(30);

/// What came out.
#[derive(Debug, Default)]
pub struct Tally {
    /// States that were made.
    pub states: usize,
    /// Of them, those that differ in ESP, slots or state.
    pub distinct: usize,
    /// States that a machine was switched on with.
    pub booted: usize,
    /// What went wrong, one line each.
    pub failures: Vec<String>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, distinct, booted, failures } = self;
        write!(f, "states: {states}, distinct: {distinct}, booted: {booted}, failures: {}", failures.len())
    }
}

/// A state of each class of outcomes, any of them as likely as the others.
type Classes = BTreeMap<Outcome, Member>;

struct Member {
    cut: Cut,
    /// How many states of the class there were so far.
    of: u64,
}

/// Judges every cut of `recording`, then boots one of each class, `boots` of them at most.
pub fn judge_all(
    recording: &Recording,
    effort: Effort,
    boots: usize,
    work: &Path,
    teller: Teller,
) -> Result<Tally> {
    let log = Log::read(&recording.log())?;
    let (written, events, asked) = (&log.file, &log.events, log.events_in(recording.asked_at()?));
    let base = recording.base();
    let base = File::open(&base).with_context(|| format!("opening {}", base.display()))?;
    let flushes = events.iter().filter(|event| **event == Event::Flush).count();
    teller.say(&format!("{} writes and {flushes} flushes were recorded", events.len() - flushes));
    let mut tally = Tally::default();
    let (classes, settled) = judge(recording, (&base, written, events), effort, work, teller, &mut tally)?;
    teller.say(&format!("{} states fall into {} classes", tally.distinct, classes.len()));
    let disk = work.join("state.img");
    for (outcome, Member { cut, .. }) in classes.iter().take(boots) {
        let mut whole = Disk::new(&base, written);
        settled[..cut.settled].iter().for_each(|write| whole.settle(write));
        write_disk(&recording.base(), &whole.view(&cut.through), &disk)?;
        tally.booted += 1;
        match recording.revive(&disk) {
            Ok(recovered) if recovered.booted != outcome.version => {
                tally.fail(cut, &format!("{outcome}: another release came up: {recovered:?}"));
            }
            Ok(recovered) => match outcome.goal(cut.at >= asked) {
                Some(goal) if recovered.settled != goal => {
                    tally.fail(cut, &format!("{outcome}: it was to end on {goal}: {recovered:?}"));
                }
                _ => teller.say(&format!("event {}: {outcome}: came back, {recovered:?}", cut.at)),
            },
            Err(error) => tally.fail(cut, &format!("{outcome}: {error:#}")),
        }
    }
    Ok(tally)
}

impl Tally {
    fn fail(&mut self, cut: &Cut, reason: &str) {
        let failure = format!("event {} ({} sectors of it): {reason}", cut.at, cut.through.len());
        eprintln!("FAILURE: {failure}");
        self.failures.push(failure);
    }
}

/// The disk before the first event, what was written to it, and when.
type Recorded<'r> = (&'r dyn Content, &'r dyn Content, &'r [Event]);

fn judge(
    recording: &Recording,
    (base, written, events): Recorded<'_>,
    effort: Effort,
    work: &Path,
    teller: Teller,
    tally: &mut Tally,
) -> Result<(Classes, Vec<Write>)> {
    let partitions = gpt::partitions(base)?;
    let area =
        |label: &&str| partitions.get(*label).cloned().with_context(|| format!("no partition {label}"));
    let areas = AREAS.iter().map(area).collect::<Result<Vec<_>>>()?;
    let mut prints = Prints::new(&areas);
    let effort = Effort { decisive: areas[0].start / SECTOR..areas[0].end / SECTOR, ..effort };
    let mut random = Random::new(effort.seed);
    let mut judge = Judge::new(base, areas, releases(recording)?, work.join("judge"))?;
    let mut disk = Disk::new(base, written);
    let (mut settled, mut said) = (Vec::new(), Instant::now());
    let mut seen: HashSet<Vec<Print>> = HashSet::new();
    let mut classes = Classes::new();
    // What the user's program saw written, and so must find from there on.
    let mut lines = 0;
    cuts(events, effort, |step| {
        let cut = match step {
            Step::Cut(cut) => cut,
            Step::Settled(write) => {
                prints.settle(&disk, &write)?;
                disk.settle(&write);
                settled.push(write);
                return Ok(());
            }
        };
        tally.states += 1;
        let print = prints.with(&disk, &cut.through)?;
        if !seen.insert(print.clone()) {
            return Ok(());
        }
        tally.distinct += 1;
        match judge.judge(disk.view(&cut.through), &print)? {
            Ok(judged) if judged.lines < lines => {
                tally.fail(cut, &format!("of {lines} lines that were synced, {} are there", judged.lines));
            }
            Ok(judged) => {
                if cut.through.is_empty() {
                    lines = judged.lines;
                }
                let member =
                    classes.entry(judged.outcome).or_insert_with(|| Member { cut: cut.clone(), of: 0 });
                member.of += 1;
                if random.below(member.of) == 0 {
                    member.cut = cut.clone();
                }
            }
            Err(reason) => tally.fail(cut, &reason),
        }
        if said.elapsed() > EVERY {
            said = Instant::now();
            teller.say(&format!("event {} of {}: {tally}", cut.at, events.len()));
        }
        Ok::<_, anyhow::Error>(())
    })?;
    Ok((classes, settled))
}

fn releases(recording: &Recording) -> Result<Vec<Built>> {
    let built = |version: &str| {
        let uki = recording.built_uki(version);
        let bytes = fs::read(&uki).with_context(|| format!("reading {}", uki.display()))?;
        Ok(Built { version: version.to_owned(), uki: Digest::of(&bytes) })
    };
    RELEASES.into_iter().map(built).collect()
}

/// Writes a state's disk to a file that a machine can be switched on with.
fn write_disk(base: &Path, view: &super::disk::View<'_>, to: &Path) -> Result<()> {
    copy_sparse(base, to)?;
    let file = File::options().write(true).open(to).with_context(|| format!("opening {}", to.display()))?;
    for (sector, bytes) in view.changed() {
        file.write_all_at(&bytes?, sector * SECTOR)?;
    }
    Ok(())
}
