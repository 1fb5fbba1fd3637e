//! What a commit keeps beside its OSTree tree, in its metadata, so that a tree comes back as it was.
//!
//! ```text
//! key              type                     what
//! upright.format   u                        1; the keys below are there
//! upright.sha256   ay                       SHA-256 of each distinct regular file's content, 32 bytes each, in
//!                                           the order of the OSTree objects' checksums
//! upright.names    a(say)                   path in the OSTree tree, name in truth: names that are not UTF-8,
//!                                           sorted by path
//! upright.links    aaay                     paths that are one file, sorted, at least two each
//! upright.special  a(aayuuuuua(ayay)ay)     what OSTree cannot hold: paths, mode with file type, owner, group,
//!                                           major, minor, attributes, target of a symbolic link
//! ```
//!
//! Numbers are big-endian, as in OSTree's own objects, so that a commit has one checksum on every machine.

use std::collections::{BTreeMap, BTreeSet};

use ostree::glib;
use ostree::glib::prelude::*;
use upright_manifests::digest::Digest;

use super::path::split;
use super::variant::{array, bytes, child, children, permissions, to_bytes, to_xattrs, xattrs};
use super::{Attributes, Device, Inode, Kind, Tree, TreePath};

/// The one format there is.
const FORMAT: u32 = 1;

/// What is kept beside a tree.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Beside {
    /// SHA-256 by OSTree object.
    pub(super) sha256: Vec<Digest>,
    /// True name by path in the OSTree tree.
    pub(super) names: BTreeMap<String, Vec<u8>>,
    /// Groups of paths that are one file.
    pub(super) links: Vec<Vec<TreePath>>,
    /// Inodes that OSTree cannot hold, with their paths.
    pub(super) special: Vec<(Vec<TreePath>, Inode)>,
}

impl Beside {
    /// What has to be kept beside `tree`, and where each path is that OSTree holds.
    pub(super) fn of(tree: &Tree) -> (Self, BTreeMap<&TreePath, String>) {
        let mut beside = Self::default();
        for (paths, inode) in tree.paths_by_inode().into_iter().zip(&tree.inodes) {
            let several = paths.len() > 1;
            let paths = || paths.iter().map(|path| (*path).clone()).collect();
            if !is_held(inode) {
                beside.special.push((paths(), inode.clone()));
            } else if several {
                beside.links.push(paths());
            }
        }
        let contents: BTreeMap<Digest, Digest> = tree
            .inodes
            .iter()
            .filter_map(|inode| match &inode.kind {
                Kind::File(content) => Some((content.object, content.sha256)),
                _ => None,
            })
            .collect();
        beside.sha256 = contents.into_values().collect();
        let stored = stored_paths(tree, &mut beside.names);
        (beside, stored)
    }

    /// The entries for the commit's metadata.
    pub(super) fn to_metadata(&self, metadata: &glib::VariantDict) {
        let digests: Vec<u8> = self.sha256.iter().flat_map(|digest| *digest.as_bytes()).collect();
        metadata.insert_value("upright.format", &FORMAT.to_be().to_variant());
        metadata.insert_value("upright.sha256", &bytes(&digests));
        let names = self
            .names
            .iter()
            .map(|(path, name)| glib::Variant::tuple_from_iter([path.to_variant(), bytes(name)]));
        metadata.insert_value("upright.names", &array("(say)", names));
        metadata.insert_value("upright.links", &array("aay", self.links.iter().map(|group| paths(group))));
        let special = self.special.iter().map(|(names, inode)| special(names, inode));
        metadata.insert_value("upright.special", &array(SPECIAL, special));
    }

    /// What the commit's metadata holds; empty when the commit is not one of this program's, nothing when it
    /// cannot be understood.
    pub(super) fn from_metadata(metadata: &glib::VariantDict) -> Option<Option<Self>> {
        let Some(format) = metadata.lookup_value("upright.format", None) else { return Some(None) };
        if format.get::<u32>().map(u32::from_be) != Some(FORMAT) {
            return None;
        }
        let value = |key| metadata.lookup_value(key, None);
        let digests = to_bytes(&value("upright.sha256")?)?;
        let (digests, rest) = digests.as_chunks::<32>();
        let names = value("upright.names")?;
        let special = value("upright.special")?;
        Some(Some(Self {
            sha256: rest.is_empty().then(|| digests.iter().copied().map(Digest::from).collect())?,
            names: children(&names)
                .map(|pair| Some((child(&pair, 0)?.get::<String>()?, to_bytes(&child(&pair, 1)?)?)))
                .collect::<Option<_>>()?,
            links: children(&value("upright.links")?).map(|group| to_paths(&group)).collect::<Option<_>>()?,
            special: children(&special).map(|entry| to_special(&entry)).collect::<Option<_>>()?,
        }))
    }
}

