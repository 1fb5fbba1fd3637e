//! An operator's rollback, and forward again.

use serde::Serialize;
use upright_manifests::name::Slot;
use upright_manifests::version::Version;

use super::{Agent, AgentError, Reporter};
use crate::machine::{Cause, Effect, Event, State, step};
use crate::state;

/// What a rollback would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RollbackPlan {
    /// The version that is left.
    pub from: Version,
    /// The version that runs afterwards.
    pub to: Version,
    /// The slot it is in.
    pub slot: Slot,
    /// Whether it is on trial then, because it was left before.
    pub trial: bool,
    /// Why it was left, unless an operator did that.
    pub left: Option<Cause>,
    /// Whether a reboot is needed.
    pub reboot: bool,
    /// The paths that are there as they were when the slot ran last.
    pub versioned: Vec<String>,
}

impl Agent<'_> {
    /// What [`Self::roll_back`] would do now.
    pub fn plan_rollback(&self) -> Result<RollbackPlan, AgentError> {
        let asked = Event::RollbackAsked(self.observe()?);
        let next = step(self.record.clone(), asked, self.now())?;
        let running = &self.booted.version;
        Ok(match next.state {
            State::RollingBack { from, slot, .. } if slot != self.booted.slot => RollbackPlan {
                from: from.version,
                to: running.clone(),
                slot: self.booted.slot,
                trial: false,
                left: None,
                reboot: false,
                versioned: Vec::new(),
            },
            ref state => {
                let slot = self.booted.slot.other();
                let to = next.slots.get(&slot).map_or(running, |installed| &installed.version).clone();
                let trial = matches!(state, State::Applied { .. });
                let left = if trial { self.found_bad(slot) } else { None };
                let versioned = self.goes_back(slot);
                RollbackPlan { from: running.clone(), to, slot, trial, left, reboot: true, versioned }
            }
        })
    }

    /// What each of the slots has its own copy of, or only one of them. What cannot be read keeps nobody from going back.
    fn goes_back(&self, slot: Slot) -> Vec<String> {
        let layout = self.layout();
        if state::is_fresh(&layout, slot).unwrap_or_default() {
            return Vec::new();
        }
        state::apart(&layout).unwrap_or_default().into_iter().map(|path| format!("/var/{path}")).collect()
    }

    /// Why the release in `slot` was left by this agent, and not by an operator.
    pub(super) fn found_bad(&self, slot: Slot) -> Option<Cause> {
        let holds = self.record.slots.get(&slot)?.root_hash;
        self.record.found_bad(&holds).cloned()
    }

    /// An error where [`Self::roll_back`] would not go since what is there is damaged. Reads all of it.
    pub fn require_way_back(&self, reporter: &mut dyn Reporter) -> Result<(), AgentError> {
        let next = step(self.record.clone(), Event::RollbackAsked(self.observe()?), self.now())?;
        let away = self.booted.slot.other();
        match (&next.state, self.record.slots.get(&away)) {
            (State::RollingBack { slot, .. }, Some(other)) if *slot == self.booted.slot => {
                self.require_whole(&other.version, other.root_hash, away, reporter)
            }
            (State::Applied { target, slot }, _) => self.require_written(target, *slot, reporter),
            _ => Ok(()),
        }
    }

    /// Makes the other slot's release what the next boot takes. Says whether a reboot is needed.
    pub fn roll_back(&mut self, reporter: &mut dyn Reporter) -> Result<bool, AgentError> {
        self.require_way_back(reporter)?;
        self.take(Event::RollbackAsked(self.observe()?))?;
        match self.record.state.effect() {
            Effect::Switch(target, slot) => {
                self.switch(&target, slot)?;
                Ok(true)
            }
            _ => self.leave(),
        }
    }
}
