//! One fault after the other, drawn by chance: power cuts in the recovery from power cuts, lines that drop, blocks that fail. A
//! host ends in the release that it was meant to run, and what it keeps does not grow.

use anyhow::{Context, Result, ensure};
use proptest::prelude::*;
use upright_tests::power_cut::Random;
use upright_tests::power_cut::virtual_host::{BAD, DiskFault, End, Life, Trouble, World};

const WAYS: [&[&str]; 3] = [&[], &["delta"], &["delta", "chunks"]];

/// What the agent's state may take, in bytes: a record with a full history, and the trusted metadata.
const MOST_STATE: usize = 128 << 10;

/// What the peak of fifty updates may be above that of the fifty before, in bytes: less than an image for each.
const MOST_MEMORY: u64 = 4 << 20;

/// A power cut: after so many writes and syncs, and what decides which sectors got through.
type Crash = (u64, u64);

fn crashes() -> impl Strategy<Value = Vec<Crash>> {
    prop::collection::vec((1u64..240, any::<u64>()), 1..3)
}

/// Lives through the crashes, then to the end: the version that runs, and whether `suspect` is remembered as bad.
fn outlive(life: &mut Life<'_>, crashes: &[Crash], offered: usize, suspect: &str) -> Result<(String, bool)> {
    for (after, seed) in crashes {
        life.tape.lose_power_after(*after);
        if matches!(life.live(offered)?, End::Dark) {
            life.tape.restart(*seed)?;
        }
        life.tape.stay_on();
    }
    let End::Rest { version, record } = life.live(offered)? else { anyhow::bail!("the power went") };
    let leaks = life.leaks()?;
    ensure!(leaks.is_empty(), "left over: {leaks:?}");
    Ok((version, record.bad.iter().any(|bad| bad.version.as_str() == suspect)))
}

fn update(way: usize, crashes: &[Crash]) -> Result<()> {
    let mut life = World::shared()?.host(WAYS[way])?;
    let (version, left) = outlive(&mut life, crashes, 1, "1.1.0")?;
    ensure!(version == "1.1.0" && !left, "an update ends on {version}");
    Ok(())
}

fn rollback(crashes: &[Crash]) -> Result<()> {
    let mut life = World::shared()?.host(&[])?;
    outlive(&mut life, &[], 1, "1.1.0")?;
    life.tape.lose_power_after(crashes[0].0 % 12);
    if life.roll_back(1).is_err() {
        ensure!(life.tape.is_dark(), "a rollback is refused");
    }
    if life.tape.is_dark() {
        life.tape.restart(crashes[0].1)?;
    }
    life.tape.stay_on();
    let (version, left) = outlive(&mut life, &crashes[1..], 1, "1.1.0")?;
    // What was not noted before the power went was not decided.
    ensure!(version == if left { "1.0.0" } else { "1.1.0" }, "a rollback ends on {version}, left: {left}");
    Ok(())
}

fn bad_release(way: usize, crashes: &[Crash]) -> Result<()> {
    let mut life = World::shared()?.host(WAYS[way])?;
    let (version, left) = outlive(&mut life, crashes, 2, BAD)?;
    ensure!(version == "1.0.0" && left, "a release that fails ends on {version}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn power_cuts_in_a_row_end_where_the_host_was_going(way in 0..WAYS.len(), crashes in crashes(), job in 0..3) {
        let done = match job {
            0 => update(way, &crashes),
            1 => rollback(&crashes),
            _ => bad_release(way, &crashes),
        };
        prop_assert!(done.is_ok(), "{:#}", done.err().map_or_else(String::new, |error| format!("{error:#}")));
    }
}

#[test]
fn a_release_that_fails_is_left_whatever_the_instant_of_one_power_cut() -> Result<()> {
    for after in 1..240 {
        for seed in 1..3 {
            bad_release(1, &[(after, seed)])
                .with_context(|| format!("power went after {after} writes and syncs, seed {seed}"))?;
        }
    }
    Ok(())
}

/// Something goes wrong, in an update of as many requests and of as many writes and syncs as most have.
fn trouble(life: &mut Life<'_>, random: &mut Random) -> Result<()> {
    let (kind, number) = (random.below(9), random.draw());
    let troubles = match kind {
        3 => [Trouble::Damage(number as usize % 5000), Trouble::Drop(number as usize % 3000)],
        _ => [Trouble::Missing, Trouble::Busy],
    };
    match kind {
        0..3 => life.tape.lose_power_after(number % 120),
        3 | 4 => {
            let at = random.below(8) as usize;
            life.troubles = troubles.into_iter().map(Some).chain(std::iter::repeat_n(None, at)).collect();
        }
        5 => life.fault(DiskFault::Write, number)?,
        6 => life.fault(DiskFault::Drop, number)?,
        7 => life.clock_jumps = Some(number),
        _ => life.fault(DiskFault::Read, number)?,
    }
    Ok(())
}

/// What this process has in memory, in bytes: proc_pid_status(5).
fn resident() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

#[test]
fn a_hundred_updates_with_a_fault_each_end_in_the_right_release_and_nothing_grows() -> Result<()> {
    let mut life = World::shared()?.host(&[])?;
    let mut random = Random::new(5);
    let (mut struck, mut memory) = (0, [0; 2]);
    for number in 1..=100 {
        // Neither slot has it, so that each update fetches and writes.
        let to = ["1.0.0", "1.1.0", BAD][number % 3];
        life.all_healthy = true;
        trouble(&mut life, &mut random)?;
        let mut tries = 0;
        loop {
            let updated = life.update_to(2, to);
            let lived = updated.and_then(|()| life.live(2));
            if life.tape.is_dark() {
                life.tape.restart(random.draw())?;
            }
            life.tape.stay_on();
            life.tape.mend();
            life.troubles.clear();
            life.clock_jumps = None;
            match lived {
                Ok(End::Rest { version, .. }) if version == to => break,
                _ => tries += 1,
            }
            ensure!(tries < 4, "update {number} to {to} does not succeed: {lived:?}");
        }
        struck += u32::from(life.tape.struck() > 0);
        let leaks = life.leaks()?;
        ensure!(leaks.is_empty(), "after {number} updates there are left over: {leaks:?}");
        let files = life.tape.files()?;
        // The reserve is as large at the first as at the last.
        let bytes: usize =
            files.iter().filter(|(path, _)| !path.ends_with("reserve")).map(|(_, file)| file.len()).sum();
        ensure!(bytes < MOST_STATE, "after {number} updates the state has {bytes} bytes");
        // The tape itself grows; a new one goes on where this one ends.
        life = World::shared()?.life(life.tape.disk(), &files, &[]).context("a new tape")?;
        let half = usize::from(number > 50);
        memory[half] = memory[half].max(resident()?);
    }
    ensure!(struck >= 70, "something went wrong in {struck} of a hundred updates only");
    let grown = memory[1].saturating_sub(memory[0]);
    ensure!(grown < MOST_MEMORY, "fifty updates left {grown} bytes in memory");
    Ok(())
}
