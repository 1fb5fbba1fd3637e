//! The public keys that `upright.toml` names, wherever their private halves are.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use upright_keys::{KeyPair, Passphrase, PublicKey, Signer};

use crate::repo::config::{Role, SignerCommand};
use crate::repo::error::{Error, Result};
use crate::repo::metadata::RoleSpec;
use crate::repo::workspace::Workspace;

/// The most bytes of a public key file that are read.
const MAX_FILE: u64 = 16 << 10;

/// The keys and the threshold that `upright.toml` gives a role.
pub fn spec(workspace: &Workspace, role: &Role, passphrase: Option<&Passphrase>) -> Result<RoleSpec> {
    let files = role.keys.iter().map(|path| of_file(&workspace.resolve(path), passphrase));
    let keys = files.chain(role.signers.iter().map(of_command)).collect::<Result<_>>()?;
    Ok(RoleSpec { keys, threshold: role.threshold })
}

/// The public key of a signing command.
pub(super) fn of_command(signer: &SignerCommand) -> Result<PublicKey> {
    let key = signer.public.parse();
    key.map_err(|error| Error::refused(format!("`public` of a signer in upright.toml: {error}")))
}

/// Reads a public key file.
pub fn read(path: &Path) -> Result<PublicKey, String> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    text.parse().map_err(|error| format!("{}: {error}", path.display()))
}

/// The public half of a key file: of itself, or of the file beside it that ends in `.pub`.
fn of_file(path: &Path, passphrase: Option<&Passphrase>) -> Result<PublicKey> {
    if let Ok(key) = read(path) {
        return Ok(key);
    }
    let error = match KeyPair::load(path, passphrase) {
        Ok(pair) => return Ok(*pair.public()),
        Err(error) => error,
    };
    let beside = beside(path);
    read(&beside).map_err(|_| {
        Error::refused(format!(
            "the public key of {} is not known: {error}; put it beside it as {}, as `upright-keys show` prints it",
            path.display(),
            beside.display()
        ))
    })
}

/// Where the public half of a private key file is.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}
