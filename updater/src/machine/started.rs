//! What follows from what an agent finds when it starts.

use jiff::Timestamp;
use upright_manifests::name::Slot;

use super::event::{Beside, HealthReport, Observation};
use super::evidence::Evidence;
use super::history::Outcome;
use super::record::{BadRelease, Cause, Installed, Record, State, Target};

/// How often in a row a release may be switched to while the boot loader does not follow.
const MOST_IN_VAIN: u32 = 3;

/// Brings what was persisted in line with what runs.
pub(super) fn started(record: &mut Record, state: State, seen: &Observation, now: Timestamp) -> State {
    let state = match &seen.beside {
        Some(beside) => found(record, state, beside, seen),
        None => state,
    };
    let known = record.slots.get(&seen.slot).is_some_and(|slot| slot.root_hash == seen.root_hash);
    if !known {
        let proven = !seen.on_trial;
        record.slots.insert(seen.slot, Installed { proven, ..Installed::unproven(&running(seen)) });
    }
    let runs = |target: &Target| target.root_hash == seen.root_hash;
    let boot_id = seen.boot_id.clone();
    let state = if seen.other_gone { without_other(record, state, seen, now) } else { state };
    let proves_itself =
        || State::Trial { target: held(record, seen), slot: seen.slot, boots: 1, boot_id: boot_id.clone() };
    match state {
        // A release nobody remembers switching to, as after a lost state disk, proves itself all the same.
        State::Idle if !known && seen.on_trial => proves_itself(),
        // The boot loader was not told that it is proven, or there is nothing else to boot.
        State::Idle
            if seen.on_trial
                && !seen.unseen
                && (record.is_proven(seen.slot) && !seen.passed_over
                    || !record.slots.contains_key(&seen.slot.other())) =>
        {
            let healthy = record.is_proven(seen.slot);
            State::Committing { target: held(record, seen), slot: seen.slot, healthy }
        }
        // Booted before another release took its place: nothing else is begun while its way back is needed.
        State::Idle | State::Fetching { .. } | State::Applying { .. }
            if has_to_prove_itself(record, seen) =>
        {
            proves_itself()
        }
        State::Applied { ref target, .. } | State::Switched { ref target, .. }
            if !runs(target) && has_to_prove_itself(record, seen) =>
        {
            proves_itself()
        }
        // Power went between the switch and the note of it.
        State::Applied { target, slot } if slot == seen.slot && runs(&target) => {
            State::Trial { target, slot, boots: 1, boot_id }
        }
        State::Switched { boot_id: ref switched_in, .. } if *switched_in == seen.boot_id => state,
        State::Switched { target, slot, .. } if runs(&target) => {
            State::Trial { target, slot, boots: 1, boot_id }
        }
        State::Trial { target, slot, boots, boot_id: last } if runs(&target) => {
            let boots = if last == boot_id { boots } else { boots.saturating_add(1) };
            State::Trial { target, slot, boots, boot_id }
        }
        // The switch still stands: somebody booted the old slot by hand, or the boot loader did not do as it was told.
        State::Switched { target, slot, .. } | State::Trial { target, slot, .. } if seen.still_tried => {
            let reason = "it was switched to, and the other slot was started instead";
            in_vain(record, target, slot, reason.to_owned(), seen)
        }
        State::Switched { target, .. } => left(record, &target, not_up(seen, 0), None, None, now),
        State::Trial { target, boots, .. } => {
            left(record, &target, not_up(seen, boots), None, Some(boots), now)
        }
        State::RollingBack { .. } => rolled_back(record, state, seen, now),
        // What is written from here on, it does not have: it begins anew.
        State::Committing { target, slot, healthy }
            if !runs(&target) && (healthy || record.is_proven(slot)) =>
        {
            let why = record.failure.as_ref().map_or_else(String::new, |(_, why)| format!(" ({why})"));
            in_vain(
                record,
                target,
                slot,
                format!("it proved healthy, and that could not be noted{why}"),
                seen,
            )
        }
        State::Committing { target, .. } if !runs(&target) => State::Idle,
        // The slot that was being written cannot be the one that runs, unless disks were swapped.
        State::Applying { slot, .. } | State::Applied { slot, .. } if slot == seen.slot => State::Idle,
        state => state,
    }
}

/// What has become of a release that was to be left.
fn rolled_back(record: &mut Record, state: State, seen: &Observation, now: Timestamp) -> State {
    let runs = |target: &Target| target.root_hash == seen.root_hash;
    let boot_id = seen.boot_id.clone();
    match state {
        State::RollingBack { ref from, boot_id: ref decided_in, .. }
            if runs(from) && *decided_in == seen.boot_id && !seen.other_gone =>
        {
            state
        }
        // Power went before the boot loader was told, or it starts what it was told to leave all the same: it is told again.
        State::RollingBack { from, slot, cause, report, boots, .. }
            if runs(&from) && !seen.other_gone && is_told_again(record, slot, seen) =>
        {
            State::RollingBack { from, slot, cause, report, boots, boot_id }
        }
        State::RollingBack { from, slot, cause, .. } if runs(&from) => {
            record.slots.entry(slot).and_modify(|installed| installed.in_vain = 0);
            record.remember(now, &from.version, Outcome::Stuck { cause });
            let other = seen.slot.other();
            match record.slots.get_mut(&other) {
                Some(way_back) if seen.passed_over => way_back.proven = false,
                // A boot loader that does not leave what it should goes nowhere else: there is no way back with it.
                _ => {
                    lose(record, other);
                    let reason = format!(
                        "the boot loader starts {} again, which it was told to leave {MOST_IN_VAIN} times, so slot {other} is no way back; \
                         `upright doctor` may say why, and `upright repair` brings slot {other} back",
                        from.version
                    );
                    record.failure = Some((now, reason));
                }
            }
            State::Idle
        }
        State::RollingBack { from, cause, report, boots, .. } => {
            left(record, &from, cause, report, boots, now)
        }
        state => state,
    }
}

