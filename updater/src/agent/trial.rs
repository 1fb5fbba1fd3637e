//! The health checks of a trial boot.

use std::path::Path;
use std::time::Duration;

use super::service::Logged;
use super::{Agent, AgentError, Busy, Lock};
use crate::config::Config;
use crate::health::{examine, gather};
use crate::host::Host;
use crate::machine::{Cause, Event, HealthReport, Installed, State, Verdict};
use crate::store::StoreError;

/// How a trial went.
#[derive(Debug)]
pub enum TrialOutcome {
    /// No release is on trial.
    NoTrial,
    /// The checks ended with this report, and what follows from it was done: the slot is good, or the machine is
    /// on its way back to the other one.
    Ended(HealthReport),
}

/// Why a trial could not be run.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// Another agent is at work.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The agent failed.
    #[error(transparent)]
    Agent(#[from] AgentError),
}

/// How long to wait for another agent to let go of the lock. While a release is on trial, none holds it for long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the health checks if a release is on trial, and acts on the verdict.
///
/// The lock is held before and after the checks, not during them, so that an operator can ask for a rollback meanwhile.
/// On a boot that is no trial it is not waited for: an update may be under way, and is no reason to fail.
pub fn run_trial(host: &dyn Host, config: &Config, folder: &Path) -> Result<TrialOutcome, TrialError> {
    let state = match Agent::peek(host, config, folder) {
        Err(AgentError::Store(StoreError::Damaged { .. } | StoreError::Format { .. })) => {
            let _lock = patiently(host, folder)?;
            Agent::open_unattended(host, config, folder)?.record.state
        }
        peeked => peeked?.state,
    };
    if !matches!(state, State::Trial { .. } | State::Committing { .. } | State::RollingBack { .. }) {
        // Whoever else holds the lock has opened an agent, which tells the boot loader that this boot came up.
        if let Ok(_lock) = Lock::take(folder)
            && let Err(error) = Agent::open(host, config, folder)
        {
            tracing::warn!("cannot tell the boot loader that this boot came up: {error}");
        }
        return Ok(TrialOutcome::NoTrial);
    }
    let before = {
        let _lock = patiently(host, folder)?;
        let mut agent = Agent::open(host, config, folder)?;
        // A commit or rollback that a power cut or a kill interrupted goes on.
        agent.end_trial()?;
        agent.record.state
    };
    let State::Trial { target, .. } = &before else { return Ok(TrialOutcome::NoTrial) };
    tracing::info!(version = %target.version, "health checks begin");
    let mut report = examine(&config.health, &gather(&config.health), host.prober(), host.clock());
    if host.machine().state_in_memory() {
        report.add_failure(
            "state",
            "this boot could not reach its part of /var, and what is written now is lost",
        );
    }
    let _lock = patiently(host, folder)?;
    let mut agent = Agent::open(host, config, folder)?;
    // An operator's rollback that came in between has the last word.
    if agent.record.state != before {
        return Ok(TrialOutcome::NoTrial);
    }
    if report.verdict == Verdict::Unhealthy {
        agent.look_at_the_way_back()?;
    }
    agent.take(Event::Checked(report.clone()))?;
    agent.end_trial()?;
    Ok(TrialOutcome::Ended(report))
}

/// A verdict must not be lost to an agent that happens to be at work.
fn patiently(host: &dyn Host, folder: &Path) -> Result<Lock, Busy> {
    Lock::wait(folder, host.clock(), PATIENCE)
}

impl Agent<'_> {
    /// A system that runs, unhealthy as it is, beats one that does not come up: a way back that is damaged is none.
    fn look_at_the_way_back(&mut self) -> Result<(), AgentError> {
        let slot = self.booted.slot.other();
        let Some(Installed { version, root_hash, .. }) = self.record.slots.get(&slot).cloned() else {
            return Ok(());
        };
        match self.require_whole(&version, root_hash, slot, &mut Logged) {
            Ok(()) => Ok(()),
            Err(error) => {
                let reason = error.to_string();
                tracing::error!(%slot, %reason, "the way back is lost");
                self.take(Event::Lost { slot, reason })
            }
        }
    }

    /// Tells the boot loader about a verdict, and reboots if the release that runs was found bad. When to leave what an operator left
    /// is for the operator to say, or for policy.
    pub(super) fn end_trial(&mut self) -> Result<(), AgentError> {
        match self.record.state {
            State::Committing { slot, .. } => match self.commit() {
                // To fail would end in a restart, or keep the next release away, and there is nothing better to start.
                Err(error) if !self.record.is_proven(slot.other()) => {
                    tracing::error!("{error}");
                    Ok(())
                }
                committed => committed,
            },
            State::RollingBack { ref cause, .. } => {
                let asked = *cause == Cause::Operator;
                match self.leave()? && !asked {
                    true => self.reboot(),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
