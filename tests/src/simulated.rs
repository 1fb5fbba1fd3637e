//! Makes simulated hosts (`upright --root DIR`) as a user does, with the partition sizes and the configuration of a test.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::programs::{build, done};

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
    done(host, &["status"])?;
    Ok(fs::rename(hidden, entry)?)
}

/// Restarts the machine, and gives the version that comes up.
pub fn boot(host: &Path) -> Result<String> {
    fs::remove_file(host.join("run/cmdline"))?;
    runs(host)
}

/// The version that runs.
pub fn runs(host: &Path) -> Result<String> {
    Ok(text(&slot(host, true)?["version"]))
}

/// What `upright status` says of the slot that runs, or of the other one.
pub fn slot(host: &Path, booted: bool) -> Result<Value> {
    let status = done(host, &["status", "--json"])?.json()?;
    let slots = status["slots"].as_array().context("no slots")?;
    Ok(slots.iter().find(|slot| slot["booted"] == booted).cloned().unwrap_or_default())
}

/// A text in what a program said; `-` where there is none.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}
