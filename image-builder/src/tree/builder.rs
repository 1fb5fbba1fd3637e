//! Makes a [`Tree`] of entries in the order in which an archive holds them, and of layers over layers.
//!
//! It knows names only: nothing here opens a file, and no entry can reach outside the tree, because a path
//! is never resolved through a symbolic link.

use std::collections::BTreeMap;

use super::path::{PathError, display, parse, split};
use super::{Inode, Kind, Tree, TreeError, TreePath};

/// Owner, mode and attributes of a file whose content is still on its way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes by full name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Attributes {
    /// The inode of a file with these attributes. A symbolic link's mode is always 0777, as Linux has it.
    pub fn inode(self, kind: Kind) -> Inode {
        let mode = if matches!(kind, Kind::Symlink(_)) { 0o777 } else { self.mode };
        Inode { kind, mode, uid: self.uid, gid: self.gid, xattrs: self.xattrs }
    }
}

/// What an entry does whose path is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It is an error: an archive of one tree holds each path once.
    Refuse,
    /// It replaces what is there, as a layer of a container image does.
    Replace,
}

/// Why an entry cannot be part of the tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Its path, or its link's target, is not one.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The path was there before.
    #[error("{0} is there twice: archive each path once")]
    Twice(String),
    /// It would be written through a symbolic link.
    #[error("{path} goes through the symbolic link {link}: archive it under the directory's real path")]
    ThroughSymlink {
        /// The entry.
        path: String,
        /// The symbolic link on its way.
        link: String,
    },
    /// It is inside something that is not a directory.
    #[error("{path} is inside {parent}, which is not a directory")]
    ParentNotDirectory {
        /// The entry.
        path: String,
        /// What it is inside of.
        parent: String,
    },
    /// The root is not a directory.
    #[error("the root of the tree is not a directory")]
    RootNotDirectory,
    /// A hard link to something that is not there.
    #[error("hard link {path} names {target}, which is not there before it")]
    NoTarget {
        /// The hard link.
        path: String,
        /// What it names.
        target: String,
    },
    /// A hard link to a directory.
    #[error("hard link {path} names the directory {target}")]
    DirectoryTarget {
        /// The hard link.
        path: String,
        /// What it names.
        target: String,
    },
    /// The finished tree is not one.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// A tree in the making.
#[derive(Debug)]
pub struct TreeBuilder {
    nodes: BTreeMap<TreePath, Node>,
    inodes: Vec<Inode>,
    repeat: Repeat,
    layer: u32,
}

/// A path and where it came from.
#[derive(Debug, Clone, Copy)]
struct Node {
    inode: usize,
    layer: u32,
    explicit: bool,
}

impl TreeBuilder {
    /// A tree of a root directory alone (mode 0755, owned by root).
    pub fn new(repeat: Repeat) -> Self {
        let root = Node { inode: 0, layer: 0, explicit: false };
        Self {
            nodes: BTreeMap::from([(TreePath::new(), root)]),
            inodes: vec![plain_directory()],
            repeat,
            layer: 0,
        }
    }

    /// Adds `inode` at `path` (as the archive spells it). Directories that are not there yet come into being
    /// with mode 0755 and owned by root, until their own entry comes.
    pub fn add(&mut self, path: &[u8], inode: Inode) -> Result<(), BuildError> {
        let path = parse(path)?;
        self.make_way(&path, inode.kind == Kind::Directory)?;
        match self.nodes.get_mut(&path) {
            Some(node) => {
                *node = Node { layer: self.layer, explicit: true, ..*node };
                self.inodes[node.inode] = inode;
            }
            None => {
                self.inodes.push(inode);
                self.name(path, self.inodes.len() - 1, true);
            }
        }
        Ok(())
    }

    /// Checks that [`add`](Self::add) would take something else than a directory at `path`: asked before content
    /// is stored.
    pub fn check_file(&self, path: &[u8]) -> Result<(), BuildError> {
        let path = parse(path)?;
        match (self.repeat, self.nodes.get(&path)) {
            (Repeat::Refuse, Some(_)) => Err(BuildError::Twice(display(&path))),
            _ => self.check_way(&path),
        }
    }

