//! Runs a command line as a whole process and tells what it cost.
//!
//! The kernel's own account of the process and its children counts, as GNU time reads it: CPU seconds are user and system
//! together, so a busy machine changes them little; peak memory is that of the largest single process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// What a command took from the machine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds of CPU time, user and system.
    pub cpu_s: f64,
    /// Peak resident memory of the largest process, in bytes.
    pub rss_bytes: u64,
    /// Bytes written to files.
    pub written_bytes: u64,
}

impl Cost {
    /// The cost of two commands, one after the other.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            cpu_s: self.cpu_s + other.cpu_s,
            rss_bytes: self.rss_bytes.max(other.rss_bytes),
            written_bytes: self.written_bytes + other.written_bytes,
        }
    }
}

/// Where command lines run, and which programs of ours they find.
#[derive(Debug, Clone)]
pub(super) struct Shell {
    folder: PathBuf,
    path: OsString,
}

/// What the time program writes: user and system seconds, KiB of memory, blocks of 512 bytes written.
const FORMAT: &str = "%U %S %M %O";

impl Shell {
    /// A shell in `folder`, which is made, with the programs in `programs` before those of the system.
    pub(super) fn new(folder: &Path, programs: &[&Path]) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let system = std::env::var_os("PATH").unwrap_or_default();
        // Debian keeps veritysetup where only root looks.
        let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
        let own = programs.iter().map(|path| path.to_path_buf());
        let path = std::env::join_paths(own.chain(std::env::split_paths(&system)).chain(more))?;
        Ok(Self { folder: folder.to_owned(), path })
    }

    /// A file in that folder.
    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Runs a command line that must succeed, without measuring it, and gives what it printed.
    pub(super) fn run(&self, line: &str) -> Result<String> {
        let output = self.command("bash", ["-o", "pipefail", "-c", line]).output()?;
        succeeded(line, &output)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command line that must succeed and tells what it cost.
    pub(super) fn measure(&self, line: &str) -> Result<Cost> {
        let report = self.at(".cost");
        let mut command = self.command("/usr/bin/time", ["--quiet", "--format", FORMAT, "--output"]);
        command.arg(&report).args(["bash", "-o", "pipefail", "-c", line]);
        let output =
            command.output().context("cannot run /usr/bin/time: run `make bench`, which installs it")?;
        succeeded(line, &output)?;
        let text = fs::read_to_string(&report).with_context(|| format!("reading {}", report.display()))?;
        parse(&text).with_context(|| format!("/usr/bin/time wrote {text:?}"))
    }

    fn command<const N: usize>(&self, program: &str, arguments: [&str; N]) -> Command {
        let environment: BTreeMap<&str, &str> = [("LC_ALL", "C"), ("SOURCE_DATE_EPOCH", "1700000000")].into();
        let mut command = Command::new(program);
        command.args(arguments).envs(environment).env("PATH", &self.path);
        command.current_dir(&self.folder).stdin(Stdio::null());
        command
    }
}

fn succeeded(line: &str, output: &Output) -> Result<()> {
    let complaint = String::from_utf8_lossy(&output.stderr);
    let last = complaint.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    ensure!(output.status.success(), "`{line}` ended with {}: {last}", output.status);
    Ok(())
}

fn parse(text: &str) -> Result<Cost> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [user, system, kibibytes, blocks] = fields[..] else { bail!("expected {FORMAT}") };
    let (user, system): (f64, f64) = (user.parse()?, system.parse()?);
    let (kibibytes, blocks): (u64, u64) = (kibibytes.parse()?, blocks.parse()?);
    let cpu_s = ((user + system) * 100.0).round() / 100.0;
    Ok(Cost { cpu_s, rss_bytes: kibibytes << 10, written_bytes: blocks << 9 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_time_writes_is_read() {
        let cost = Cost { cpu_s: 1.35, rss_bytes: 2048, written_bytes: 1024 };
        assert_eq!(parse("1.25 0.10 2 2\n").unwrap(), cost);
        assert!(parse("1.25 0.10 2").is_err());
        assert!(parse("a b c d").is_err());
    }

    #[test]
    fn costs_add_up_but_memory_does_not() {
        let cost = |cpu_s, rss_bytes, written_bytes| Cost { cpu_s, rss_bytes, written_bytes };
        assert_eq!(cost(1.0, 5, 2).and(cost(0.5, 3, 4)), cost(1.5, 5, 6));
    }

    #[test]
    fn a_line_that_fails_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let shell = Shell::new(folder.path(), &[]).unwrap();
        let error = shell.run("echo broken >&2; false | cat").unwrap_err().to_string();
        assert!(error.contains("broken") && error.contains("false | cat"), "{error}");
    }
}
