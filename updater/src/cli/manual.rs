//! Man pages and shell completions, from the same definitions as `--help`.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use super::exit::{Exit, Failure};
use super::{Cli, output};

/// Write the man pages into a folder
#[derive(Debug, Args)]
pub(super) struct Man {
    /// The folder
    folder: PathBuf,
}

/// Print the completions for a shell
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

impl Man {
    pub(super) fn run(&self) -> Result<Exit, Failure> {
        std::fs::create_dir_all(&self.folder)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), &self.folder))
            .map_err(|error| {
                Failure::new(
                    Exit::Failed,
                    format!("cannot write man pages to {}: {error}", self.folder.display()),
                )
            })?;
        Ok(Exit::Done)
    }
}

impl Completions {
    pub(super) fn run(&self) -> Result<Exit, Failure> {
        // Written whole, since the generators panic where a writer fails.
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "upright", &mut text);
        output::write(String::from_utf8_lossy(&text).trim_end())?;
        Ok(Exit::Done)
    }
}
