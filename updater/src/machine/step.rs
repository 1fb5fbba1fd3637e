//! The pure step: a record and an event give the next record.

use jiff::Timestamp;
use upright_manifests::name::Slot;
use upright_manifests::version::Version;

use super::event::{Beside, Event, HealthReport, Observation, Verdict, WayTaken};
use super::evidence::Evidence;
use super::history::Outcome;
use super::record::{BadRelease, Cause, Installed, Progress, Record, State, Target};

/// How often in a row a release may be switched to while the boot loader does not follow.
const MOST_IN_VAIN: u32 = 3;

/// What has to be done in a state. Each may run any number of times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Nothing,
    /// Get the release's manifest and see whether it fits this host.
    Prepare(Target),
    /// Remove the slot's boot entry, write the slot, read it back, stage the UKI.
    Install(Target, Slot),
    /// Make the boot loader take the slot at the next boot.
    Switch(Target, Slot),
    /// Reboot when policy allows.
    Reboot(Target),
    /// Run the health checks.
    CheckHealth(Target),
    /// Tell the boot loader that the release is good.
    MarkGood(Target, Slot),
    /// Tell the boot loader to pass the release over, then reboot if it is the one that runs.
    MarkBad(Target, Slot),
}

impl State {
    /// What has to be done in this state.
    pub fn effect(&self) -> Effect {
        match self.clone() {
            Self::Idle => Effect::Nothing,
            Self::Fetching { target, .. } => Effect::Prepare(target),
            Self::Applying { target, slot, .. } => Effect::Install(target, slot),
            Self::Applied { target, slot } => Effect::Switch(target, slot),
            Self::Switched { target, .. } => Effect::Reboot(target),
            Self::Trial { target, .. } => Effect::CheckHealth(target),
            Self::Committing { target, slot } => Effect::MarkGood(target, slot),
            Self::RollingBack { from, slot, .. } => Effect::MarkBad(from, slot),
        }
    }
}

/// Why an event makes no sense in a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The event does not belong to the state.
    #[error("the agent is {state}, where {event} cannot happen")]
    Unexpected {
        /// The state.
        state: &'static str,
        /// The event.
        event: &'static str,
    },
    /// Another release cannot be taken while this one has to prove itself: the other slot is the way back.
    #[error(
        "{0} runs on trial and the other slot is its way back, so nothing is written: wait until its health checks have ended \
         (`upright status`), or leave it with `upright rollback`"
    )]
    OnTrial(Version),
    /// The next boot leaves the release that runs.
    #[error("{0} is being left, and nothing is written before the reboot: run `reboot`")]
    Leaving(Version),
    /// There is nothing to go back to.
    #[error("cannot roll back: {0}")]
    NoWayBack(String),
}

/// Takes `record` over `event` at time `now`.
pub fn step(mut record: Record, event: Event, now: Timestamp) -> Result<Record, StepError> {
    let state = std::mem::take(&mut record.state);
    record.state = match (state, event) {
        (state, Event::Started(seen)) => started(&mut record, state, &seen, now),
        (State::Idle, Event::Chosen { target, retry }) => chosen(&mut record, target, retry, now),
        // A newer release takes the place of one that has not been booted yet.
        (
            state @ (State::Fetching { .. }
            | State::Applying { .. }
            | State::Applied { .. }
            | State::Switched { .. }),
            Event::Chosen { target, retry },
        ) => match state.target() {
            Some(same) if same.root_hash == target.root_hash => state,
            _ => chosen(&mut record, target, retry, now),
        },
        (State::Trial { target, .. } | State::Committing { target, .. }, Event::Chosen { .. }) => {
            return Err(StepError::OnTrial(target.version));
        }
        (State::RollingBack { from, .. }, Event::Chosen { .. }) => {
            return Err(StepError::Leaving(from.version));
        }
        (State::Fetching { target, since }, Event::Accepted { slot }) => {
            State::Applying { target, slot, since, progress: Progress::default() }
        }
        (state @ State::Applying { slot, .. }, Event::Emptied) => {
            record.slots.remove(&slot);
            record.lost.remove(&slot);
            state
        }
        (State::Applying { target, slot, since, .. }, Event::Progressed(progress)) => {
            State::Applying { target, slot, since, progress }
        }
        (State::Applying { target, slot, .. }, Event::Applied(way)) => {
            applied(&mut record, target, slot, way, now)
        }
        (
            state @ (State::Fetching { .. } | State::Applying { .. } | State::Applied { .. }),
            Event::Failed { reason, kept },
        ) => failed(&mut record, state, reason, kept, now),
        (State::Applied { target, slot }, Event::Switched { boot_id }) => {
            State::Switched { target, slot, boot_id }
        }
        (State::Switched { target, slot, .. }, Event::TakenBack) => State::Applied { target, slot },
        (State::Trial { target, slot, boots, boot_id }, Event::Checked(report)) => {
            checked(&mut record, Trial { target, slot, boots, boot_id }, report, now)
        }
        (State::Committing { slot, .. }, Event::Committed) => {
            // What was decided before the release ran is over.
            record.decided = None;
            if let Some(installed) = record.slots.get_mut(&slot) {
                installed.in_vain = 0;
            }
            State::Idle
        }
        (state, Event::Lost { slot, reason }) => {
            lose(&mut record, slot);
            record.failure = Some((now, reason));
            state
        }
        (state, Event::RollbackAsked(seen)) => roll_back(&mut record, state, &seen, now)?,
        (state, event) => return Err(StepError::Unexpected { state: state.name(), event: name(&event) }),
    };
    Ok(record)
}

