//! `upright-build disk`.

use std::path::PathBuf;

use upright_manifests::version::Version;

use super::{Common, output};
use crate::disk::Format;
use crate::repo::install::{Target, install};
use crate::repo::progress::Progress as _;
use upright_manifests::bytes::human;

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
}

impl Disk {
    pub(super) fn run(&self, common: &Common) -> anyhow::Result<()> {
        let (workspace, _lock) = common.lock()?;
        let bars = common.bars();
        let (target, what) = match self.simulated {
            true => (Target::Simulated, "a simulated host"),
            false => (Target::Disk(self.format), "a disk"),
        };
        bars.begin("disk image", None);
        install(&workspace, &self.version, target, &self.output)?;
        let size = std::fs::metadata(&self.output).map_or(0, |file| file.len());
        bars.end(&human(size));
        output::print(&format!(
            "{} is {what} with {} {} in slot a",
            self.output.display(),
            workspace.config.os,
            self.version
        ))
    }
}
