//! Makes simulated hosts (`upright --root DIR`) as a user does, with the partition sizes and the configuration of a test.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};

use crate::programs::build;

/// The sizes of a simulated host's slot b, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Its root partition.
    pub root: u64,
    /// Its verity partition.
    pub verity: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { root: 64 << 20, verity: 2 << 20 }
    }
}

/// Makes a host at `host` that has the build of `version` in slot a, and `config` as its configuration.
pub fn install(host: &Path, workspace: &Path, version: &str, config: &str, sizes: Sizes) -> Result<()> {
    let out = host.to_str().context("a path that is UTF-8")?;
    build(workspace, &["disk", version, "--simulated", "--output", out])?;
    for (name, size) in [("root-b", sizes.root), ("root-b-verity", sizes.verity)] {
        File::options().write(true).open(host.join("dev").join(name))?.set_len(size)?;
    }
    Ok(fs::write(host.join("etc/upright/upright.toml"), config)?)
}

/// Restarts the machine as if somebody, or a boot loader that does not do as it is told, started another entry than `passed_over`, a
/// file in `EFI/Linux`.
pub fn boot_without(host: &Path, passed_over: &str) -> Result<()> {
    let entry = host.join("esp/EFI/Linux").join(passed_over);
    let hidden = host.join("hidden");
    fs::rename(&entry, &hidden)?;
    fs::remove_file(host.join("run/cmdline"))?;
    let booted = crate::programs::upright(host, &["status"])?;
    anyhow::ensure!(booted.status == 0, "{booted:?}");
    Ok(fs::rename(hidden, entry)?)
}
