//! `upright-keys sign-request`: what to carry to the offline machines.

use std::path::PathBuf;

use super::{files, summary};
use crate::envelope::Envelope;

/// Writes a document without its signatures, to be signed on other machines.
#[derive(clap::Args)]
pub(super) struct SignRequest {
    /// The document, signed or not
    file: PathBuf,
    /// Writes the request here, - for standard output
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

impl SignRequest {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let request = Envelope::unsigned(files::read_document(&self.file)?.signed);
        for line in summary::of(&request)? {
            files::note(&line);
        }
        files::write(&self.output, &request.to_bytes())
    }
}
