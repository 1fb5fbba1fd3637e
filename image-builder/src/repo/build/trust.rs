//! What hosts that are made from a tree trust: a root that is none, or another workspace's, and they take no update for ever.

use std::fs;

use upright_manifests::tuf::schema::Root;
use upright_manifests::tuf::{Document, limits};

use super::failure;
use crate::repo::error::{Error, Result};
use crate::repo::workspace::Workspace;
use crate::tree::{Contents, Tree};
use crate::uki;

/// Where hosts look for the root of trust, if their configuration does not say otherwise.
const SHIPPED_ROOT: &str = "usr/share/upright/root.json";

/// Where hosts look for their configuration.
pub(super) const SHIPPED_CONFIGURATION: &str = "etc/upright/upright.toml";

/// The largest configuration that hosts read, in bytes.
const MAX_CONFIGURATION: u64 = 1 << 20;

/// Where hosts that are made from the tree look for the root of trust; refuses a configuration that none of them could read, and a root
/// that is none of the workspace's.
pub(super) fn root_of(workspace: &Workspace, tree: &Tree, contents: &dyn Contents) -> Result<String> {
    let path = match read(tree, contents, SHIPPED_CONFIGURATION, MAX_CONFIGURATION)? {
        Some(bytes) => named_root(&bytes)?,
        None => None,
    };
    let path = path.unwrap_or_else(|| SHIPPED_ROOT.to_owned());
    if let Some(bytes) = read(tree, contents, &path, limits::ROOT)? {
        require_ours(workspace, &path, &bytes)?;
    }
    Ok(path)
}

/// A file of the tree, and a byte more than hosts read if it is longer.
fn read(tree: &Tree, contents: &dyn Contents, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
    match uki::read_file(tree, contents, path, limit.saturating_add(1)).map_err(failure::uki)? {
        Some(bytes) if bytes.len() as u64 > limit => {
            Err(Error::refused(format!("{path} is longer than {limit} bytes; hosts do not read it")))
        }
        None if tree.inode(path.as_bytes()).is_some() => {
            Err(Error::refused(format!("{path} is no file that hosts could read; put one there")))
        }
        found => Ok(found),
    }
}

/// The root that a configuration names, as a path in the tree. Whatever else it says is for hosts to understand.
fn named_root(bytes: &[u8]) -> Result<Option<String>> {
    let refused = |what: &str| {
        Error::refused(format!("{SHIPPED_CONFIGURATION} {what}, so hosts cannot read it; mend it"))
    };
    let text = std::str::from_utf8(bytes).map_err(|_| refused("is not UTF-8"))?;
    let parsed: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        let line = text.get(..at).unwrap_or_default().matches('\n').count() + 1;
        refused(&format!("is no TOML ({} in line {line})", error.message()))
    })?;
    let root = parsed.get("repository").and_then(|table| table.get("root")).and_then(toml::Value::as_str);
    Ok(root.map(|path| path.trim_start_matches('/').to_owned()))
}

/// Refuses what is no root that the workspace has signed. An older one is as good: hosts follow from there.
fn require_ours(workspace: &Workspace, path: &str, bytes: &[u8]) -> Result<()> {
    let own = workspace.trusted_root();
    let mend = format!("copy {} there", own.display());
    let root = Document::<Root>::sound_root(bytes).map_err(|problem| {
        Error::refused(format!("{path} is no root.json ({problem}), so hosts would trust no update; {mend}"))
    })?;
    let ours = roots(workspace)?;
    if ours.is_empty() || ours.iter().any(|ours| ours.says_the_same_as(&root)) {
        return Ok(());
    }
    Err(Error::refused(format!(
        "{path} is another workspace's root.json, none that this one has signed, so hosts would take none of its updates; {mend}"
    )))
}

/// The roots that the workspace has signed, as far as they are here.
fn roots(workspace: &Workspace) -> Result<Vec<Document<Root>>> {
    let metadata = workspace.repository().join("metadata");
    let mut paths = vec![workspace.trusted_root()];
    match fs::read_dir(&metadata) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::file("read", &metadata)(error)),
        Ok(entries) => {
            for entry in entries {
                let path = entry.map_err(Error::file("read", &metadata))?.path();
                if path.as_os_str().as_encoded_bytes().ends_with(b".root.json") {
                    paths.push(path);
                }
            }
        }
    }
    // What cannot be read is for `check` to complain about.
    let roots = paths.iter().filter_map(|path| Document::sound_root(&fs::read(path).ok()?).ok());
    Ok(roots.collect())
}
