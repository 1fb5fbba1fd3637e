//! A new workspace: keys, an empty signed repository, `upright.toml`.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use upright_keys::{KeyPair, Passphrase, Signer};
use upright_manifests::name::{Arch, OsName};

use super::config::template;
use super::error::{Error, Result};
use super::files::{OnDisk, STAGING, replace};
use super::metadata::{Metadata, RoleSpec, Roles};
use super::signers::public;
use super::workspace::{CONFIG_FILE, Workspace};

const ROLES: [&str; 4] = ["root", "targets", "snapshot", "timestamp"];

/// The key that signs the trees' commits.
const TREE: &str = "tree";

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// The workspace.
    pub workspace: Workspace,
    /// The private keys by role, and that of the tree store.
    pub keys: Vec<(&'static str, PathBuf)>,
}

/// Makes a workspace in `root`, which must be empty or not there.
pub fn init(
    root: &Path,
    os: &OsName,
    arch: Arch,
    passphrase: Option<&Passphrase>,
    now: Timestamp,
) -> Result<Made> {
    refuse_unless_empty(root)?;
    let folder = root.join("keys");
    fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    let mut pairs = Vec::new();
    let mut keys = Vec::new();
    for role in ROLES.into_iter().chain([TREE]) {
        let path = folder.join(format!("{role}.pem"));
        let pair = KeyPair::generate().map_err(|error| Error::Failed(error.to_string()))?;
        pair.save(&path, passphrase).map_err(|error| Error::Failed(error.to_string()))?;
        // It stays when the private key moves to a machine without a network.
        let public = public::beside(&path);
        fs::write(&public, pair.public().to_pem()).map_err(Error::file("write", &public))?;
        pairs.push(pair);
        keys.push((role, path));
    }
    publish_nothing(root, &pairs[..ROLES.len()], now)?;
    fs::create_dir_all(root.join("builds")).map_err(Error::file("create", root))?;
    // Last, because this file makes the folder a workspace.
    replace(&OnDisk, &root.join(STAGING), &root.join(CONFIG_FILE), template(os, arch).as_bytes())?;
    fs::remove_dir(root.join(STAGING)).map_err(Error::file("remove", root))?;
    Ok(Made { workspace: Workspace::open(root)?, keys })
}

/// Signs metadata that lists nothing yet.
fn publish_nothing(root: &Path, pairs: &[KeyPair], now: Timestamp) -> Result<()> {
    let mut specs = pairs.iter().map(|pair| RoleSpec { keys: vec![*pair.public()], threshold: 1 });
    let mut next = || specs.next().unwrap_or(RoleSpec { keys: Vec::new(), threshold: 1 });
    let roles = Roles { root: next(), targets: next(), snapshot: next(), timestamp: next() };
    let failed = |error: super::metadata::MetadataError| Error::Failed(error.to_string());
    let mut metadata = Metadata::create(&roles, Default::default(), now).map_err(failed)?;
    let signers: Vec<&dyn Signer> = pairs.iter().map(|pair| pair as &dyn Signer).collect();
    let repository = root.join("repository");
    for file in metadata.sign(&signers, now).map_err(failed)? {
        let path = repository.join("metadata").join(&file.name);
        replace(&OnDisk, &repository.join(STAGING), &path, &file.bytes)?;
        if file.name == "1.root.json" {
            replace(&OnDisk, &root.join(STAGING), &root.join("root.json"), &file.bytes)?;
        }
    }
    let staging = repository.join(STAGING);
    fs::remove_dir(&staging).map_err(Error::file("remove", &staging))
}

fn refuse_unless_empty(root: &Path) -> Result<()> {
    if root.join(CONFIG_FILE).exists() {
        return Err(Error::refused(format!(
            "{} is a workspace already and stays as it is; choose another folder, or use this one",
            root.display()
        )));
    }
    let mut entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            let root = root.display();
            return Err(Error::refused(format!(
                "{root} is a file; a new workspace needs a folder of its own"
            )));
        }
        Err(error) => return Err(Error::file("read", root)(error)),
    };
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(Error::refused(format!(
            "{} is not empty and stays as it is; a new workspace needs a folder of its own",
            root.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_init_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("w");
        let os: OsName = "acme".parse().unwrap();
        let now = Timestamp::UNIX_EPOCH;
        init(&root, &os, Arch::X86_64, None, now).unwrap();
        let key = fs::read(root.join("keys/root.pem")).unwrap();
        let error = init(&root, &os, Arch::X86_64, None, now).unwrap_err().to_string();
        assert!(error.contains("is a workspace already and stays as it is"), "{error}");
        assert_eq!(fs::read(root.join("keys/root.pem")).unwrap(), key);
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), "").unwrap();
        let error = init(folder.path(), &"acme".parse().unwrap(), Arch::X86_64, None, Timestamp::UNIX_EPOCH);
        assert!(error.unwrap_err().to_string().contains("is not empty"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
