//! `make test-power-cut`: power goes at every instant of an update, a commit and a rollback on a real Debian.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use upright_tests::power_cut::{Effort, judge_all};
use upright_tests::story::{Place, Recording, Teller};

/// Record the disk of an update, a commit and a rollback; then judge what every power cut would have left, and boot what differs
#[derive(Debug, Parser)]
struct PowerCut {
    /// The static agent that goes onto the machine
    #[arg(long, default_value = "target/x86_64-unknown-linux-gnu/agent/upright")]
    agent: PathBuf,

    /// Where the recording, logs and images go; emptied first unless it is to be used again
    #[arg(long, default_value = "target/power-cut")]
    work: PathBuf,

    /// Judge what was recorded there before, instead of recording anew
    #[arg(long)]
    again: bool,

    /// Boot so many classes of outcomes at most; all of them if this is not given
    #[arg(long)]
    boots: Option<usize>,

    /// What decides which orders and tears are drawn where there are too many
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    match PowerCut::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("\npower-cut: failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl PowerCut {
    fn run(&self) -> Result<ExitCode> {
        let work = std::path::absolute(&self.work)?;
        if !self.again && work.exists() {
            fs::remove_dir_all(&work).with_context(|| format!("emptying {}", work.display()))?;
        }
        fs::create_dir_all(&work).with_context(|| format!("creating {}", work.display()))?;
        let teller = Teller::default();
        let project = std::path::absolute(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))?;
        let agent = std::path::absolute(&self.agent)?;
        let target = work.parent().map(Path::to_owned).context("the folder to work in is /")?;
        let place = Place { project, target, agent, work };
        let recording = Recording::of(&place, teller)?;
        let effort =
            Effort { all_orders: 6, orders: 24, decisive: 0..0, all_tears: 16, tears: 2, seed: self.seed };
        let boots = self.boots.unwrap_or(usize::MAX);
        let tally = judge_all(&recording, effort, boots, &place.work, teller)?;
        println!("{tally}");
        Ok(if tally.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
