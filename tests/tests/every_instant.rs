//! Power goes at every instant of an update, a commit, a rollback and a release that fails: whatever the disk made of what was
//! not flushed, the next boot is a complete system, and the agent brings the host to where it was going.

use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use upright_manifests::digest::Digest;
use upright_tests::power_cut::virtual_host::{BAD, End, Life, World};
use upright_tests::power_cut::{Content, Cut, Disk, Effort, Step, cuts};

const EFFORT: Effort =
    Effort { all_orders: 4, orders: 6, decisive: 0..u64::MAX, all_tears: 4, tears: 1, seed: 7 };

/// Where a host that was cut off must get to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Goal {
    /// 1.1.0 runs and is proven.
    Updated,
    /// An operator left 1.1.0, or the word came too late to be kept.
    RolledBack,
    /// The command by which an operator left 1.1.0 had ended.
    Left,
    /// 1.2.0 was tried and left for what ran before.
    BadLeft,
    /// 1.0.0 runs, by an operator's word, which is given again where it came too late; without one, 1.1.0 is what is offered.
    Older,
}

impl Goal {
    fn require(self, life: &mut Life<'_>, offered: usize) -> Result<()> {
        let again = self == Self::Older && life.running()? == "1.1.0";
        if again {
            life.update_to(offered, "1.0.0")?;
        }
        let End::Rest { version, record } = life.live(offered)? else { anyhow::bail!("the power went") };
        let is_bad = |version: &str| record.bad.iter().any(|bad| bad.version.as_str() == version);
        let there = match self {
            Self::Updated => version == "1.1.0" && !is_bad("1.1.0"),
            Self::Left => version == "1.0.0" && is_bad("1.1.0"),
            Self::RolledBack => version == if is_bad("1.1.0") { "1.0.0" } else { "1.1.0" },
            Self::BadLeft => version == "1.0.0" && is_bad(BAD),
            Self::Older => version == if again { "1.0.0" } else { "1.1.0" } && record.bad.is_empty(),
        };
        ensure!(there, "{self:?} ends on {version}, which is bad: {:?}", record.bad);
        let proven = record.slots.values().any(|slot| slot.version.as_str() == version && slot.proven);
        ensure!(proven, "{version} is not proven: {:?}", record.slots);
        let leaks = life.leaks()?;
        ensure!(leaks.is_empty(), "left over: {leaks:?}");
        Ok(())
    }
}

/// Judges what each cut of a host's life may leave, from `base` on, and lives on from it.
fn cut_everywhere(
    life: &Life<'_>,
    base: &Vec<u8>,
    without: &[&str],
    offered: usize,
    (goal, later): (Goal, Option<(usize, Goal)>),
) -> Result<usize> {
    let (events, written) = life.tape.events();
    let mut disk = Disk::new(base, &written);
    let (mut seen, mut states) = (HashSet::new(), 0);
    let mut failures: BTreeMap<String, Cut> = BTreeMap::new();
    cuts(&events, EFFORT, |step| {
        let cut = match step {
            Step::Settled(write) => {
                disk.settle(&write);
                return Ok(());
            }
            Step::Cut(cut) => cut,
        };
        states += 1;
        let goal = later.filter(|(after, _)| cut.at > *after).map_or(goal, |(_, later)| later);
        let mut bytes = vec![0; base.len()];
        disk.view(&cut.through).read_at(&mut bytes, 0)?;
        for files in life.tape.states_at(cut.at) {
            let all: Vec<u8> = files.values().flatten().copied().collect();
            if !seen.insert((goal, Digest::of(&bytes), Digest::of(&all))) {
                continue;
            }
            let judged = World::shared()?.next_boot(&bytes).map_err(anyhow::Error::msg);
            let lived = judged.and_then(|_| {
                let mut life = World::shared()?.life(bytes.clone(), &files, without)?;
                life.tape.unwatch();
                let before = life.names()?;
                goal.require(&mut life, offered)
                    .with_context(|| format!("{before:?} became {:?}", life.names()))
            });
            if let Err(error) = lived {
                failures.entry(format!("{error:#}")).or_insert_with(|| cut.clone());
            }
        }
        Ok::<_, anyhow::Error>(())
    })?;
    ensure!(failures.is_empty(), "of {} states, these fail: {failures:#?}", seen.len());
    println!(
        "{goal:?} without {without:?}: {} events, {states} states, {} distinct",
        events.len(),
        seen.len()
    );
    Ok(seen.len())
}

/// A host at rest on 1.0.0, and its disk.
fn fresh(without: &[&str]) -> Result<(Life<'static>, Vec<u8>)> {
    let life = World::shared()?.host(without)?;
    let disk = life.tape.disk();
    Ok((life, disk))
}

/// The same host, later: with a tape of its own.
fn again(life: &Life<'_>, without: &[&str]) -> Result<(Life<'static>, Vec<u8>)> {
    let disk = life.tape.disk();
    Ok((World::shared()?.life(disk.clone(), &life.tape.files()?, without)?, disk))
}

#[test]
fn every_cut_of_an_update_by_any_way_ends_in_the_new_release() -> Result<()> {
    for without in [&[][..], &["delta"], &["delta", "chunks"]] {
        let (mut life, base) = fresh(without)?;
        Goal::Updated.require(&mut life, 1)?;
        let distinct = cut_everywhere(&life, &base, without, 1, (Goal::Updated, None))?;
        ensure!(distinct > 100, "only {distinct} states");
    }
    Ok(())
}

#[test]
fn every_cut_of_a_rollback_and_of_a_bad_release_ends_where_it_was_going() -> Result<()> {
    let (mut life, _) = fresh(&[])?;
    Goal::Updated.require(&mut life, 1)?;
    let (mut life, base) = again(&life, &[])?;
    life.roll_back(1)?;
    let asked = life.tape.events().0.len();
    Goal::RolledBack.require(&mut life, 1)?;
    ensure!(life.running()? == "1.0.0", "the rollback did not take");
    cut_everywhere(&life, &base, &[], 1, (Goal::RolledBack, Some((asked, Goal::Left))))?;
    let (mut life, base) = again(&life, &[])?;
    Goal::BadLeft.require(&mut life, 2)?;
    cut_everywhere(&life, &base, &[], 2, (Goal::BadLeft, None))?;
    Ok(())
}

/// The newer release is demoted in the boot loader's sight, to be the way back.
#[test]
fn every_cut_of_going_to_an_older_release_ends_where_it_was_going() -> Result<()> {
    let (mut life, _) = fresh(&[])?;
    Goal::Updated.require(&mut life, 1)?;
    let (mut life, base) = again(&life, &[])?;
    Goal::Older.require(&mut life, 1)?;
    ensure!(life.running()? == "1.0.0", "the older release was not gone to");
    cut_everywhere(&life, &base, &[], 1, (Goal::Older, None))?;
    Ok(())
}

#[test]
fn the_users_files_are_where_they_were() -> Result<()> {
    let (mut life, _) = fresh(&[])?;
    Goal::Updated.require(&mut life, 1)?;
    let files = life.tape.files()?;
    let kept = files.get(Path::new("etc/b/upper/kept")).context("/etc of the new slot")?;
    ensure!(kept == b"in etc" && files[Path::new("kept")] == b"in var", "{files:?}");
    Ok(())
}
