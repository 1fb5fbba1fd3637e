//! `make bench`: figures of ours, beside those of what Debian has for the same job.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use upright_tests::bench::{Order, Part, apply_block_index, make_block_index, run};

/// Measure builds, full installs and updates on three real Debian trees
#[derive(Debug, Parser)]
struct Bench {
    /// A folder with A.tar, B.tar and so on, as tests/bench/make-trees names them [default: made with mmdebstrap]
    #[arg(long, value_name = "DIR")]
    trees: Option<PathBuf>,

    /// The static agent
    #[arg(long, default_value = "target/x86_64-unknown-linux-gnu/agent/upright")]
    agent: PathBuf,

    /// Where figures.json, deltas.json and everything else goes; what is there and still holds is not measured again
    #[arg(long, default_value = "target/bench")]
    work: PathBuf,

    /// The parts to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["build", "install", "deltas", "growth"])]
    only: Vec<Part>,

    /// The peers to measure, by name, or `all` or `none`
    #[arg(long, value_delimiter = ',', default_value = "all")]
    peers: Vec<String>,

    /// Write docs/benchmarks/
    #[arg(long)]
    write_docs: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What an update by an index of blocks fetches: one of the peers
    #[command(hide = true, subcommand)]
    BlockIndex(BlockIndex),
}

#[derive(Debug, Subcommand)]
enum BlockIndex {
    /// Write what is fetched to get from OLD to NEW
    Make { old: PathBuf, new: PathBuf, out: PathBuf },
    /// Rebuild the new image
    Apply { old: PathBuf, fetched: PathBuf, out: PathBuf },
}

fn main() -> ExitCode {
    let bench = Bench::parse();
    let result = match &bench.command {
        Some(Command::BlockIndex(BlockIndex::Make { old, new, out })) => make_block_index(old, new, out),
        Some(Command::BlockIndex(BlockIndex::Apply { old, fetched, out })) => {
            apply_block_index(old, fetched, out)
        }
        None => bench.measure(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Bench {
    fn measure(&self) -> Result<()> {
        let project = std::path::absolute(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))?;
        let outcome = run(&Order {
            project: project.clone(),
            work: std::path::absolute(&self.work)?,
            trees: self.trees.clone(),
            agent: std::path::absolute(&self.agent)?,
            parts: self.only.clone(),
            peers: self.peers.clone(),
        })?;
        println!("{}", outcome.tables());
        if self.write_docs {
            outcome.write_docs(&project.join("docs/benchmarks"))?;
        }
        let wrong = outcome.wrong();
        if !wrong.is_empty() {
            bail!("the outcome is not what it should be: {}", wrong.join(", "));
        }
        Ok(())
    }
}
