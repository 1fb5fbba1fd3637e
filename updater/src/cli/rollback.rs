//! `upright rollback`.

use clap::Args;

use super::exit::{Exit, Failure};
use super::{Context, output};
use crate::agent::RollbackPlan;

/// Go back to the other slot's release, and reboot into it; a second time goes forward again
///
/// The release that is left is remembered and not taken again by itself. Going forward again puts it on trial, as
/// after an update. With `--no-reboot`, the next boot goes back, whenever that is, and only the release there goes forward again.
#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,

    /// Go to a release that this host left because it was not healthy
    #[arg(long)]
    retry: bool,

    /// Leave the reboot to somebody else
    #[arg(long)]
    no_reboot: bool,
}

impl Rollback {
    pub(super) fn run(&self, context: &Context) -> Result<Exit, Failure> {
        let _lock = context.lock()?;
        let mut agent = context.agent(None)?;
        let plan = agent.plan_rollback()?;
        if let (Some(cause), false) = (&plan.left, self.retry) {
            let RollbackPlan { to, slot, .. } = &plan;
            let line = format!(
                "slot {slot} holds {to}, which this host left: {cause}; `upright rollback --retry` tries it again"
            );
            return Err(Failure::new(Exit::Refused, line));
        }
        let mut progress = output::Progress::new(context.json);
        if self.dry_run {
            agent.require_way_back(&mut progress)?;
            drop(progress);
            output::print(context.json, &plan, || format!("would go {}", describe(&plan)))?;
            return Ok(Exit::Done);
        }
        let reboot = agent.roll_back(&mut progress)?;
        drop(progress);
        output::print(context.json, &plan, || format!("going {}", describe(&plan)))?;
        if reboot && !self.no_reboot {
            agent.reboot()?;
        }
        Ok(Exit::Done)
    }
}

fn describe(plan: &RollbackPlan) -> String {
    let RollbackPlan { from, to, slot, trial, reboot, versioned, .. } = plan;
    let trial = if *trial { ", on trial until its health checks have passed" } else { "" };
    let reboot =
        if *reboot { "; the next boot starts it" } else { "; it runs already, and the switch is taken back" };
    let versioned = match versioned.as_slice() {
        [] => String::new(),
        paths => format!(
            "; as they were when slot {slot} ran last, without what was written since: {}; what is there now waits for the way forward \
             until an update writes slot {}",
            paths.join(", "),
            slot.other()
        ),
    };
    format!("from {from} to {to} in slot {slot}{trial}{reboot}{versioned}")
}
