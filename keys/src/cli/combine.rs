//! `upright-keys combine`: one document with the signatures of several machines.

use std::path::PathBuf;

use anyhow::Context;

use super::{files, standing, summary};

/// Combines the signatures of documents that were made from the same request.
#[derive(clap::Args)]
pub(super) struct Combine {
    /// The signed documents
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Fails unless enough of the keys that this root.json appoints have signed, and of those that a new root appoints
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
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
        if let Some(path) = &self.root {
            let root = files::read_document(path)?;
            standing::require(&document, &root).with_context(|| path.display().to_string())?;
        }
        files::write(&self.output, &document.to_bytes())
    }
}
