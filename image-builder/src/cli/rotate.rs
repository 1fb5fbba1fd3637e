//! `upright-build rotate`.

use std::path::PathBuf;

use serde_json::json;

use super::{Common, output, staged};
use crate::repo::files::OnDisk;
use crate::repo::publish::Bench;
use crate::repo::rotate::{self, Plan};
use crate::repo::signers::Signers;

/// Make the published root and delegations say what upright.toml says: keys, thresholds and teams
#[derive(Debug, clap::Args)]
pub(super) struct Rotate {
    /// Sign with this key file too, such as one that is being replaced; repeatable
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// Leave what lacks signatures in this folder, to be signed with upright-keys; run it again then
    #[arg(long, value_name = "DIR")]
    stage: Option<PathBuf>,
    /// Print what would change and who must sign it, and do nothing
    #[arg(long, conflicts_with = "stage")]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Rotate {
    pub(super) fn run(&self, common: &Common) -> anyhow::Result<()> {
        let (workspace, _lock) = common.lock()?;
        let passphrase = common.passphrase()?;
        let roles: Vec<String> = workspace.config.all_roles().into_iter().map(|(name, _)| name).collect();
        let mut signers = Signers::open(&workspace, &roles, passphrase.as_ref())?;
        for key in &self.keys {
            signers.add_file(key, passphrase.as_ref())?;
        }
        let bars = common.bars();
        let bench = Bench {
            workspace: &workspace,
            signers: &signers,
            files: &OnDisk,
            progress: &bars,
            now: common.now(),
        };
        let plan = rotate::prepare(&bench, passphrase.as_ref())?;
        if self.dry_run {
            return match self.json {
                true => output::json(&json!({ "changes": plan.changes, "needs": plan.needs })),
                false => output::print(&text(&plan)),
            };
        }
        let words = text(&plan);
        let outcome = rotate::rotate(&bench, plan, self.stage.as_deref())?;
        if self.json {
            return output::json(&outcome);
        }
        output::print(&words)?;
        match (outcome.changes.is_empty(), outcome.staged.is_empty()) {
            (true, _) => Ok(()),
            (false, true) => output::print("done: signed and published"),
            (false, false) => output::print(&staged::text(&outcome.staged)),
        }
    }
}

fn text(plan: &Plan) -> String {
    if plan.changes.is_empty() {
        return "what is published is what upright.toml says; nothing to do".into();
    }
    let changes = plan.changes.iter().map(ToString::to_string);
    changes.chain(plan.needs.iter().map(ToString::to_string)).collect::<Vec<_>>().join("\n")
}
