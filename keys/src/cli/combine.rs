//! `upright-keys combine`: one document with the signatures of several machines.

use std::path::PathBuf;

use anyhow::Context;

use super::{files, summary};

/// Combines the signatures of documents that were made from the same request.
#[derive(clap::Args)]
pub(super) struct Combine {
    /// The signed documents
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Writes the combined document here, - for standard output
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

impl Combine {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (first, others) = self.files.split_first().context("nothing to combine")?;
        let mut document = files::read_document(first)?;
        for path in others {
            let other = files::read_document(path)?;
            document.combine(other).with_context(|| format!("{} and {}", first.display(), path.display()))?;
        }
        for line in summary::of(&document) {
            files::note(&line);
        }
        files::write(&self.output, &document.to_bytes())
    }
}
