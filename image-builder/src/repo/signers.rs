//! The keys that `upright.toml` names, opened to sign.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use upright_keys::{ExternalSigner, KeyFileError, KeyPair, Passphrase, PublicKey, Signer};

use super::config::{Config, Role};
use super::error::{Error, Result};
use super::metadata::{Lifetimes, Metadata};
use super::workspace::Workspace;

/// The signers that this machine reaches.
pub struct Signers {
    signers: Vec<Box<dyn Signer>>,
    /// Key files that could not be opened, and why, by role.
    absent: BTreeMap<&'static str, Vec<String>>,
}

impl Signers {
    /// Opens the keys of `roles`. One that is not there is not missed before it is needed.
    pub fn open(workspace: &Workspace, roles: &[&str], passphrase: Option<&Passphrase>) -> Result<Self> {
        let mut opened: BTreeMap<PathBuf, Result<(), String>> = BTreeMap::new();
        let mut this = Self { signers: Vec::new(), absent: BTreeMap::new() };
        for (name, role) in workspace.config.roles().into_iter().filter(|(name, _)| roles.contains(name)) {
            for path in &role.keys {
                let path = workspace.resolve(path);
                let outcome = opened.entry(path.clone()).or_insert_with(|| this.open_file(&path, passphrase));
                if let Err(reason) = outcome {
                    this.absent.entry(name).or_default().push(reason.clone());
                }
            }
            this.open_commands(role)?;
        }
        Ok(this)
    }

    /// The signers, for [`Metadata::sign`].
    pub fn all(&self) -> Vec<&dyn Signer> {
        self.signers.iter().map(AsRef::as_ref).collect()
    }

    /// Fails unless enough of the keys that the published root appoints for `roles` are here: better before an
    /// hour of encoding than after it.
    pub fn require(&self, metadata: &Metadata, roles: &[&'static str]) -> Result<()> {
        for role in roles {
            let Some(appointed) = metadata.role(role) else { continue };
            let here = |id: &&_| self.signers.iter().any(|signer| signer.public().tuf_id() == **id);
            let have = appointed.keyids.iter().filter(here).count();
            let need = appointed.threshold;
            if (have as u64) < u64::from(need) {
                let why = self.absent.get(role).map_or_else(
                    || format!("`roles.{role}` in upright.toml names no other key that the root appoints"),
                    |reasons| reasons.join("; "),
                );
                return Err(Error::refused(format!(
                    "{role} metadata cannot be signed: {have} of the {need} keys it needs are here: {why}; bring the \
                     keys back, or name their signer in upright.toml"
                )));
            }
        }
        Ok(())
    }

    fn open_file(&mut self, path: &Path, passphrase: Option<&Passphrase>) -> Result<(), String> {
        match KeyPair::load(path, passphrase) {
            Ok(pair) => {
                self.signers.push(Box::new(pair));
                Ok(())
            }
            Err(KeyFileError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Err(format!("the key file {} is not there", path.display()))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn open_commands(&mut self, role: &Role) -> Result<()> {
        for signer in &role.signers {
            let public: PublicKey = signer
                .public
                .parse()
                .map_err(|error| Error::refused(format!("`public` of a signer in upright.toml: {error}")))?;
            let Some((program, arguments)) = signer.command.split_first() else {
                return Err(Error::refused(
                    "`command` of a signer in upright.toml is empty; expected a program",
                ));
            };
            self.signers.push(Box::new(ExternalSigner::new(public, program, arguments.to_vec())));
        }
        Ok(())
    }
}

/// For how long each role's documents are good, as `upright.toml` has it.
pub fn lifetimes(config: &Config) -> Lifetimes {
    let days = |role: &Role| SignedDuration::from_hours(i64::from(role.days) * 24);
    let roles = &config.roles;
    Lifetimes {
        root: days(&roles.root),
        targets: days(&roles.targets),
        snapshot: days(&roles.snapshot),
        timestamp: days(&roles.timestamp),
    }
}
