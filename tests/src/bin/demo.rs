//! `make demo`: the main job from a root file system to a host that updates itself, step by step.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use upright_tests::story::{
    Loader, Place, Summary, Teller, grub_counts, on_a_machine, on_a_simulated_host, uboot_counts,
    under_secure_boot,
};

/// Build three releases of an OS, and have a host live through them
#[derive(Debug, Parser)]
struct Demo {
    /// On a simulated host instead of a virtual machine
    #[arg(long = "virtual")]
    simulated: bool,

    /// What Secure Boot and dm-verity enforce, instead of the main job
    #[arg(long, conflicts_with = "simulated")]
    secure_boot: bool,

    /// The machine's boot loader
    #[arg(long, value_enum, default_value_t, conflicts_with_all = ["simulated", "secure_boot"])]
    boot_loader: Loader,

    /// How this boot loader counts, on systems that only say which they are, instead of the main job
    #[arg(long, value_enum, conflicts_with_all = ["simulated", "secure_boot"])]
    counting: Option<Counting>,

    /// The static agent that goes onto the machine
    #[arg(long, default_value = "target/x86_64-unknown-linux-gnu/agent/upright")]
    agent: PathBuf,

    /// Where logs, images and summary.json go; emptied first
    #[arg(long, default_value = "target/demo")]
    work: PathBuf,
}

/// Boot loaders that count.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Counting {
    Grub,
    UBoot,
}

fn main() -> ExitCode {
    let demo = Demo::parse();
    match demo.tell() {
        Ok(summary) => {
            if let Some(summary) = summary {
                println!("\n{summary}");
            }
            println!("demo: passed");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("\ndemo: failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Demo {
    fn tell(&self) -> Result<Option<Summary>> {
        let work = std::path::absolute(&self.work)?;
        let emptied = if work.exists() { fs::remove_dir_all(&work) } else { Ok(()) };
        emptied
            .and_then(|()| fs::create_dir_all(&work))
            .with_context(|| format!("emptying {}", work.display()))?;
        let teller = Teller::default();
        let summary = if self.simulated {
            on_a_simulated_host(&work, teller)?
        } else {
            let project = std::path::absolute(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))?;
            let agent = std::path::absolute(&self.agent)?;
            let target = work.parent().map(Path::to_owned).context("the folder to work in is /")?;
            let place = Place { project, target, agent, work: work.clone() };
            if self.secure_boot {
                under_secure_boot(&place, teller)?;
                return Ok(None);
            }
            match self.counting {
                None => {}
                Some(Counting::Grub) => return grub_counts(&place, teller).map(|()| None),
                Some(Counting::UBoot) => return uboot_counts(&place, teller).map(|()| None),
            }
            on_a_machine(&place, self.boot_loader, teller)?
        };
        let json = serde_json::to_string_pretty(&summary)? + "\n";
        fs::write(work.join("summary.json"), json).context("writing summary.json")?;
        Ok(Some(summary))
    }
}
