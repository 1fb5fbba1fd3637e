//! `upright-build disk`.

use std::path::PathBuf;

use upright_manifests::version::Version;

use super::{Common, output};
use crate::disk::Format;
use crate::repo::bytes::human;
use crate::repo::install::install;
use crate::repo::progress::Progress as _;

/// Write a bootable disk image of a build, for a first install
#[derive(Debug, clap::Args)]
pub(super) struct Disk {
    /// The version that was built
    version: Version,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The format: raw, qcow2, vhd or vmdk
    #[arg(long, default_value = "raw")]
    format: Format,
}

impl Disk {
    pub(super) fn run(&self, common: &Common) -> anyhow::Result<()> {
        let (workspace, _lock) = common.lock()?;
        let bars = common.bars();
        bars.begin("disk image", None);
        install(&workspace, &self.version, self.format, &self.output)?;
        let size = std::fs::metadata(&self.output).map_or(0, |file| file.len());
        bars.end(&human(size));
        output::print(&format!(
            "{} is a disk with {} {} in slot a",
            self.output.display(),
            workspace.config.os,
            self.version
        ))
    }
}
