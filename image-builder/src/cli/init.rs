//! `upright-build init`.

use std::path::PathBuf;

use upright_manifests::name::{Arch, OsName};

use super::{Common, output};
use crate::repo::init::init;

/// Make a workspace: upright.toml, keys for trying out, an empty signed repository
#[derive(Debug, clap::Args)]
pub(super) struct Init {
    /// The folder, empty or not there
    dir: PathBuf,
    /// The name of the OS: a-z, 0-9 and -, as in the ID of its os-release
    #[arg(long, value_name = "NAME")]
    os: OsName,
    /// The architecture: x86-64 or arm64
    #[arg(long, default_value_t = Arch::HERE)]
    arch: Arch,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Init {
    pub(super) fn run(&self, common: &Common) -> anyhow::Result<()> {
        let made = init(&self.dir, &self.os, self.arch, common.passphrase()?.as_ref(), common.now())?;
        if self.json {
            let keys: serde_json::Map<_, _> = made
                .keys
                .iter()
                .map(|(role, path)| ((*role).to_owned(), path.display().to_string().into()))
                .collect();
            let dir = self.dir.display().to_string();
            let encrypted = common.passphrase.is_some();
            return output::json(&serde_json::json!({
                "workspace": dir, "os": self.os, "arch": self.arch, "keys": keys, "encrypted": encrypted,
            }));
        }
        output::print(&format!("{} is a workspace for {} on {}", self.dir.display(), self.os, self.arch))?;
        let dir = self.dir.display();
        output::print(&format!("  {dir}/upright.toml  settings, with comments"))?;
        output::print(&format!(
            "  {dir}/root.json     the root of trust: ship it in images as /usr/share/upright/root.json"
        ))?;
        output::print(&format!("  {dir}/repository/   what to serve"))?;
        let state = if common.passphrase.is_some() { "encrypted" } else { "NOT encrypted" };
        output::note(&format!("\nWARNING: new private keys, {state}, are in"));
        for (role, path) in &made.keys {
            let place = match *role {
                "root" | "targets" => "keep it OFFLINE",
                "tree" => "online, signs the commits in ostree/",
                _ => "online",
            };
            output::note(&format!("  {}  {role}: {place}", path.display()));
        }
        output::note(
            "They will do for trying out. Before a real host trusts them, move root and targets to a machine without a \
             network, or a token: whoever has them decides what your hosts run. docs/keys.md says how, and how keys are replaced.",
        );
        Ok(())
    }
}
