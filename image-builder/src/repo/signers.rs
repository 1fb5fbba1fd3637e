//! The keys that `upright.toml` names, opened to sign.

pub mod public;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use upright_keys::{ExternalSigner, KeyFileError, KeyPair, Passphrase, Signer};

use super::config::{Config, SignerCommand};
use super::error::{Error, Result};
use super::metadata::{Lifetimes, Metadata};
use super::workspace::Workspace;

/// The signers that this machine reaches.
pub struct Signers {
    signers: Vec<Box<dyn Signer>>,
    /// Keys that cannot sign here, and why, by the name that `upright.toml` has for the role.
    absent: BTreeMap<String, Vec<String>>,
}

impl Signers {
    /// Opens the keys of `roles`, by the names that metadata has for them. One that is not there is not missed before it is
    /// needed.
    pub fn open<S: AsRef<str>>(
        workspace: &Workspace,
        roles: &[S],
        passphrase: Option<&Passphrase>,
    ) -> Result<Self> {
        let config = &workspace.config;
        let mut opened: BTreeMap<PathBuf, Result<(), String>> = BTreeMap::new();
        let mut this = Self { signers: Vec::new(), absent: BTreeMap::new() };
        let wanted = |name: &str| roles.iter().any(|role| role.as_ref() == name);
        for (name, role) in config.all_roles().into_iter().filter(|(name, _)| wanted(name)) {
            for path in &role.keys {
                let path = workspace.resolve(path);
                let outcome = opened.entry(path.clone()).or_insert_with(|| this.open_file(&path, passphrase));
                if let Err(reason) = outcome {
                    let name = config.short_name(&name).to_owned();
                    this.absent.entry(name).or_default().push(reason.clone());
                }
            }
            this.open_commands(&role.signers)?;
        }
        Ok(this)
    }

    /// Opens all keys that sign commits of the tree store.
    pub fn of_trees(workspace: &Workspace, passphrase: Option<&Passphrase>) -> Result<Self> {
        let keys = &workspace.config.tree;
        let mut this = Self { signers: Vec::new(), absent: BTreeMap::new() };
        for path in &keys.keys {
            this.open_file(&workspace.resolve(path), passphrase).map_err(|reason| {
                Error::refused(format!(
                    "the tree's commit cannot be signed: {reason}; bring it back, or take it out of `keys` below [tree] in \
                     upright.toml"
                ))
            })?;
        }
        this.open_commands(&keys.signers)?;
        Ok(this)
    }

    /// Opens a key file that no role of `upright.toml` names, such as one that is being replaced. It must be usable.
    pub fn add_file(&mut self, path: &Path, passphrase: Option<&Passphrase>) -> Result<()> {
        self.open_file(path, passphrase).map_err(Error::refused)
    }

    /// The signers, for [`Metadata::sign`].
    pub fn all(&self) -> Vec<&dyn Signer> {
        self.signers.iter().map(AsRef::as_ref).collect()
    }

    /// Fails unless enough of the keys that are appointed for `roles` are here: better before an hour of encoding than
    /// after it.
    pub fn require<S: AsRef<str>>(&self, config: &Config, metadata: &Metadata, roles: &[S]) -> Result<()> {
        for role in roles.iter().map(AsRef::as_ref) {
            let Some((appointed, by)) = metadata.role(role) else { continue };
            let here = |id: &&_| self.signers.iter().any(|signer| signer.public().tuf_id() == **id);
            let have = appointed.keyids.iter().filter(here).count();
            let need = appointed.threshold;
            if (have as u64) < u64::from(need) {
                let role = config.short_name(role);
                let table = if by == "root" { "roles" } else { "teams" };
                let why = self.absent.get(role).map_or_else(
                    || format!("`{table}.{role}` in upright.toml names no other key that {by} appoints"),
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
            Err(KeyFileError::Malformed(_)) if public::read(path).is_ok() => {
                Err(format!("{} is a public key, and its private key is not here", path.display()))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn open_commands(&mut self, commands: &[SignerCommand]) -> Result<()> {
        for signer in commands {
            let public = public::of_command(signer)?;
            let Some((program, arguments)) = signer.command.split_first() else {
                return Err(Error::refused(
                    "`command` of a signer in upright.toml is empty; expected a program",
                ));
            };
            let limit = Duration::from_secs(signer.timeout);
            let signer = ExternalSigner::new(public, program, arguments.to_vec()).within(limit);
            self.signers.push(Box::new(signer));
        }
        Ok(())
    }
}

/// For how long each role's documents are good, as `upright.toml` has it.
pub fn lifetimes(config: &Config) -> Lifetimes {
    let days = |days: u32| SignedDuration::from_hours(i64::from(days) * 24);
    let roles = &config.roles;
    Lifetimes {
        root: days(roles.root.days),
        targets: days(roles.targets.days),
        delegated: config
            .teams
            .iter()
            .map(|(name, team)| (config.team_role(name), days(team.days)))
            .collect(),
        snapshot: days(roles.snapshot.days),
        timestamp: days(roles.timestamp.days),
    }
}
