//! Man pages and shell completions, from the same definitions as the command line itself.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap_complete::Shell;

use super::output;

/// Write man pages
#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// The folder to write them to
    dir: PathBuf,
}

/// Write shell completions
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Man {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.dir).with_context(|| format!("cannot create {}", self.dir.display()))?;
        let mut command = super::command();
        command.build();
        page(&command, &self.dir, "upright-build")?;
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
            page(sub, &self.dir, &format!("upright-build-{}", sub.get_name()))?;
        }
        Ok(())
    }
}

fn page(command: &clap::Command, dir: &Path, name: &str) -> anyhow::Result<()> {
    let path = dir.join(format!("{name}.1"));
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).title(name).render(&mut text)?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

impl Completions {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        // Written whole, since the generators panic where a writer fails.
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "upright-build", &mut text);
        output::print(String::from_utf8_lossy(&text).trim_end())
    }
}
