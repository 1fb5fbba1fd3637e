//! The pure step: a record and an event give the next record.

use jiff::Timestamp;
use upright_manifests::name::Slot;
use upright_manifests::version::Version;

use super::event::{Event, HealthReport, Observation, Verdict, WayTaken};
use super::history::Outcome;
use super::record::{Cause, Installed, Progress, Record, State, Target};
use super::started::{lose, running, started};

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
            Self::Committing { target, slot, .. } => Effect::MarkGood(target, slot),
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
    let was_left = matches!(state, State::RollingBack { .. });
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
        // With nothing to go back to, what the boot loader is told of it changes nothing.
        (State::Committing { slot, .. }, Event::Chosen { target, retry })
            if !record.is_proven(slot.other()) =>
        {
            chosen(&mut record, target, retry, now)
        }
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
        (State::Committing { slot, healthy, .. }, Event::Committed) => {
            // What was decided before the release ran is over.
            record.decided = None;
            if let Some(installed) = record.slots.get_mut(&slot) {
                installed.in_vain = 0;
                // One that older agents found healthy is proven already.
                installed.proven |= healthy;
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
    // How often it cannot be left is no matter of how often it was not started.
    if let State::RollingBack { slot, .. } = record.state
        && !was_left
        && let Some(installed) = record.slots.get_mut(&slot)
    {
        installed.in_vain = 0;
    }
    Ok(record)
}

fn chosen(record: &mut Record, target: Target, retry: bool, now: Timestamp) -> State {
    if retry {
        record.bad.retain(|bad| bad.root_hash != target.root_hash);
    }
    record.failure = None;
    let holds = record.slots.iter_mut().find(|(_, installed)| installed.root_hash == target.root_hash);
    match holds {
        Some((&slot, installed)) => {
            // It proves itself with what there is now: what it has is from when it ran last.
            installed.proven = false;
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
            record.slots.insert(slot, Installed { in_vain, ..Installed::unproven(&target) });
            record.bad.retain(|bad| bad.root_hash != target.root_hash);
            record.remember(now, &target.version, Outcome::Proven { boots, report });
            State::Committing { target, slot, healthy: true }
        }
        // A system that runs, unhealthy as it is, beats one that does not come up: the boot loader must not go where there is nothing
        // once this one's boots are used up.
        Verdict::Unhealthy if !record.slots.contains_key(&slot.other()) => {
            record.remember(now, &target.version, Outcome::Unhealthy { report });
            State::Committing { target, slot, healthy: false }
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
    let is_untouched = record.slots.contains_key(&seen.slot.other());
    let nothing = |why: String| Err(StepError::NoWayBack(why));
    match state {
        State::Switched { target, slot, .. } => {
            Ok(State::RollingBack { from: target, slot, cause, report: None, boots: None, boot_id })
        }
        State::Trial { target, slot, boots, .. } if record.slots.contains_key(&slot.other()) => {
            Ok(State::RollingBack { from: target, slot, cause, report: None, boots: Some(boots), boot_id })
        }
        State::RollingBack { .. } => Ok(state),
        // Power went before the switch that was asked for the last time.
        State::Applied { ref target, .. } if record.was_asked_back(&target.version) => Ok(state),
        State::Applied { target, slot } => {
            let version = target.version;
            nothing(match record.slots.get(&slot).map_or(0, |installed| installed.in_vain) {
                0 => format!(
                    "{version} is in slot {slot} in place of what was there, and the next boot does not take it; `upright update` goes on"
                ),
                _ => format!(
                    "the boot loader did not start {version} in slot {slot}, which is tried again; `upright doctor` says what keeps it from that"
                ),
            })
        }
        State::Fetching { target, .. } | State::Applying { target, .. } if !is_untouched => nothing(format!(
            "{} is being written to slot {}, so no other release is there to go back to; see `upright status`",
            target.version,
            seen.slot.other()
        )),
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
