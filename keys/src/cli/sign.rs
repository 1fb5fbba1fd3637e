//! `upright-keys sign`: adds signatures to a document, or signs a file's bytes.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::{change, files, show, standing, summary};
use crate::envelope::Envelope;
use crate::external::{ExternalSigner, TIME_LIMIT};
use crate::passphrase::PassphraseSource;
use crate::signer::Signer;

/// Signs a metadata document, or with --raw the bytes of any file.
#[derive(clap::Args)]
pub(super) struct Sign {
    /// What to sign, or - for standard input
    file: PathBuf,
    /// Signs with this private key file; may be repeated
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// Opens encrypted keys with the passphrase from fd:N, file:PATH or env:NAME; once for all keys or once for each
    #[arg(long, value_name = "SOURCE")]
    passphrase: Vec<PassphraseSource>,
    /// Signs with this command: it gets the bytes on standard input and writes the signature
    #[arg(long, value_name = "COMMAND", requires = "public")]
    command: Option<String>,
    /// The public key file of --command
    #[arg(long, value_name = "FILE", requires = "command")]
    public: Option<PathBuf>,
    /// Stops --command when it has not ended after so many seconds
    #[arg(long, value_name = "SECONDS", requires = "command", default_value_t = TIME_LIMIT.as_secs())]
    timeout: u64,
    /// Says what changes against this trusted root.json, and refuses a root that does not come next after it
    #[arg(long, value_name = "FILE", conflicts_with = "raw")]
    root: Option<PathBuf>,
    /// Writes the signed document here instead of over FILE, - for standard output
    #[arg(long, value_name = "FILE", conflicts_with = "raw")]
    output: Option<PathBuf>,
    /// Signs the file's bytes as they are, and writes the signature as hexadecimal digits
    #[arg(long)]
    raw: bool,
    /// Says what would be signed, and signs nothing
    #[arg(long, conflicts_with = "raw")]
    dry_run: bool,
}

impl Sign {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.raw {
            return self.sign_raw();
        }
        let mut document = files::read_document(&self.file)?;
        let root = self.root.as_deref().map(files::read_document).transpose()?;
        for line in summary::of(&document)? {
            files::note(&line);
        }
        if let (Some(root), Some(path)) = (&root, &self.root) {
            compare(&document, root).with_context(|| path.display().to_string())?;
        }
        let signers = self.signers()?;
        for signer in &signers {
            let id = signer.public().tuf_id();
            let verb = if self.dry_run { "would sign as" } else { "signs as" };
            files::note(&format!("{verb} {id}"));
            if let Some(warning) = standing::stranger(&document, root.as_ref(), &id)? {
                files::note(&warning);
            }
        }
        if self.dry_run {
            return Ok(());
        }
        ensure!(!signers.is_empty(), "nothing to sign with: give --key or --command");
        for signer in &signers {
            document.sign(signer.as_ref())?;
        }
        files::write(self.output.as_deref().unwrap_or(&self.file), &document.to_bytes())
    }

    fn sign_raw(&self) -> anyhow::Result<()> {
        let bytes = files::read(&self.file)?;
        let signers = self.signers()?;
        ensure!(signers.len() == 1, "--raw signs with one key, {} are given", signers.len());
        for signer in &signers {
            files::print(&format!("{}\n", signer.sign(&bytes)?))?;
        }
        Ok(())
    }

    fn signers(&self) -> anyhow::Result<Vec<Box<dyn Signer>>> {
        let pairs = files::load_keys(&self.key, &self.passphrase)?;
        let mut signers: Vec<Box<dyn Signer>> = Vec::new();
        signers.extend(pairs.into_iter().map(|pair| Box::new(pair) as Box<dyn Signer>));
        if let (Some(command), Some(public)) = (&self.command, &self.public) {
            let mut words = command.split_whitespace().map(str::to_owned);
            let program = words.next().context("--command is empty")?;
            let public = show::read_public(public, None)?;
            let signer = ExternalSigner::new(public, program, words.collect());
            signers.push(Box::new(signer.within(Duration::from_secs(self.timeout))));
        }
        Ok(signers)
    }
}

/// Says what a new root changes; hosts must be able to take it.
fn compare(document: &Envelope, root: &Envelope) -> anyhow::Result<()> {
    ensure!(summary::kind(&root.signed)? == "root", "it is no root document");
    if summary::kind(&document.signed)? == "root" {
        change::expect_next(&root.signed, &document.signed)?;
        for line in change::between(&root.signed, &document.signed) {
            files::note(&line);
        }
    }
    Ok(())
}
