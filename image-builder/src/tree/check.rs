//! What every tree keeps to, checked in one place before a tree is stored or written to an image.

use std::collections::BTreeMap;

use super::path::{MAX_NAME, MAX_PATH, MAX_TARGET, display, split};
use super::{Device, Inode, Kind, Tree, TreePath};

/// Most bytes of an extended attribute's value (Linux `XATTR_SIZE_MAX`).
pub(super) const MAX_XATTR_VALUE: usize = 65536;

/// Most bytes of an extended attribute's name (Linux `XATTR_NAME_MAX`).
const MAX_XATTR_NAME: usize = 255;

/// Why paths and inodes are not a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The root is not there.
    #[error("the tree has no root directory")]
    NoRoot,
    /// A path without its directory.
    #[error("{0} has no parent directory in the tree")]
    NoParent(String),
    /// A path under something else than a directory.
    #[error("{0} is under something that is not a directory")]
    ParentNotDirectory(String),
    /// The root is something else than a directory.
    #[error("the root of the tree is not a directory")]
    RootNotDirectory,
    /// A name that no directory can hold.
    #[error(
        "{0} is not a path of a tree: empty, . and .. parts, NUL bytes and names over 255 bytes are not allowed"
    )]
    Name(String),
    /// A path that names no inode.
    #[error("{0} names an inode that is not there")]
    NoInode(String),
    /// An inode that no path names.
    #[error("inode {0} of the tree has no path")]
    NoPath(usize),
    /// A directory with two names.
    #[error("{0} is a second name of a directory")]
    LinkedDirectory(String),
    /// A symbolic link to nothing, or to more than a path can hold.
    #[error("symbolic link {path} has a target of {length} bytes: 1 to 4095 without a NUL are allowed")]
    Target {
        /// The symbolic link.
        path: String,
        /// How long its target is.
        length: usize,
    },
    /// Mode bits beyond the twelve there are.
    #[error("{path} has mode {mode:#o}: only the bits of 0o7777 are allowed")]
    Mode {
        /// The file.
        path: String,
        /// Its mode.
        mode: u16,
    },
    /// Device numbers that Linux cannot hold.
    #[error(
        "device {path} is {major}:{minor}: at most 12 bits for the first and 20 for the second number are allowed"
    )]
    Device {
        /// The device node.
        path: String,
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// An extended attribute that Linux cannot hold.
    #[error(
        "{path} has an extended attribute {name:?} that Linux cannot hold: at most 255 bytes of name and 65536 of value"
    )]
    Xattr {
        /// The file.
        path: String,
        /// The attribute's name.
        name: String,
    },
}

impl Tree {
    /// Checks that this is a tree: the root and every parent are directories, names, targets, modes, devices and
    /// attributes are ones that Linux can hold, and each inode has a path.
    pub fn check(&self) -> Result<(), TreeError> {
        let root = self.inode(b"").ok_or(TreeError::NoRoot)?;
        if root.kind != Kind::Directory {
            return Err(TreeError::RootNotDirectory);
        }
        let mut named = vec![false; self.inodes.len()];
        for (path, index) in &self.paths {
            let inode = self.inodes.get(*index).ok_or_else(|| TreeError::NoInode(display(path)))?;
            if inode.kind == Kind::Directory && named[*index] {
                return Err(TreeError::LinkedDirectory(display(path)));
            }
            if !path.is_empty() {
                self.check_place(path)?;
            }
            if !named[*index] {
                check_inode(path, inode)?;
            }
            named[*index] = true;
        }
        named.iter().position(|named| !named).map_or(Ok(()), |index| Err(TreeError::NoPath(index)))
    }

    /// The inode at `path`.
    pub fn inode(&self, path: &[u8]) -> Option<&Inode> {
        self.paths.get(path).and_then(|index| self.inodes.get(*index))
    }

    /// The same tree with its inodes in the order of their first path, and without those that have none: trees
    /// that hold the same files are equal after this.
    pub fn canonical(mut self) -> Self {
        let mut inodes: Vec<Option<Inode>> = self.inodes.into_iter().map(Some).collect();
        let mut renumbered = BTreeMap::new();
        self.inodes = Vec::with_capacity(inodes.len());
        for index in self.paths.values_mut() {
            if let Some(inode) = inodes.get_mut(*index).and_then(Option::take) {
                renumbered.insert(*index, self.inodes.len());
                self.inodes.push(inode);
            }
            if let Some(new) = renumbered.get(index) {
                *index = *new;
            }
        }
        self
    }

    /// The paths of each inode, in the order of `inodes` and sorted.
    pub fn paths_by_inode(&self) -> Vec<Vec<&TreePath>> {
        let mut paths = vec![Vec::new(); self.inodes.len()];
        for (path, index) in &self.paths {
            if let Some(list) = paths.get_mut(*index) {
                list.push(path);
            }
        }
        paths
    }

    fn check_place(&self, path: &[u8]) -> Result<(), TreeError> {
        let (directory, name) = split(path);
        let bad_name = matches!(name, b"" | b"." | b"..") || name.contains(&0) || name.len() > MAX_NAME;
        if bad_name || path.starts_with(b"/") || path.len() > MAX_PATH {
            return Err(TreeError::Name(display(path)));
        }
        match self.inode(directory) {
            None => Err(TreeError::NoParent(display(path))),
            Some(parent) if parent.kind != Kind::Directory => {
                Err(TreeError::ParentNotDirectory(display(path)))
            }
            Some(_) => Ok(()),
        }
    }
}

