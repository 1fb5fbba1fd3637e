//! `upright reset-state`.

use clap::Args;

use super::exit::{Exit, Failure};
use super::{Context, output};
use crate::agent::Agent;
use crate::store::{RecordFile, StoreError};

/// Set a damaged state file aside and start from what the boot loader says
///
/// What is lost with it: the history and which releases were rolled back here. Slots and boot entries are not touched.
#[derive(Debug, Args)]
pub(super) struct ResetState {
    /// Do so even if the file is whole
    #[arg(long)]
    force: bool,
}

impl ResetState {
    pub(super) fn run(&self, context: &Context) -> Result<Exit, Failure> {
        let _lock = context.lock()?;
        let file = RecordFile::in_folder(&context.folder);
        let damaged = matches!(file.load(), Err(StoreError::Damaged { .. } | StoreError::Format { .. }));
        if !damaged && !self.force {
            let line = format!("{} is whole; `--force` sets it aside all the same", file.path().display());
            return Err(Failure::new(Exit::Refused, line));
        }
        let kept = file.set_aside()?;
        Agent::open(context.host.as_ref(), &context.config, &context.folder)?;
        let told = serde_json::json!({ "kept": kept });
        output::print(context.json, &told, || format!("the old state is kept as {}", kept.display()))?;
        Ok(Exit::Done)
    }
}
