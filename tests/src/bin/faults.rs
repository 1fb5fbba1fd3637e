//! `make test-faults`: releases that hang or crash and disks that fail, on a real Debian.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use upright_tests::story::{Place, Teller, faults};

/// Have a machine take releases that do not come up, and write releases to disks that fail
#[derive(Debug, Parser)]
struct Faults {
    /// The cases to run; all of them if none is named
    cases: Vec<String>,

    /// The static agent that goes onto the machine
    #[arg(long, default_value = "target/x86_64-unknown-linux-gnu/agent/upright")]
    agent: PathBuf,

    /// Where logs and images go; emptied first unless it is to be used again
    #[arg(long, default_value = "target/faults")]
    work: PathBuf,

    /// Begin from the machine that was frozen there before, instead of making one
    #[arg(long)]
    again: bool,
}

fn main() -> ExitCode {
    match Faults::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("\nfaults: failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Faults {
    fn run(&self) -> Result<ExitCode> {
        let work = std::path::absolute(&self.work)?;
        if !self.again && work.exists() {
            fs::remove_dir_all(&work).with_context(|| format!("emptying {}", work.display()))?;
        }
        fs::create_dir_all(&work).with_context(|| format!("creating {}", work.display()))?;
        let project = std::path::absolute(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))?;
        let agent = std::path::absolute(&self.agent)?;
        let target = work.parent().map(Path::to_owned).context("the folder to work in is /")?;
        let place = Place { project, target, agent, work };
        let table = faults(&place, &self.cases, Teller::default())?;
        println!("\n{table}");
        Ok(if table.failures() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
