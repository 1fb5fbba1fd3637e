//! Runs the programs under test as a user would.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What a program did.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Its exit status; -1 if a signal ended it.
    pub status: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Ran {
    /// Its standard output as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("not JSON: {self:?}"))
    }
}

/// The folder with the programs of this build: `UPRIGHT_PROGRAMS`, or where cargo puts them beside the tests.
pub fn folder() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("UPRIGHT_PROGRAMS") {
        // Programs are run in other folders, too.
        return Ok(std::path::absolute(PathBuf::from(folder))?);
    }
    let mut path = std::env::current_exe()?;
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    Ok(path)
}

/// Runs a program of this build and gives what it did, whatever its exit status.
pub fn run<A: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) -> Result<Ran> {
    let path = folder()?.join(program);
    ensure!(path.exists(), "{} is not built: run `cargo build --workspace --bins`", path.display());
    let output = Command::new(&path)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {}", path.display()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ran {
        status: output.status.code().unwrap_or(-1),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    })
}

/// Runs `upright-build` in a workspace; it must succeed.
pub fn build(workspace: &Path, arguments: &[&str]) -> Result<Ran> {
    let workspace = [OsStr::new("-C"), workspace.as_os_str()];
    let ran = run("upright-build", workspace.into_iter().chain(arguments.iter().map(OsStr::new)))?;
    ensure!(ran.status == 0, "upright-build {}: {ran:?}", arguments.join(" "));
    Ok(ran)
}

/// Runs `upright` on a simulated host.
pub fn upright(host: &Path, arguments: &[&str]) -> Result<Ran> {
    let root = [OsStr::new("--root"), host.as_os_str()];
    run("upright", root.into_iter().chain(arguments.iter().map(OsStr::new)))
}

/// Runs `upright` on a simulated host; it must succeed.
pub fn done(host: &Path, arguments: &[&str]) -> Result<Ran> {
    let ran = upright(host, arguments)?;
    ensure!(ran.status == 0, "upright {}: {ran:?}", arguments.join(" "));
    Ok(ran)
}
