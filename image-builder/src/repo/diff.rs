//! What changed between the trees of two builds.

use serde::Serialize;
use upright_manifests::version::Version;

use super::build::Build;
use super::error::{Error, Result, chain};
use super::workspace::Workspace;
use crate::tree::{Inode, Kind, Store, Tree, display};

/// What changed from one tree to another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Paths that only the second tree has.
    pub added: Vec<Change>,
    /// Paths whose content, kind, mode, owner or extended attributes differ.
    pub changed: Vec<Change>,
    /// Paths that only the first tree has.
    pub removed: Vec<Change>,
}

/// A path and the bytes of its content before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The path, with escapes for what is not UTF-8.
    pub path: String,
    /// Bytes before; 0 for what is not a regular file.
    pub before: u64,
    /// Bytes after; 0 for what is not a regular file.
    pub after: u64,
    /// Whether the content is the same, and only mode, owner or extended attributes differ.
    pub attributes_only: bool,
}

/// Compares the builds of two versions.
pub fn diff(workspace: &Workspace, from: &Version, to: &Version) -> Result<Diff> {
    let builds = [Build::require(workspace, from)?, Build::require(workspace, to)?];
    let failed = |error: crate::tree::StoreError| Error::Failed(chain(&error));
    let store = Store::open(&workspace.trees()).map_err(failed)?;
    let load = |build: &Build| Ok(store.load(&build.commit.to_string()).map_err(failed)?.tree);
    let [before, after] = [load(&builds[0])?, load(&builds[1])?];
    Ok(compare(&before, &after))
}

/// What changed, by path; hard links count as each other's equals when what they lead to is equal.
pub fn compare(before: &Tree, after: &Tree) -> Diff {
    let mut diff = Diff::default();
    let change = |path: &[u8], old: Option<&Inode>, new: Option<&Inode>| Change {
        path: display(path),
        before: old.map_or(0, size),
        after: new.map_or(0, size),
        attributes_only: matches!((old, new), (Some(old), Some(new)) if same_content(old, new)),
    };
    for path in before.paths.keys() {
        match (before.inode(path), after.inode(path)) {
            (old, None) => diff.removed.push(change(path, old, None)),
            (Some(old), Some(new)) if !same(old, new) => {
                diff.changed.push(change(path, Some(old), Some(new)))
            }
            _ => {}
        }
    }
    let added = after.paths.keys().filter(|path| !before.paths.contains_key(*path));
    diff.added = added.map(|path| change(path, None, after.inode(path))).collect();
    diff
}

fn size(inode: &Inode) -> u64 {
    match &inode.kind {
        Kind::File(content) => content.size,
        _ => 0,
    }
}

fn same(a: &Inode, b: &Inode) -> bool {
    same_content(a, b) && (a.mode, a.uid, a.gid) == (b.mode, b.uid, b.gid) && a.xattrs == b.xattrs
}

/// The OSTree object covers mode and owner too, so only the content's own digest counts here.
fn same_content(a: &Inode, b: &Inode) -> bool {
    match (&a.kind, &b.kind) {
        (Kind::File(a), Kind::File(b)) => a.sha256 == b.sha256,
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use upright_manifests::digest::Digest;

    use super::*;
    use crate::tree::Content;

    fn tree(files: &[(&str, &str, u16)]) -> Tree {
        let root = inode(Kind::Directory, 0o755);
        let mut tree = Tree { paths: BTreeMap::from([(Vec::new(), 0)]), inodes: vec![root] };
        for (path, text, mode) in files {
            let (size, sha256) = (text.len() as u64, Digest::of(text.as_bytes()));
            let object = Digest::of(format!("{text}{mode}").as_bytes());
            tree.paths.insert(path.as_bytes().to_vec(), tree.inodes.len());
            tree.inodes.push(inode(Kind::File(Content { size, sha256, object }), *mode));
        }
        tree
    }

    fn inode(kind: Kind, mode: u16) -> Inode {
        Inode { kind, mode, uid: 0, gid: 0, xattrs: BTreeMap::new() }
    }

    #[test]
    fn each_path_is_in_the_one_list_it_belongs_to() {
        let before =
            tree(&[("gone", "1", 0o644), ("grown", "1", 0o644), ("mode", "1", 0o644), ("same", "1", 0o644)]);
        let after = tree(&[
            ("grown", "123", 0o644),
            ("mode", "1", 0o600),
            ("new", "12", 0o644),
            ("same", "1", 0o644),
        ]);
        let diff = compare(&before, &after);
        let show = |changes: &[Change]| {
            let show = |c: &Change| format!("{} {}>{} {}", c.path, c.before, c.after, c.attributes_only);
            changes.iter().map(show).collect::<Vec<_>>()
        };
        assert_eq!(show(&diff.removed), ["/gone 1>0 false"]);
        assert_eq!(show(&diff.added), ["/new 0>2 false"]);
        assert_eq!(show(&diff.changed), ["/grown 1>3 false", "/mode 1>1 true"]);
    }
}
