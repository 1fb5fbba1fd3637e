//! `upright-build refresh`.

use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::json;
use upright_manifests::tuf::RoleStatus;

use super::{Common, output, staged};
use crate::repo::config::Config;
use crate::repo::error::Error;
use crate::repo::expiry::require_good;
use crate::repo::files::OnDisk;
use crate::repo::publish::Bench;
use crate::repo::refresh::refresh;
use crate::repo::signers::Signers;

/// Sign the snapshot and the timestamp anew, before they expire: run it from CI every day
#[derive(Debug, clap::Args)]
pub(super) struct Refresh {
    /// Sign this role anew too; needs its keys: root, targets or a team of upright.toml
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// Leave documents of --role that lack signatures in this folder, to be signed with upright-keys; run it again then
    #[arg(long, value_name = "DIR", requires = "roles")]
    stage: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Refresh {
    pub(super) fn run(&self, common: &Common) -> anyhow::Result<()> {
        let (workspace, _lock) = common.lock()?;
        let roles = self.roles.iter().map(|role| full_name(&workspace.config, role));
        let roles = roles.collect::<Result<Vec<String>, _>>()?;
        let online = ["snapshot", "timestamp"];
        let needed: Vec<&str> = online.into_iter().chain(roles.iter().map(String::as_str)).collect();
        let signers = Signers::open(&workspace, &needed, common.passphrase()?.as_ref())?;
        let bars = common.bars();
        let bench = Bench {
            workspace: &workspace,
            signers: &signers,
            files: &OnDisk,
            progress: &bars,
            now: common.now(),
        };
        let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
        let (status, staged) = refresh(&bench, &roles, self.stage.as_deref())?;
        match (self.json, staged.is_empty()) {
            (true, true) => output::json(&status)?,
            (true, false) => return output::json(&json!({ "staged": staged })),
            (false, false) => return output::print(&staged::text(&staged)),
            (false, true) => output::print(&text(&status, bench.now))?,
        }
        Ok(require_good(&status, bench.now)?)
    }
}

fn text(status: &[RoleStatus], now: Timestamp) -> String {
    let line = |role: &RoleStatus| {
        let until = if role.expires <= now { "EXPIRED" } else { "until" };
        format!("{} version {}: {until} {}", role.role, role.version, role.expires)
    };
    status.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The name that metadata has for a role or a team.
fn full_name(config: &Config, role: &str) -> Result<String, Error> {
    if matches!(role, "root" | "targets") {
        return Ok(role.to_owned());
    }
    if config.teams.contains_key(role) {
        return Ok(config.team_role(role));
    }
    let teams = config.teams.keys().map(|team| format!(", {team}")).collect::<String>();
    Err(Error::refused(format!("there is no role {role:?} to refresh: expected one of root, targets{teams}")))
}
