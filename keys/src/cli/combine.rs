//! `upright-keys combine`: one document with the signatures of several machines.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{files, standing, summary};
use crate::envelope::Kept;
use crate::tuf_key::KeyId;

/// Combines the signatures of documents that were made from the same request.
#[derive(clap::Args)]
pub(super) struct Combine {
    /// The signed documents
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Fails unless enough of the keys that this root.json appoints have signed, and of those that a new root appoints
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Fails unless enough of the keys have signed that this targets document appoints for --role, a team's
    #[arg(long, value_name = "FILE", requires = "role", conflicts_with = "root")]
    delegator: Option<PathBuf>,
    /// The team's role, by the name that --delegator has for it
    #[arg(long, value_name = "NAME", requires = "delegator")]
    role: Option<String>,
    /// Writes the combined document here, - for standard output
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

impl Combine {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (first, others) = self.files.split_first().context("nothing to combine")?;
        let authority = self.root.as_deref().or(self.delegator.as_deref());
        let authority =
            authority.map(|path| files::read_document(path).map(|document| (path, document))).transpose()?;
        let mut document = files::read_document(first)?;
        let mut keys = standing::keys(&document.signed);
        keys.extend(authority.iter().flat_map(|(_, authority)| standing::keys(&authority.signed)));
        for path in others {
            let other = files::read_document(path)?;
            let differing = document
                .combine(other, &keys)
                .with_context(|| format!("{} and {}", first.display(), path.display()))?;
            differing.iter().for_each(|(id, kept)| files::note(&warning(path, id, *kept)));
        }
        for line in summary::of(&document)? {
            files::note(&line);
        }
        if let Some((path, authority)) = &authority {
            let enough = match &self.role {
                Some(role) => standing::require_delegated(&document, authority, role),
                None => standing::require(&document, authority),
            };
            enough.with_context(|| path.display().to_string())?;
        }
        files::write(&self.output, &document.to_bytes())
    }
}

fn warning(path: &Path, id: &KeyId, kept: Kept) -> String {
    let kept = match kept {
        Kept::Valid => "the valid one is kept",
        Kept::First => "the first is kept, since none is known to be valid; have it signed again",
    };
    let id = summary::printable(id.as_str());
    format!("WARNING: {} has another signature of {id} than the files before it: {kept}", path.display())
}
