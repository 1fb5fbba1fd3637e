//! `upright check`.

use std::path::PathBuf;

use clap::Args;

use super::exit::{Exit, Failure};
use super::{Context, output};
use crate::policy::Overrides;

/// Ask the update server what there is, without changing anything
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Exit with 10 if an update is available
    #[arg(long)]
    exit_code: bool,

    /// Look at what `upright-build export` wrote, a folder or a file, instead of asking the server
    #[arg(long, value_name = "PATH")]
    from: Option<PathBuf>,
}

impl Check {
    pub(super) fn run(&self, context: &Context) -> Result<Exit, Failure> {
        let medium = Context::medium(self.from.as_deref())?;
        let _lock = context.lock()?;
        let mut agent = context.agent(medium.as_ref())?;
        let offer = agent.check(None, Overrides::default());
        let offer = offer.map_err(|error| Failure::of(&error, medium.as_ref()))?;
        let told = serde_json::json!({
            "running": agent.booted().version,
            "channel": offer.channel.channel,
            "version": offer.release.version,
            "available": offer.is_taken(),
            "decision": offer.decision,
            "medium": agent.record().medium,
        });
        output::tell_expired(&agent);
        output::tell_next_boot(&agent);
        output::print(context.json, &told, || offer.decision.to_string())?;
        Ok(if self.exit_code && offer.is_taken() { Exit::Available } else { Exit::Done })
    }
}
