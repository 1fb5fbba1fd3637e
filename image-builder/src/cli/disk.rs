//! `upright-build disk`.

use std::path::PathBuf;

use serde_json::json;
use upright_manifests::version::Version;

use super::{Common, output};
use crate::disk::Format;
use crate::repo::install::{Target, install};

/// Write a bootable disk image of a build, for a first install, or a simulated host for trying it out
#[derive(Debug, clap::Args)]
pub(super) struct Disk {
    /// The version that was built
    version: Version,
    /// The file or folder to write
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    /// The format: raw, qcow2, vhd or vmdk
    #[arg(long, default_value = "raw")]
    format: Format,
    /// Write a folder for `upright --root` instead, a host made of files
    #[arg(long, conflicts_with = "format")]
    simulated: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Disk {
    pub(super) fn run(&self, common: &Common) -> anyhow::Result<()> {
        let (workspace, _lock) = common.lock()?;
        let bars = common.bars();
        let (target, what) = match self.simulated {
            true => (Target::Simulated, "a simulated host"),
            false => (Target::Disk(self.format), "a disk"),
        };
        install(&workspace, &self.version, target, &self.output, &bars)?;
        let (os, output) = (&workspace.config.os, self.output.display());
        if self.json {
            let format = if self.simulated { "simulated" } else { self.format.as_str() };
            let told = json!({ "output": output.to_string(), "format": format, "os": os, "version": self.version, "slot": "a" });
            return output::json(&told);
        }
        output::print(&format!("{output} is {what} with {os} {} in slot a", self.version))
    }
}
