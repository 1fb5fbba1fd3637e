//! `upright run`.

use clap::Args;

use super::Context;
use super::exit::{Exit, Failure};
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
        Ok(Exit::Done)
    }
}
