//! `upright update`.

use std::path::PathBuf;

use clap::Args;
use upright_manifests::version::Version;

use super::exit::{Exit, Failure};
use super::{Context, output};
use crate::agent::Offer;
use crate::policy::{Decision, Overrides};

/// Fetch what the channel offers, write it to the slot that is not running, and make it what the next boot takes
#[derive(Debug, Args)]
pub(super) struct Update {
    /// Take this release instead of the channel's
    #[arg(long)]
    version: Option<Version>,

    /// Only print what would be fetched and written
    #[arg(long)]
    dry_run: bool,

    /// Do not wait for this host's wave or a hold
    #[arg(long)]
    now: bool,

    /// Try a release again that was rolled back on this host
    #[arg(long)]
    retry: bool,

    /// Take an older release than the one that runs
    #[arg(long)]
    allow_downgrade: bool,

    /// Reboot into it right away
    #[arg(long)]
    reboot: bool,

    /// Take what `upright-build export` wrote, a folder or a file, instead of what the server sends
    #[arg(long, value_name = "PATH")]
    from: Option<PathBuf>,
}

impl Update {
    pub(super) fn run(&self, context: &Context) -> Result<Exit, Failure> {
        let medium = Context::medium(self.from.as_deref())?;
        let _lock = context.lock()?;
        let mut agent = context.agent(medium.as_ref())?;
        let overrides = Overrides { now: self.now, retry: self.retry, allow_downgrade: self.allow_downgrade };
        let told = |error| Failure::of(&error, medium.as_ref());
        let offer = agent.check(self.version.as_ref(), overrides).map_err(told)?;
        output::tell_expired(&agent);
        if !offer.is_taken() {
            output::tell_next_boot(&agent);
            return decline(context, &offer);
        }
        if self.dry_run {
            let plan = agent.plan_update(&offer).map_err(told)?;
            output::print(context.json, &plan, || plan.to_string())?;
            return Ok(Exit::Done);
        }
        let mut progress = output::Progress::new(context.json);
        agent.install(&offer, self.retry, &mut progress).map_err(told)?;
        drop(progress);
        if self.reboot {
            agent.require_bootable()?;
        }
        let slot = agent.booted().slot.other();
        let told = serde_json::json!({
            "version": offer.release.version, "slot": slot, "reboot_needed": !self.reboot,
            "history": agent.record().history.last(),
        });
        output::print(context.json, &told, || {
            let next =
                if self.reboot { "rebooting into it" } else { "the next boot starts it: run `reboot`" };
            format!("{} stands ready in slot {slot}; {next}", offer.release.version)
        })?;
        if self.reboot {
            agent.reboot()?;
        }
        Ok(Exit::Done)
    }
}

/// Nothing is taken: says why. Being up to date is a success, a refusal is not.
fn decline(context: &Context, offer: &Offer) -> Result<Exit, Failure> {
    match &offer.decision {
        Decision::Refuse { .. } => Err(Failure::new(Exit::Refused, offer.decision.to_string())),
        decision => {
            output::print(context.json, decision, || decision.to_string())?;
            Ok(Exit::Done)
        }
    }
}
