//! The agent's loop: ask, install, reboot, wait.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use sd_notify::NotifyState;
use upright_manifests::channel::Window;
use upright_manifests::digest::Digest;

use super::{Agent, AgentError, Busy, Lock, Reporter, TrialError};
use crate::config::Config;
use crate::host::Host;
use crate::machine::{Cause, Effect, State};
use crate::policy::{Decision, Overrides, RebootDecision, Wait, reboot};

/// How long to wait while somebody else is at work or a trial is under way.
const SHORT_WAIT: Duration = Duration::from_secs(10);

/// The longest single sleep, so that the watchdog is answered and a clock that was set is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(20);

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    /// Ask again after the poll interval, or earlier if something opens at this time.
    Poll(Option<Timestamp>),
    /// Look again soon.
    Soon,
    /// The machine restarts.
    Reboot,
}

/// Keeps the host up to date. Returns after one round with `once`, otherwise only where it cannot have the lock at all.
pub fn serve(host: &dyn Host, config: &Config, folder: &Path, once: bool) -> Result<(), TrialError> {
    // Without systemd there is nobody to notify.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let mut round = 0;
    loop {
        let next = match one_round(host, config, folder) {
            Ok(next) => next,
            Err(TrialError::Busy(Busy::Held { .. })) if !once => Next::Soon,
            // What another program or an operator mends is looked at again when it is time to.
            Err(TrialError::Agent(error)) if !once => {
                tracing::error!("{error}");
                Next::Poll(None)
            }
            Err(error) => return Err(error),
        };
        if once {
            return Ok(());
        }
        round += 1;
        wait(host, &next, pause(host, config, &next, round));
    }
}

fn one_round(host: &dyn Host, config: &Config, folder: &Path) -> Result<Next, TrialError> {
    let _lock = Lock::take(folder)?;
    let mut agent = Agent::open_unattended(host, config, folder)?;
    // The health service ends a trial; a commit or rollback that was cut off is finished here.
    if matches!(agent.record.state, State::Trial { .. }) {
        return Ok(Next::Soon);
    }
    // When to reboot is for the operator who left the release to say, or for policy.
    if matches!(agent.record.state, State::RollingBack { cause: Cause::Operator, .. }) && agent.leave()? {
        return Ok(agent.reboot_by_policy(&[])?);
    }
    agent.end_trial()?;
    Ok(agent.round()?)
}

impl Agent<'_> {
    fn round(&mut self) -> Result<Next, AgentError> {
        let offer = self.check(None, Overrides::default())?;
        // What the next boot takes anyway was told about when it was installed.
        match &self.record.state {
            State::Switched { target, .. } if offer.is_taken() && *target == offer.target() => {
                tracing::debug!("{}, and stands ready", offer.decision);
            }
            _ => tracing::info!("{}", offer.decision),
        }
        if offer.is_taken() {
            self.install(&offer, false, &mut Logged)?;
        }
        match (self.record.state.effect(), &offer.decision) {
            (Effect::Reboot(_), Decision::Wait { .. } | Decision::Refuse { .. }) => Ok(Next::Poll(None)),
            // Withdrawn by its publisher, or an operator's choice: not what this service reboots for.
            (Effect::Reboot(target), _) if target != offer.target() => {
                tracing::warn!(
                    "{} stands ready and is not what the channel offers: it waits for an operator to reboot, or to take it back with \
                     `upright rollback`",
                    target.version
                );
                Ok(Next::Poll(None))
            }
            (Effect::Reboot(_), _) => self.reboot_by_policy(&offer.channel.windows),
            (_, Decision::Wait { wait: Wait::Wave { from }, .. }) => Ok(Next::Poll(*from)),
            _ => Ok(Next::Poll(None)),
        }
    }

    fn reboot_by_policy(&self, channel_windows: &[Window]) -> Result<Next, AgentError> {
        let update = &self.config.update;
        let now = self.now();
        let decision = reboot(update.reboot, &update.windows(), channel_windows, now);
        tracing::info!("{decision}");
        match decision {
            RebootDecision::Now => {
                self.require_bootable()?;
                self.reboot().map(|()| Next::Reboot)
            }
            RebootDecision::At { time } => Ok(Next::Poll(Some(time))),
            RebootDecision::Operator => Ok(Next::Poll(None)),
        }
    }
}

/// How long to wait. The jitter differs by host and round, so that a fleet does not ask all at once.
fn pause(host: &dyn Host, config: &Config, next: &Next, round: u64) -> Duration {
    let Next::Poll(opens) = next else { return SHORT_WAIT };
    let seed = Digest::of(format!("upright jitter 1\0{}\0{round}", host.machine().id()).as_bytes());
    let share = f64::from(u16::from_le_bytes([seed.as_bytes()[0], seed.as_bytes()[1]])) / 65536.0;
    let poll = config.update.poll.0 + config.update.jitter.0.mul_f64(share);
    let opens = opens.and_then(|time| Duration::try_from(time.duration_since(host.clock().now())).ok());
    opens.map_or(poll, |until| poll.min(until))
}

/// Sleeps in pieces, each with a sign of life.
fn wait(host: &dyn Host, next: &Next, time: Duration) {
    tracing::debug!(?next, seconds = time.as_secs(), "waiting");
    let until = host.clock().monotonic() + time;
    loop {
        let left = until.saturating_sub(host.clock().monotonic());
        if left.is_zero() {
            return;
        }
        host.clock().sleep(left.min(LONGEST_SLEEP));
    }
}

/// Logs steps.
pub(super) struct Logged;

impl Reporter for Logged {
    fn step(&mut self, line: &str) {
        tracing::info!("{line}");
        let _ = sd_notify::notify(&[NotifyState::Status(line)]);
    }

    fn bytes(&mut self, _: u64, _: u64) {}
}
