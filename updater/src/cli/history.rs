//! `upright history`.

use clap::Args;

use super::exit::{Exit, Failure};
use super::{Context, output};

/// Show what happened on this host, newest last
#[derive(Debug, Args)]
pub(super) struct History {
    /// Show this many entries
    #[arg(short = 'n', long, default_value_t = 20)]
    count: usize,
}

impl History {
    pub(super) fn run(&self, context: &Context) -> Result<Exit, Failure> {
        let record = context.record()?;
        let entries = &record.history[record.history.len().saturating_sub(self.count)..];
        output::print(context.json, &entries, || match entries.is_empty() {
            true => "nothing has happened yet".to_owned(),
            false => entries.iter().map(|entry| format!("{entry}\n")).collect(),
        })?;
        Ok(Exit::Done)
    }
}