fn check_inode(path: &[u8], inode: &Inode) -> Result<(), TreeError> {
    if inode.mode > 0o7777 {
        return Err(TreeError::Mode { path: display(path), mode: inode.mode });
    }
    for (name, value) in &inode.xattrs {
        let bad_name = name.is_empty() || name.contains(&0) || name.len() > MAX_XATTR_NAME;
        if bad_name || value.len() > MAX_XATTR_VALUE {
            let name = String::from_utf8_lossy(name).into_owned();
            return Err(TreeError::Xattr { path: display(path), name });
        }
    }
    match &inode.kind {
        Kind::Symlink(target) if target.is_empty() || target.len() > MAX_TARGET || target.contains(&0) => {
            Err(TreeError::Target { path: display(path), length: target.len() })
        }
        Kind::CharDevice(Device { major, minor }) | Kind::BlockDevice(Device { major, minor })
            if *major >= 1 << 12 || *minor >= 1 << 20 =>
        {
            Err(TreeError::Device { path: display(path), major: *major, minor: *minor })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode(kind: Kind) -> Inode {
        Inode { kind, mode: 0o755, uid: 0, gid: 0, xattrs: BTreeMap::new() }
    }

    fn tree(entries: &[(&[u8], Kind)]) -> Tree {
        let mut tree = Tree::default();
        for (path, kind) in entries {
            tree.paths.insert(path.to_vec(), tree.inodes.len());
            tree.inodes.push(inode(kind.clone()));
        }
        tree
    }

    fn refusal(tree: &Tree) -> String {
        tree.check().expect_err("refused").to_string()
    }

    #[test]
    fn a_tree_passes() {
        let tree =
            tree(&[(b"", Kind::Directory), (b"a", Kind::Directory), (b"a/b", Kind::Symlink(b"c".to_vec()))]);
        assert_eq!(tree.check(), Ok(()));
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        use Kind::{CharDevice, Directory, Fifo, Symlink};
        assert_eq!(refusal(&Tree::default()), "the tree has no root directory");
        assert_eq!(refusal(&tree(&[(b"", Fifo)])), "the root of the tree is not a directory");
        assert_eq!(
            refusal(&tree(&[(b"", Directory), (b"a/b", Fifo)])),
            "/a/b has no parent directory in the tree"
        );
        assert_eq!(
            refusal(&tree(&[(b"", Directory), (b"a", Fifo), (b"a/b", Fifo)])),
            "/a/b is under something that is not a directory"
        );
        for name in [&b".."[..], b".", b"a\0", b"/a", b"a/", &[b'x'; 256]] {
            let tree = tree(&[(b"", Directory), (b"a", Directory), (name, Fifo)]);
            assert!(refusal(&tree).contains("is not a path of a tree"), "{name:?}");
        }
        for target in [vec![], vec![b'x'; 4096], b"a\0".to_vec()] {
            let tree = tree(&[(b"", Directory), (b"a", Symlink(target))]);
            assert!(refusal(&tree).starts_with("symbolic link /a has a target of "));
        }
        let device = CharDevice(Device { major: 4096, minor: 0 });
        assert!(refusal(&tree(&[(b"", Directory), (b"a", device)])).starts_with("device /a is 4096:0"));
    }

    #[test]
    fn inodes_and_paths_must_match() {
        let mut odd = tree(&[(b"", Kind::Directory)]);
        odd.inodes.push(inode(Kind::Fifo));
        assert_eq!(refusal(&odd), "inode 1 of the tree has no path");
        odd.paths.insert(b"a".to_vec(), 7);
        assert_eq!(refusal(&odd), "/a names an inode that is not there");
        odd.paths.insert(b"a".to_vec(), 0);
        assert_eq!(refusal(&odd), "/a is a second name of a directory");
    }

    #[test]
    fn attributes_and_modes_are_bounded() {
        let mut odd = tree(&[(b"", Kind::Directory)]);
        odd.inodes[0].mode = 0o10000;
        assert!(refusal(&odd).starts_with("/ has mode 0o10000"));
        odd.inodes[0].mode = 0o755;
        odd.inodes[0].xattrs.insert(b"user.a".to_vec(), vec![0; MAX_XATTR_VALUE + 1]);
        assert!(refusal(&odd).starts_with("/ has an extended attribute \"user.a\""));
    }

    #[test]
    fn canonical_order_is_that_of_the_first_path() {
        let mut tree = tree(&[(b"b", Kind::Fifo), (b"", Kind::Directory), (b"gone", Kind::Socket)]);
        tree.paths.remove(&b"gone"[..]);
        tree.paths.insert(b"a".to_vec(), 0);
        let tree = tree.canonical();
        assert_eq!(tree.inodes, [inode(Kind::Directory), inode(Kind::Fifo)]);
        assert_eq!(tree.paths.values().copied().collect::<Vec<_>>(), [0, 1, 1]);
        assert_eq!(tree.check(), Ok(()));
    }
}
