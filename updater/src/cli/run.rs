//! `upright run`.

use clap::Args;

use super::exit::{Exit, Failure};
use super::{Context, output};
use crate::agent::serve;

/// Keep this host up to date, unattended; started by systemd
#[derive(Debug, Args)]
pub(super) struct Run {
    /// Ask the update server once, do what follows from it, and end
    #[arg(long)]
    once: bool,
}

impl Run {
    pub(super) fn run(&self, context: &Context) -> Result<Exit, Failure> {
        serve(context.host.as_ref(), &context.config, &context.folder, self.once)?;
        if context.json {
            let record = context.record()?;
            let decided = record.decided.as_ref().map(|(_, decision)| decision);
            let told = serde_json::json!({
                "state": record.state, "decision": decided, "last_contact": record.last_contact,
            });
            output::print(true, &told, String::new)?;
        }
        Ok(Exit::Done)
    }
}