fn chosen(record: &mut Record, target: Target, retry: bool, now: Timestamp) -> State {
    if retry {
        record.bad.retain(|bad| bad.root_hash != target.root_hash);
    }
    record.failure = None;
    let holds = record.slots.iter().find(|(_, installed)| installed.root_hash == target.root_hash);
    match holds.map(|(slot, _)| *slot) {
        Some(slot) => {
            record.remember(now, &target.version, Outcome::Applied { way: WayTaken::present() });
            State::Applied { slot, target }
        }
        None => State::Fetching { target, since: now },
    }
}

fn applied(record: &mut Record, target: Target, slot: Slot, way: WayTaken, now: Timestamp) -> State {
    record.slots.insert(slot, Installed::unproven(&target));
    record.failure = None;
    record.remember(now, &target.version, Outcome::Applied { way });
    State::Applied { target, slot }
}

fn failed(record: &mut Record, state: State, reason: String, kept: bool, now: Timestamp) -> State {
    record.failure = Some((now, reason.clone()));
    if let Some(target) = state.target() {
        let outcome = if kept { Outcome::Interrupted { reason } } else { Outcome::NotApplied { reason } };
        record.remember(now, &target.version, outcome);
    }
    if kept { state } else { State::Idle }
}

struct Trial {
    target: Target,
    slot: Slot,
    boots: u32,
    boot_id: String,
}

fn checked(record: &mut Record, trial: Trial, report: HealthReport, now: Timestamp) -> State {
    let Trial { target, slot, boots, boot_id } = trial;
    match report.verdict {
        Verdict::Healthy => {
            let in_vain = record.slots.get(&slot).map_or(0, |installed| installed.in_vain);
            record.slots.insert(slot, Installed { proven: true, in_vain, ..Installed::unproven(&target) });
            record.bad.retain(|bad| bad.root_hash != target.root_hash);
            record.remember(now, &target.version, Outcome::Proven { boots, report });
            State::Committing { target, slot }
        }
        // A system that runs, unhealthy as it is, beats one that does not come up: the boot loader must not go where there is nothing
        // once this one's boots are used up.
        Verdict::Unhealthy if !record.slots.contains_key(&slot.other()) => {
            record.remember(now, &target.version, Outcome::Unhealthy { report });
            State::Committing { target, slot }
        }
        Verdict::Unhealthy => {
            let culprit = report.culprit();
            let cause = Cause::Health {
                check: culprit.map_or_else(String::new, |check| check.name.clone()),
                message: culprit.map_or_else(String::new, |check| check.message.clone()),
            };
            State::RollingBack {
                from: target,
                slot,
                cause,
                report: Some(report),
                boots: Some(boots),
                boot_id,
            }
        }
    }
}