    /// Adds `path` as a hard link to the file at `target`, both as the archive spells them.
    pub fn link(&mut self, path: &[u8], target: &[u8]) -> Result<(), BuildError> {
        let (path, target) = (parse(path)?, parse(target)?);
        let texts = || (display(&path), display(&target));
        let inode = match self.nodes.get(&target) {
            Some(node) => node.inode,
            None => {
                let (path, target) = texts();
                return Err(BuildError::NoTarget { path, target });
            }
        };
        if self.inodes[inode].kind == Kind::Directory {
            let (path, target) = texts();
            return Err(BuildError::DirectoryTarget { path, target });
        }
        if path == target && self.repeat == Repeat::Replace {
            return Ok(());
        }
        self.make_way(&path, false)?;
        self.name(path, inode, true);
        Ok(())
    }

    /// Begins the next layer: what follows lies over everything so far.
    pub fn next_layer(&mut self) {
        self.layer += 1;
    }

    /// Removes `path` with all that is under it, as far as it comes from lower layers.
    pub fn whiteout(&mut self, path: &[u8]) -> Result<(), BuildError> {
        let path = parse(path)?;
        self.remove_lower(&path);
        let stays = self.children(&path).next().is_some();
        if !stays && !path.is_empty() && self.nodes.get(&path).is_some_and(|node| node.layer < self.layer) {
            self.nodes.remove(&path);
        }
        Ok(())
    }

    /// Removes what is under the directory `path`, as far as it comes from lower layers.
    pub fn opaque(&mut self, path: &[u8]) -> Result<(), BuildError> {
        let path = parse(path)?;
        self.remove_lower(&path);
        Ok(())
    }

    /// Removes every path with a part that begins with `prefix`.
    pub fn remove_named(&mut self, prefix: &[u8]) {
        self.nodes.retain(|path, _| !path.split(|byte| *byte == b'/').any(|part| part.starts_with(prefix)));
    }

    /// The kind of what is at `path`, which is a tree's path.
    pub fn kind(&self, path: &[u8]) -> Option<&Kind> {
        self.nodes.get(path).map(|node| &self.inodes[node.inode].kind)
    }

    /// The tree, checked and in canonical order.
    pub fn finish(self) -> Result<Tree, BuildError> {
        let paths = self.nodes.into_iter().map(|(path, node)| (path, node.inode)).collect();
        let tree = Tree { paths, inodes: self.inodes }.canonical();
        tree.check()?;
        Ok(tree)
    }

    /// Makes `path` ready to be named: its directories are there, and it is not, unless both are directories.
    fn make_way(&mut self, path: &[u8], directory: bool) -> Result<(), BuildError> {
        self.check_way(path)?;
        if let Some(node) = self.nodes.get(path).copied() {
            let both = directory && self.is_directory(&node);
            if path.is_empty() && !both {
                return Err(BuildError::RootNotDirectory);
            }
            if self.repeat == Repeat::Refuse && (node.explicit || !both) {
                return Err(BuildError::Twice(display(path)));
            }
            if !both {
                let inside: Vec<TreePath> = self.children(path).cloned().collect();
                for path in inside.iter().map(Vec::as_slice).chain([path]) {
                    self.nodes.remove(path);
                }
            }
        }
        self.add_parents(path);
        Ok(())
    }

    /// Checks that the nearest thing on the way to `path` that is there is a directory.
    fn check_way(&self, path: &[u8]) -> Result<(), BuildError> {
        let mut way = path;
        while !way.is_empty() {
            way = split(way).0;
            match self.kind(way) {
                None => continue,
                Some(Kind::Directory) => return Ok(()),
                Some(Kind::Symlink(_)) => {
                    return Err(BuildError::ThroughSymlink { path: display(path), link: display(way) });
                }
                Some(_) => {
                    return Err(BuildError::ParentNotDirectory { path: display(path), parent: display(way) });
                }
            }
        }
        Ok(())
    }

