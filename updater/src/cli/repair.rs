//! `upright repair`.

use std::path::PathBuf;

use clap::Args;
use upright_manifests::bytes::human;
use upright_manifests::name::Slot;

use super::exit::{Exit, Failure};
use super::{Context, output};
use crate::agent::{AgentError, Did, Repaired};
use crate::machine::counted;

/// Write anew what is damaged in the slots, as `verify` finds it, and fetch only what this host does not have
///
/// Each block is compared with the root hash that was signed before it is written, and read back. The slot that runs is mended, too.
#[derive(Debug, Args)]
pub(super) struct Repair {
    /// This slot alone: a or b
    #[arg(long)]
    slot: Option<Slot>,

    /// Take what `upright-build export` wrote, a folder or a file, instead of what the server sends
    #[arg(long, value_name = "PATH")]
    from: Option<PathBuf>,

    /// Only print what would be fetched and written
    #[arg(long)]
    dry_run: bool,
}

impl Repair {
    pub(super) fn run(&self, context: &Context) -> Result<Exit, Failure> {
        let medium = Context::medium(self.from.as_deref())?;
        let _lock = context.lock()?;
        let mut agent = context.agent(medium.as_ref())?;
        let (mut done, mut failed) = (Vec::new(), None);
        for slot in
            agent.repair_order().into_iter().filter(|slot| self.slot.is_none_or(|asked| asked == *slot))
        {
            let mut progress = output::Progress::new(context.json);
            // What is wrong with one slot does not keep the other from being mended.
            match agent.repair(slot, self.dry_run, &mut done, &mut progress) {
                Ok(()) => {}
                Err(error @ AgentError::Step(_)) => return Err(error.into()),
                Err(error) => {
                    if let Some(first) = failed.replace(error) {
                        tracing::error!("{first}");
                    }
                }
            }
        }
        done.sort_by_key(|repaired: &Repaired| repaired.repair.slot);
        if let (Some(slot), true, None) = (self.slot, done.is_empty(), &failed) {
            let line = format!("slot {slot} holds no release, so there is nothing to mend");
            return Err(Failure::new(Exit::Refused, line));
        }
        match failed {
            None => {
                output::print(context.json, &done, || done.iter().map(describe).collect())?;
                Ok(Exit::Done)
            }
            Some(error) if context.json => {
                Err(Failure::of(&error, medium.as_ref()).with("slots", serde_json::json!(done)))
            }
            Some(error) => {
                if !done.is_empty() {
                    output::print(false, &done, || done.iter().map(describe).collect())?;
                }
                Err(Failure::of(&error, medium.as_ref()))
            }
        }
    }
}

fn describe(Repaired { outcome, version, repair }: &Repaired) -> String {
    match outcome {
        Did::Whole => format!("slot {} holds {version} as it was signed\n", repair.slot),
        Did::Mended => format!("{version}: {repair}\n"),
        Did::Planned => format!(
            "would write {} of {version} in slot {}, {} of them found on this host, and at least {} of its hash tree{}; fetches {}\n",
            counted(repair.blocks),
            repair.slot,
            repair.here,
            repair.tree,
            if repair.entry { ", and its boot entry" } else { "" },
            human(repair.fetched)
        ),
    }
}
