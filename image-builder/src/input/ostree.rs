//! A ref in a local OSTree repository of any mode.
//!
//! By the convention of OSTree and bootc a tree has its configuration in `usr/etc`, and a host makes `etc` of it.
//! A host of ours makes its `etc` over the image's own, so `usr/etc` becomes `etc` where there is no `etc`.

use std::path::Path;

use upright_keys::PublicKey;

use super::{Imported, InputError};
use crate::repo::error::chain;
use crate::tree::{Batch, SignatureError, StoreError, Tree, import};

/// Copies the tree that `reference` names in `repository` into `batch`; with `keys`, one of them must have signed it.
pub(super) fn read(
    repository: &Path,
    reference: &str,
    keys: &[PublicKey],
    batch: &Batch<'_>,
) -> Result<Imported, InputError> {
    let loaded = import(repository, reference, keys, batch).map_err(|error| match error {
        SignatureError::Store(error) => store_error(repository, error),
        error => InputError::NotSigned(error.to_string()),
    })?;
    Ok(Imported { tree: with_etc(loaded.tree), newest: loaded.time })
}

fn store_error(repository: &Path, error: StoreError) -> InputError {
    match error {
        // what is read from is at fault, not what is written to
        StoreError::NoRef { .. } | StoreError::Commit { .. } => InputError::Format(error.to_string()),
        StoreError::Ostree { ref store, .. }
        | StoreError::Io { ref store, .. }
        | StoreError::Mode { ref store, .. }
            if store == repository =>
        {
            InputError::Format(format!("{}; give a repository as `ostree init` makes it", chain(&error)))
        }
        error => error.into(),
    }
}

/// `tree` with its `usr/etc` as `etc`, unless there is an `etc`.
fn with_etc(mut tree: Tree) -> Tree {
    if tree.paths.contains_key(&b"etc"[..]) {
        return tree;
    }
    let paths = std::mem::take(&mut tree.paths);
    let moved = paths.into_iter().map(|(path, inode)| match path.strip_prefix(b"usr/etc") {
        Some(rest) if rest.is_empty() || rest.starts_with(b"/") => ([b"etc", rest].concat(), inode),
        _ => (path, inode),
    });
    tree.paths = moved.collect();
    tree.canonical()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Kind;
    use crate::tree::testing::{Drafts, Scratch, info, plain, small_tree};

    /// What comes out of a repository in `mode` that has `drafts`.
    fn imported(drafts: &Drafts, mode: &str) -> (Tree, Imported) {
        let scratch = Scratch::new();
        let store = scratch.store();
        scratch.commit(&store, drafts, "1");
        let other = scratch.path().join("other");
        let pull = format!("--repo={}", other.display());
        for arguments in [
            &["init", &format!("--mode={mode}")][..],
            &["pull-local", &scratch.path().join("ostree").display().to_string(), "acme/x86-64/1"],
        ] {
            let status = std::process::Command::new("ostree")
                .args(arguments)
                .arg(&pull)
                .stdout(std::process::Stdio::null())
                .status();
            assert!(status.expect("ostree runs").success());
        }
        let target = Scratch::new();
        let into = target.store();
        let batch = into.begin().expect("a batch");
        let imported = read(&other, "acme/x86-64/1", &[], &batch).expect("imported");
        batch.commit(&imported.tree, &info("2")).expect("committed");
        assert_eq!(into.load("acme/x86-64/2").expect("loaded").tree, imported.tree);
        (store.load("acme/x86-64/1").expect("loaded").tree, imported)
    }

    #[test]
    fn a_tree_comes_over_from_repositories_of_any_mode() {
        for mode in ["archive", "bare-user"] {
            let (tree, imported) = imported(&small_tree(), mode);
            assert_eq!(imported, Imported { tree, newest: 1_700_000_000 }, "{mode}");
        }
    }

    #[test]
    fn usr_etc_becomes_etc_where_there_is_none() {
        let mut drafts: Drafts = [&b""[..], b"usr", b"usr/etc", b"usr/etc/ssh", b"usr/etc2"]
            .map(|path| plain(path, 0o755, Kind::Directory))
            .into();
        let paths = |imported: &Imported| {
            imported
                .tree
                .paths
                .keys()
                .map(|path| String::from_utf8_lossy(path).into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(paths(&imported(&drafts, "bare-user").1), ["", "etc", "etc/ssh", "usr", "usr/etc2"]);
        drafts.push(plain(b"etc", 0o755, Kind::Directory));
        assert_eq!(
            paths(&imported(&drafts, "bare-user").1),
            ["", "etc", "usr", "usr/etc", "usr/etc/ssh", "usr/etc2"]
        );
    }
}