fn roll_back(
    record: &mut Record,
    state: State,
    seen: &Observation,
    now: Timestamp,
) -> Result<State, StepError> {
    let cause = Cause::Operator;
    let boot_id = seen.boot_id.clone();
    // An update that has not removed the other slot's entry has changed nothing there.
    let is_untouched =
        !matches!(state, State::Applied { .. }) && record.slots.contains_key(&seen.slot.other());
    let nothing = |why: String| Err(StepError::NoWayBack(why));
    match state {
        State::Switched { target, slot, .. } => {
            Ok(State::RollingBack { from: target, slot, cause, report: None, boots: None, boot_id })
        }
        State::Trial { target, slot, boots, .. } if record.slots.contains_key(&slot.other()) => {
            Ok(State::RollingBack { from: target, slot, cause, report: None, boots: Some(boots), boot_id })
        }
        State::RollingBack { .. } => Ok(state),
        State::Fetching { target, .. } | State::Applying { target, .. } | State::Applied { target, .. }
            if !is_untouched =>
        {
            nothing(format!(
                "{} is being written to slot {}, so no other release is there to go back to; see `upright status`",
                target.version,
                seen.slot.other()
            ))
        }
        _ => {
            let Some(other) = record.slots.get(&seen.slot.other()).cloned() else {
                return nothing(record.no_way_back(seen.slot.other()));
            };
            let was_bad = record.bad.iter().any(|bad| bad.root_hash == other.root_hash);
            if other.proven && !was_bad {
                let from = running(seen);
                return Ok(State::RollingBack {
                    from,
                    slot: seen.slot,
                    cause,
                    report: None,
                    boots: None,
                    boot_id,
                });
            }
            // What was left once is tried again, so it has to prove itself again.
            record.bad.retain(|bad| bad.root_hash != other.root_hash);
            record.remember(now, &other.version, Outcome::SwitchedBack);
            Ok(State::Applied { target: other.target(), slot: seen.slot.other() })
        }
    }
}

fn running(seen: &Observation) -> Target {
    Target { version: seen.version.clone(), root_hash: seen.root_hash, manifest: None, uki: None }
}

/// Brings what was persisted in line with what runs.
fn started(record: &mut Record, state: State, seen: &Observation, now: Timestamp) -> State {
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
                && (is_proven(record, seen.slot) && !seen.passed_over
                    || !record.slots.contains_key(&seen.slot.other())) =>
        {
            State::Committing { target: held(record, seen), slot: seen.slot }
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
        State::RollingBack { ref from, boot_id: ref decided_in, .. }
            if runs(from) && *decided_in == seen.boot_id && !seen.other_gone =>
        {
            state
        }
        // Power went before the boot loader was told.
        State::RollingBack { from, slot, cause, report, boots, .. }
            if runs(&from) && !seen.passed_over && !seen.other_gone =>
        {
            State::RollingBack { from, slot, cause, report, boots, boot_id }
        }
        State::RollingBack { from, cause, .. } if runs(&from) => {
            record.remember(now, &from.version, Outcome::Stuck { cause });
            if let Some(other) = record.slots.get_mut(&seen.slot.other()) {
                other.proven = false;
            }
            State::Idle
        }
        State::RollingBack { from, cause, report, boots, .. } => {
            left(record, &from, cause, report, boots, now)
        }
        // What is written from here on, it does not have: it begins anew.
        State::Committing { target, slot } if !runs(&target) && is_proven(record, slot) => {
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

/// What runs, with all that is known about it.
fn held(record: &Record, seen: &Observation) -> Target {
    record.slots.get(&seen.slot).map_or_else(|| running(seen), Installed::target)
}

fn is_proven(record: &Record, slot: Slot) -> bool {
    record.slots.get(&slot).is_some_and(|installed| installed.proven)
}

/// Whether what runs is on trial, whatever was begun before it came up. Without a way back there is no verdict to wait for; one that
/// did not start when it was gone back to is none.
fn has_to_prove_itself(record: &Record, seen: &Observation) -> bool {
    let is_way_back = |other: &Installed| other.proven || !seen.passed_over;
    seen.on_trial
        && !is_proven(record, seen.slot)
        && record.slots.get(&seen.slot.other()).is_some_and(is_way_back)
}

/// The release in the other slot was switched to, and the boot loader did not follow, so it is switched to once more. It is left
/// when that has come to nothing too often: a host must not restart for ever.
fn in_vain(record: &mut Record, target: Target, slot: Slot, what: String, seen: &Observation) -> State {
    let Some(installed) = record.slots.get_mut(&slot) else { return State::Idle };
    installed.proven = false;
    installed.in_vain = installed.in_vain.saturating_add(1);
    match installed.in_vain {
        MOST_IN_VAIN.. => {
            let reason = format!("{what}, {} times; see `upright doctor`", installed.in_vain);
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
fn lose(record: &mut Record, slot: Slot) {
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

fn name(event: &Event) -> &'static str {
    match event {
        Event::Started(_) => "a start",
        Event::Chosen { .. } => "the choice of a release",
        Event::Accepted { .. } => "the acceptance of a release",
        Event::Emptied => "the removal of a boot entry",
        Event::Progressed(_) => "progress",
        Event::Applied(_) => "the end of an installation",
        Event::Failed { .. } => "a failure",
        Event::Switched { .. } => "a switch",
        Event::TakenBack => "a switch that is taken back",
        Event::Checked(_) => "the end of the health checks",
        Event::Committed => "a commit",
        Event::Lost { .. } => "the loss of a slot",
        Event::RollbackAsked(_) => "a rollback",
    }
}