/// Whether OSTree's own objects can hold the inode.
pub(super) fn is_held(inode: &Inode) -> bool {
    match &inode.kind {
        Kind::Directory | Kind::File(_) => true,
        Kind::Symlink(target) => inode.mode == 0o777 && std::str::from_utf8(target).is_ok(),
        _ => false,
    }
}

/// The path in the OSTree tree of every path that OSTree holds: the same, but with `%xx` for bytes that are not
/// UTF-8, and as many `%` behind as make it unique in its directory.
fn stored_paths<'a>(tree: &'a Tree, names: &mut BTreeMap<String, Vec<u8>>) -> BTreeMap<&'a TreePath, String> {
    let mut stored: BTreeMap<&TreePath, String> = BTreeMap::new();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for (path, index) in &tree.paths {
        if tree.inodes.get(*index).is_none_or(|inode| !is_held(inode)) {
            continue;
        }
        let (directory, name) = split(path);
        let parent = stored.get(&directory.to_vec()).map_or("", String::as_str);
        let prefix = if parent.is_empty() { String::new() } else { format!("{parent}/") };
        let place = match std::str::from_utf8(name) {
            Ok(name) => format!("{prefix}{name}"),
            Err(_) => {
                let mut place = format!("{prefix}{}", escape(name));
                while taken.contains(&place) || is_path(tree, directory, &place[prefix.len()..]) {
                    place.push('%');
                }
                taken.insert(place.clone());
                names.insert(place.clone(), name.to_vec());
                place
            }
        };
        stored.insert(path, place);
    }
    stored
}

fn is_path(tree: &Tree, directory: &[u8], name: &str) -> bool {
    let separator: &[u8] = if directory.is_empty() { b"" } else { b"/" };
    tree.paths.contains_key(&[directory, separator, name.as_bytes()].concat())
}

fn escape(name: &[u8]) -> String {
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("%{byte:02x}")));
    }
    text
}

/// The type of one of `upright.special`.
const SPECIAL: &str = "(aayuuuuua(ayay)ay)";

/// File types (inode(7)).
const S_IFMT: u32 = 0o170000;
const S_IFSOCK: u32 = 0o140000;
const S_IFLNK: u32 = 0o120000;
const S_IFBLK: u32 = 0o060000;
const S_IFCHR: u32 = 0o020000;
const S_IFIFO: u32 = 0o010000;

fn special(names: &[TreePath], inode: &Inode) -> glib::Variant {
    let none = Device { major: 0, minor: 0 };
    let (kind, device, target) = match &inode.kind {
        Kind::CharDevice(device) => (S_IFCHR, *device, &b""[..]),
        Kind::BlockDevice(device) => (S_IFBLK, *device, &b""[..]),
        Kind::Fifo => (S_IFIFO, none, &b""[..]),
        Kind::Socket => (S_IFSOCK, none, &b""[..]),
        Kind::Symlink(target) => (S_IFLNK, none, &target[..]),
        Kind::Directory | Kind::File(_) => unreachable!("OSTree holds directories and files"),
    };
    let number = |number: u32| number.to_be().to_variant();
    glib::Variant::tuple_from_iter([
        paths(names),
        number(kind | u32::from(inode.mode)),
        number(inode.uid),
        number(inode.gid),
        number(device.major),
        number(device.minor),
        xattrs(&inode.xattrs),
        bytes(target),
    ])
}

fn to_special(entry: &glib::Variant) -> Option<(Vec<TreePath>, Inode)> {
    let number = |index| child(entry, index)?.get::<u32>().map(u32::from_be);
    let mode = number(1)?;
    let device = Device { major: number(4)?, minor: number(5)? };
    let kind = match mode & S_IFMT {
        S_IFCHR => Kind::CharDevice(device),
        S_IFBLK => Kind::BlockDevice(device),
        S_IFIFO => Kind::Fifo,
        S_IFSOCK => Kind::Socket,
        S_IFLNK => Kind::Symlink(to_bytes(&child(entry, 7)?)?),
        _ => return None,
    };
    let attributes = Attributes {
        mode: permissions(mode),
        uid: number(2)?,
        gid: number(3)?,
        xattrs: to_xattrs(&child(entry, 6)?)?,
    };
    let Attributes { mode, uid, gid, xattrs } = attributes;
    Some((to_paths(&child(entry, 0)?)?, Inode { kind, mode, uid, gid, xattrs }))
}

fn paths(paths: &[TreePath]) -> glib::Variant {
    array("ay", paths.iter().map(|path| bytes(path)))
}

fn to_paths(variant: &glib::Variant) -> Option<Vec<TreePath>> {
    children(variant).map(|path| to_bytes(&path)).collect()
}
