//! `upright-keys show`: a key's public half in every notation.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;

use super::files;
use crate::key_pair::KeyPair;
use crate::passphrase::PassphraseSource;
use crate::public::PublicKey;
use crate::signer::Signer;

/// Shows the public half of a key.
#[derive(clap::Args)]
pub(super) struct Show {
    /// A private or public key file, or - for standard input
    file: PathBuf,
    /// Opens an encrypted private key with the passphrase from fd:N, file:PATH or env:NAME
    #[arg(long, value_name = "SOURCE")]
    passphrase: Option<PassphraseSource>,
    /// Shows one notation alone
    #[arg(long, value_enum, conflicts_with = "json")]
    format: Option<Notation>,
    /// Writes JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Notation {
    /// 64 hexadecimal digits
    Hex,
    /// SubjectPublicKeyInfo in PEM, as openssl reads it
    Pem,
    /// The two lines of a minisign public key
    Minisign,
    /// The key object of TUF metadata
    Tuf,
    /// The key's id in TUF metadata
    Id,
}

impl Show {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let key = read_public(&self.file, self.passphrase.as_ref())?;
        match self.format {
            None => print(&key, self.json),
            Some(Notation::Hex) => files::print(&format!("{key}\n")),
            Some(Notation::Pem) => files::print(&key.to_pem()),
            Some(Notation::Minisign) => files::print(&key.to_minisign()),
            Some(Notation::Tuf) => {
                files::print(&format!("{}\n", serde_json::to_string_pretty(&key.to_tuf())?))
            }
            Some(Notation::Id) => files::print(&format!("{}\n", key.tuf_id())),
        }
    }
}

/// The public key of a private or public key file.
pub(super) fn read_public(path: &Path, passphrase: Option<&PassphraseSource>) -> anyhow::Result<PublicKey> {
    let bytes = files::read(path)?;
    let text =
        String::from_utf8(bytes).ok().with_context(|| format!("{} is not a key file", path.display()))?;
    if text.contains("PRIVATE KEY-----") {
        let passphrase = passphrase.map(PassphraseSource::read).transpose()?;
        return Ok(*KeyPair::from_pem(&text, passphrase.as_ref(), path)?.public());
    }
    text.parse().with_context(|| path.display().to_string())
}

/// Writes a public key in all notations.
pub(super) fn print(key: &PublicKey, json: bool) -> anyhow::Result<()> {
    if json {
        let value = serde_json::json!({
            "id": key.tuf_id(),
            "public": key.to_string(),
            "pem": key.to_pem(),
            "minisign": key.to_minisign(),
            "tuf": key.to_tuf(),
        });
        return files::print(&format!("{}\n", serde_json::to_string_pretty(&value)?));
    }
    let (id, pem, minisign) = (key.tuf_id(), key.to_pem(), key.to_minisign());
    files::print(&format!("id      {id}\npublic  {key}\n\n{pem}\n{}\n", minisign.trim_end()))
}