/// Whether the boot loader is told once more to leave the release in `slot`, before the other one is taken for one that does not start. That
/// it passes over what runs says that it was told, or that this was the last boot of a trial.
fn is_told_again(record: &mut Record, slot: Slot, seen: &Observation) -> bool {
    let most = if seen.passed_over { 1 } else { MOST_IN_VAIN - 1 };
    count(record, slot).is_some_and(|times| times <= most)
}

/// Counts one more time that what was to happen to the release in `slot` did not; gives how often that was.
fn count(record: &mut Record, slot: Slot) -> Option<u32> {
    let installed = record.slots.get_mut(&slot)?;
    installed.in_vain = installed.in_vain.saturating_add(1);
    Some(installed.in_vain)
}

/// What runs, with all that is known about it.
fn held(record: &Record, seen: &Observation) -> Target {
    record.slots.get(&seen.slot).map_or_else(|| running(seen), Installed::target)
}

/// Whether what runs is on trial, whatever was begun before it came up. Without a way back there is no verdict to wait for; one that
/// did not start when it was gone back to is none.
fn has_to_prove_itself(record: &Record, seen: &Observation) -> bool {
    let is_way_back = |other: &Installed| other.proven || !seen.passed_over;
    seen.on_trial
        && !record.is_proven(seen.slot)
        && record.slots.get(&seen.slot.other()).is_some_and(is_way_back)
}

/// The release in the other slot was switched to, and the boot loader did not follow, so it is switched to once more. It is left
/// when that has come to nothing too often: a host must not restart for ever.
fn in_vain(record: &mut Record, target: Target, slot: Slot, what: String, seen: &Observation) -> State {
    let Some(times) = count(record, slot) else { return State::Idle };
    record.slots.entry(slot).and_modify(|installed| installed.proven = false);
    match times {
        MOST_IN_VAIN.. => {
            let reason = format!("{what}, {times} times; see `upright doctor`");
            let (cause, boot_id) = (Cause::BootLoader { reason }, seen.boot_id.clone());
            State::RollingBack { from: target, slot, cause, report: None, boots: None, boot_id }
        }
        _ if seen.still_tried => State::Applied { target, slot },
        _ => State::Idle,
    }
}

/// Why the release in the other slot did not come as far as its health checks.
fn not_up(seen: &Observation, agent: u32) -> Cause {
    let used_up = || Cause::TrialsUsedUp { evidence: Evidence { agent, ..seen.evidence.clone() } };
    seen.stopped.clone().map_or_else(used_up, |reason| Cause::State { reason })
}

/// Nobody remembers what is in the other slot, and there is a release: it is the way back, or what the next boot tries.
fn found(record: &mut Record, state: State, beside: &Beside, seen: &Observation) -> State {
    let slot = seen.slot.other();
    record.slots.insert(slot, beside.release.clone());
    record.lost.remove(&slot);
    match state {
        State::Idle if beside.tried && !seen.on_trial => {
            State::Switched { target: beside.release.target(), slot, boot_id: seen.boot_id.clone() }
        }
        state => state,
    }
}

/// The other slot has no boot entry.
fn without_other(record: &mut Record, state: State, seen: &Observation, now: Timestamp) -> State {
    match state {
        State::RollingBack { .. } => state,
        // Power went right after the entry was removed for the slot to be written.
        State::Fetching { .. } | State::Applying { .. } => {
            lose(record, seen.slot.other());
            state
        }
        state => gone(record, state, seen, now),
    }
}

/// The other slot's boot entry was lost: power went while the boot loader or this agent gave it another name. Nothing was found
/// wrong with its release, which is installed anew when policy wants it.
fn gone(record: &mut Record, state: State, seen: &Observation, now: Timestamp) -> State {
    let slot = seen.slot.other();
    lose(record, slot);
    let advice = if record.lost.contains_key(&slot) { "; `upright repair` brings it back" } else { "" };
    let reason =
        format!("slot {slot} has lost its boot entry, so it is written again before the next switch{advice}");
    record.failure = Some((now, reason.clone()));
    match state.target().filter(|target| target.root_hash != seen.root_hash) {
        Some(target) => {
            record.remember(now, &target.version, Outcome::NotApplied { reason });
            State::Idle
        }
        None => state,
    }
}

/// What is in a slot cannot be booted.
pub(super) fn lose(record: &mut Record, slot: Slot) {
    if let Some(installed) = record.slots.remove(&slot).filter(|installed| installed.proven) {
        record.lost.insert(slot, installed);
    }
}

/// `target` was left for the other slot's release: it is remembered as bad.
fn left(
    record: &mut Record,
    target: &Target,
    cause: Cause,
    report: Option<HealthReport>,
    boots: Option<u32>,
    now: Timestamp,
) -> State {
    record.decided = None;
    record.bad.retain(|bad| bad.root_hash != target.root_hash);
    record.bad.push(BadRelease {
        version: target.version.clone(),
        root_hash: target.root_hash,
        time: now,
        reason: cause.clone(),
    });
    record.remember(now, &target.version, Outcome::RolledBack { cause, report, boots });
    State::Idle
}

/// The release that runs, as far as its boot tells.
pub(super) fn running(seen: &Observation) -> Target {
    Target { version: seen.version.clone(), root_hash: seen.root_hash, manifest: None, uki: None }
}
