//! Man pages and shell completions, from the same definitions as `--help`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::files;

/// Writes man pages
#[derive(Args)]
pub(super) struct Man {
    /// The folder to write them to
    folder: PathBuf,
}

/// Writes shell completions
#[derive(Args)]
pub(super) struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

impl Man {
    pub(super) fn run(self) -> Result<()> {
        fs::create_dir_all(&self.folder)
            .and_then(|()| clap_mangen::generate_to(super::command(), &self.folder))
            .with_context(|| format!("cannot write man pages to {}", self.folder.display()))
    }
}

impl Completions {
    pub(super) fn run(self) -> Result<()> {
        // Written whole, since the generators panic where a writer fails.
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "upright-keys", &mut text);
        files::print(&String::from_utf8_lossy(&text))
    }
}
