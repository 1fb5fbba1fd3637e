//! `upright-keys new`: makes a key pair.

use std::path::PathBuf;

use anyhow::ensure;

use super::{files, show};
use crate::key_pair::KeyPair;
use crate::passphrase::PassphraseSource;
use crate::signer::Signer;

/// Makes a key pair: FILE holds the private key, FILE.pub the public one.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("protection").required(true).args(["passphrase", "unencrypted"]))]
pub(super) struct New {
    /// The private key's file; must not exist
    file: PathBuf,
    /// Encrypts the key with the passphrase from fd:N, file:PATH or env:NAME
    #[arg(long, value_name = "SOURCE")]
    passphrase: Option<PassphraseSource>,
    /// Leaves the key unencrypted, for roles that sign unattended
    #[arg(long)]
    unencrypted: bool,
    /// Writes JSON
    #[arg(long)]
    json: bool,
}

impl New {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut public_file = self.file.clone().into_os_string();
        public_file.push(".pub");
        let public_file = PathBuf::from(public_file);
        ensure!(!public_file.exists(), "{} exists and is not overwritten", public_file.display());
        let passphrase = self.passphrase.as_ref().map(PassphraseSource::read).transpose()?;
        let pair = KeyPair::generate()?;
        pair.save(&self.file, passphrase.as_ref())?;
        files::write(&public_file, pair.public().to_pem().as_bytes())?;
        show::print(pair.public(), self.json)
    }
}