    fn add_parents(&mut self, path: &[u8]) {
        let mut way = split(path).0;
        while !self.nodes.contains_key(way) {
            self.inodes.push(plain_directory());
            self.name(way.to_vec(), self.inodes.len() - 1, false);
            way = split(way).0;
        }
    }

    fn name(&mut self, path: TreePath, inode: usize, explicit: bool) {
        self.nodes.insert(path, Node { inode, layer: self.layer, explicit });
    }

    /// Removes what is under `path` and from lower layers, but for directories that hold something newer.
    fn remove_lower(&mut self, path: &[u8]) {
        let inside: Vec<TreePath> = self.children(path).cloned().collect();
        for path in inside.iter().rev() {
            let lower = self.nodes.get(path).is_some_and(|node| node.layer < self.layer);
            if lower && self.children(path).next().is_none() {
                self.nodes.remove(path);
            }
        }
    }

    /// The paths under the directory `path`, sorted.
    fn children<'a>(&'a self, path: &[u8]) -> impl Iterator<Item = &'a TreePath> + use<'a> {
        let (from, to) = match path {
            b"" => (vec![0], vec![0xff; 2]),
            // '0' is the byte after '/'
            _ => ([path, b"/"].concat(), [path, b"0"].concat()),
        };
        let root = path.is_empty();
        self.nodes.range(from..).map(|(path, _)| path).take_while(move |path| root || **path < to)
    }

    fn is_directory(&self, node: &Node) -> bool {
        self.inodes[node.inode].kind == Kind::Directory
    }
}

