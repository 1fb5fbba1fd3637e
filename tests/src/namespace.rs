//! Commands on hosts whose disks are full, small or read-only: in a mount namespace of their own.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::programs::{Ran, folder};

/// Runs a shell script as root of a mount namespace of its own, in a host's folder, with the programs of this build to be
/// found. What it mounts goes away with it.
pub fn in_namespace(host: &Path, script: &str) -> Result<Ran> {
    let as_root = match rustix::process::geteuid().is_root() {
        true => &["--mount"][..],
        false => &["--mount", "--map-root-user"],
    };
    let path = format!("{}:{}", folder()?.display(), std::env::var("PATH")?);
    let output = Command::new("unshare")
        .args(as_root)
        .args(["sh", "-euc", script])
        .current_dir(host)
        .env("PATH", path)
        .output()
        .context("util-linux's unshare is needed")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let status = output.status.code().unwrap_or(-1);
    let ran = Ran { status, stdout: text(&output.stdout), stderr: text(&output.stderr) };
    ensure!(ran.status == 0, "the script needs root or user namespaces: {ran:?}");
    Ok(ran)
}

/// What the script's `refused NAME COMMAND...` made of a command.
pub const REFUSED: &str = r#"
refused() { name=$1; shift; code=0; "$@" >"$name.out" 2>"$name.err" || code=$?; echo $code >"$name.code"; }
"#;

/// What was printed by the command that a script ran as `refused NAME COMMAND...`.
pub fn refused(host: &Path, name: &str) -> Result<Ran> {
    let read = |ending: &str| fs::read_to_string(host.join(format!("{name}.{ending}")));
    Ok(Ran { status: read("code")?.trim().parse()?, stdout: read("out")?, stderr: read("err")? })
}
