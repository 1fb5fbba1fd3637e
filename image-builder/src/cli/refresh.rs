//! `upright-build refresh`.

use clap::ValueEnum;

use super::{Common, output};
use crate::repo::files::OnDisk;
use crate::repo::publish::Bench;
use crate::repo::refresh::refresh;
use crate::repo::signers::Signers;

/// Sign the snapshot and the timestamp anew, before they expire: run it from CI every day
#[derive(Debug, clap::Args)]
pub(super) struct Refresh {
    /// Sign this role anew too; needs its keys
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<OfflineRole>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OfflineRole {
    Root,
    Targets,
}

impl Refresh {
    pub(super) fn run(&self, common: &Common) -> anyhow::Result<()> {
        let (workspace, _lock) = common.lock()?;
        let roles: Vec<&'static str> = self
            .roles
            .iter()
            .map(|role| match role {
                OfflineRole::Root => "root",
                OfflineRole::Targets => "targets",
            })
            .collect();
        let needed: Vec<&str> = ["snapshot", "timestamp"].iter().chain(&roles).copied().collect();
        let signers = Signers::open(&workspace, &needed, common.passphrase()?.as_ref())?;
        let bars = common.bars();
        let bench = Bench {
            workspace: &workspace,
            signers: &signers,
            files: &OnDisk,
            progress: &bars,
            now: common.now(),
        };
        let status = refresh(&bench, &roles)?;
        if self.json {
            return output::json(&status);
        }
        for role in status {
            output::print(&format!("{} version {}: until {}", role.role, role.version, role.expires))?;
        }
        Ok(())
    }
}