fn plain_directory() -> Inode {
    Attributes { mode: 0o755, ..Attributes::default() }.inode(Kind::Directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(mode: u16) -> Inode {
        Attributes { mode, ..Attributes::default() }.inode(Kind::Fifo)
    }

    fn directory(mode: u16) -> Inode {
        Attributes { mode, ..Attributes::default() }.inode(Kind::Directory)
    }

    fn paths(builder: TreeBuilder) -> Vec<String> {
        let tree = builder.finish().expect("a tree");
        tree.paths.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
    }

    fn refused<T: std::fmt::Debug>(result: Result<T, BuildError>) -> String {
        result.expect_err("refused").to_string()
    }

    #[test]
    fn missing_directories_appear_and_take_their_own_entry_later() {
        let mut builder = TreeBuilder::new(Repeat::Refuse);
        builder.add(b"a/b/c", file(0o600)).expect("added");
        builder.add(b"./a/", directory(0o700)).expect("added");
        let tree = builder.finish().expect("a tree");
        assert_eq!(tree.inode(b"a").map(|inode| inode.mode), Some(0o700));
        assert_eq!(tree.inode(b"a/b").map(|inode| inode.mode), Some(0o755));
    }

    #[test]
    fn the_same_path_twice_is_refused_in_an_archive() {
        let mut builder = TreeBuilder::new(Repeat::Refuse);
        builder.add(b"a/b", file(0o600)).expect("added");
        assert_eq!(
            refused(builder.add(b"./a/b", file(0o600))),
            "/a/b is there twice: archive each path once"
        );
        assert_eq!(refused(builder.check_file(b"a/b")), "/a/b is there twice: archive each path once");
        assert_eq!(refused(builder.link(b"a/b", b"a/b")), "/a/b is there twice: archive each path once");
        builder.add(b"a", directory(0o700)).expect("added");
        assert_eq!(refused(builder.add(b"a", directory(0o700))), "/a is there twice: archive each path once");
        builder.add(b"", directory(0o700)).expect("added");
        assert_eq!(refused(builder.add(b".", directory(0o700))), "/ is there twice: archive each path once");
    }

    #[test]
    fn nothing_is_written_through_a_symbolic_link_or_a_file() {
        for repeat in [Repeat::Refuse, Repeat::Replace] {
            let mut builder = TreeBuilder::new(repeat);
            let link = Attributes::default().inode(Kind::Symlink(b"/etc".to_vec()));
            builder.add(b"a/l", link).expect("added");
            builder.add(b"a/f", file(0o600)).expect("added");
            assert_eq!(
                refused(builder.add(b"a/l/x/y", file(0o600))),
                "/a/l/x/y goes through the symbolic link /a/l: archive it under the directory's real path"
            );
            assert!(refused(builder.check_file(b"a/l/x")).contains("symbolic link"));
            assert!(refused(builder.link(b"a/l/x", b"a/f")).contains("symbolic link"));
            assert_eq!(
                refused(builder.add(b"a/f/x", file(0o600))),
                "/a/f/x is inside /a/f, which is not a directory"
            );
        }
    }

    #[test]
    fn hard_links_share_an_inode_and_need_a_file() {
        let mut builder = TreeBuilder::new(Repeat::Refuse);
        builder.add(b"a", file(0o600)).expect("added");
        builder.link(b"./d/b", b"./a").expect("linked");
        assert_eq!(refused(builder.link(b"c", b"x")), "hard link /c names /x, which is not there before it");
        assert_eq!(refused(builder.link(b"c", b"d")), "hard link /c names the directory /d");
        assert!(refused(builder.link(b"c", b"../x")).contains(".. part"));
        let tree = builder.finish().expect("a tree");
        assert_eq!(tree.paths[&b"a"[..]], tree.paths[&b"d/b"[..]]);
    }

    #[test]
    fn a_layer_replaces_files_and_updates_directories() {
        let mut builder = TreeBuilder::new(Repeat::Replace);
        builder.add(b"d", directory(0o755)).expect("added");
        builder.add(b"d/x", file(0o600)).expect("added");
        builder.add(b"e/x", file(0o600)).expect("added");
        builder.add(b"f", file(0o600)).expect("added");
        builder.link(b"g", b"f").expect("linked");
        builder.next_layer();
        builder.add(b"d", directory(0o700)).expect("added");
        builder.add(b"e", file(0o644)).expect("added");
        builder.add(b"f", file(0o640)).expect("added");
        let tree = builder.finish().expect("a tree");
        let mode = |path: &[u8]| tree.inode(path).map(|inode| inode.mode);
        assert_eq!(mode(b"d"), Some(0o700));
        assert_eq!(mode(b"d/x"), Some(0o600));
        assert_eq!((mode(b"e"), mode(b"e/x")), (Some(0o644), None));
        assert_eq!((mode(b"f"), mode(b"g")), (Some(0o640), Some(0o600)));
    }

    #[test]
    fn whiteouts_reach_lower_layers_alone_in_any_order() {
        for whiteout_first in [true, false] {
            let mut builder = TreeBuilder::new(Repeat::Replace);
            for path in [&b"d/old"[..], b"d/sub/old", b"e/old", b"f", b"d-not"] {
                builder.add(path, file(0o600)).expect("added");
            }
            builder.next_layer();
            let white = |builder: &mut TreeBuilder| {
                builder.opaque(b"d").expect("opaque");
                builder.whiteout(b"e").expect("whiteout");
                builder.whiteout(b"f").expect("whiteout");
                builder.whiteout(b"absent").expect("whiteout");
            };
            if whiteout_first {
                white(&mut builder);
            }
            builder.add(b"d/new", file(0o600)).expect("added");
            builder.add(b"d/sub/new", file(0o600)).expect("added");
            if !whiteout_first {
                white(&mut builder);
            }
            assert_eq!(paths(builder), ["", "d", "d-not", "d/new", "d/sub", "d/sub/new"]);
        }
    }

    #[test]
    fn the_root_can_be_emptied_but_not_removed() {
        let mut builder = TreeBuilder::new(Repeat::Replace);
        builder.add(b"a/b", file(0o600)).expect("added");
        builder.add(b"\xff\xff\xff", file(0o600)).expect("added");
        builder.next_layer();
        builder.opaque(b"").expect("opaque");
        assert_eq!(paths(builder), [""]);
    }
}
