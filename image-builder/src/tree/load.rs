//! Reads a commit back as a tree, or brings it over from another repository.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use ostree::prelude::*;
use ostree::{ObjectType, gio, glib};
use upright_keys::PublicKey;
use upright_manifests::digest::Digest;

use super::batch::{Batch, WriteError};
use super::beside::Beside;
use super::path::MAX_PATH;
use super::sign::SignatureError;
use super::store::{Store, StoreError};
use super::{Attributes, Content, Inode, Kind, Tree, TreePath, variant};

/// Most paths of a tree that is read: directory objects can name each other so that few are a great many.
const MAX_PATHS: usize = 4_000_000;

/// A tree out of the store, and what its commit says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The tree, in canonical order.
    pub tree: Tree,
    /// The commit's checksum.
    pub commit: Digest,
    /// The release's version; empty when the commit names none.
    pub version: String,
    /// The release's time, in seconds since 1970.
    pub time: u64,
}

impl Store {
    /// The tree that `reference` (a ref or a commit's checksum) names: the same that was committed.
    pub fn load(&self, reference: &str) -> Result<Loaded, StoreError> {
        let commit = Commit::read(self, reference)?;
        let Some(beside) = &commit.beside else {
            return Err(self.bad_commit(&commit.checksum, "it was not made by upright-build"));
        };
        let listing = commit.list(self)?;
        let mut found = BTreeMap::new();
        for object in listing.iter().filter_map(|(_, _, item)| item.object()) {
            if !found.contains_key(object) {
                found.insert(*object, commit.query(self, object)?);
            }
        }
        let files = found.values_mut().filter_map(|inode| match &mut inode.kind {
            Kind::File(content) => Some(content),
            _ => None,
        });
        let mut digests = beside.sha256.iter();
        for content in files {
            content.sha256 =
                *digests.next().ok_or_else(|| commit.bad(self, "it lacks digests of its files"))?;
        }
        if digests.next().is_some() {
            return Err(commit.bad(self, "it has more digests than files"));
        }
        let tree = commit.assemble(self, listing, &mut |object| match found.get(object) {
            Some(inode) => Ok(inode.clone()),
            None => Err(commit.bad(self, format!("object {object} is missing"))),
        })?;
        Ok(commit.loaded(tree))
    }
}

/// Copies the tree that `reference` names in the repository at `path`, of any mode, into `batch`. Every object must be what its
/// checksum says; with `keys`, one of them must have signed the commit.
pub(crate) fn import(
    path: &Path,
    reference: &str,
    keys: &[PublicKey],
    batch: &Batch<'_>,
) -> Result<Loaded, SignatureError> {
    let source = Store::open_any(path)?;
    if !keys.is_empty() {
        source.verify_commit(&source.resolve(reference)?, keys)?;
    }
    let commit = Commit::read(&source, reference)?;
    let listing = commit.list(&source)?;
    let mut copied: HashMap<Digest, Inode> = HashMap::new();
    let tree = commit.assemble(&source, listing, &mut |object| {
        if let Some(inode) = copied.get(object) {
            return Ok(inode.clone());
        }
        let inode = commit.copy(&source, object, batch)?;
        copied.insert(*object, inode.clone());
        Ok(inode)
    })?;
    Ok(commit.loaded(tree))
}

/// A commit's own object, read.
struct Commit {
    checksum: Digest,
    version: String,
    time: u64,
    beside: Option<Beside>,
    /// Checksums of the root's dirtree and dirmeta.
    root: (Digest, Digest),
}

/// What a path is, as far as its directory says.
enum Item {
    Directory(Attributes),
    Object(Digest),
}

impl Item {
    fn object(&self) -> Option<&Digest> {
        match self {
            Self::Object(object) => Some(object),
            Self::Directory(_) => None,
        }
    }
}

/// A path, its path in the OSTree tree, and what it is.
type Listing = Vec<(TreePath, String, Item)>;

impl Commit {
    fn read(store: &Store, reference: &str) -> Result<Self, StoreError> {
        let checksum = store.resolve(reference)?;
        let bad = |reason: &str| store.bad_commit(&checksum, reason);
        let (object, _) = store
            .repo
            .load_commit(&checksum.to_string())
            .map_err(|source| store.error("read a commit", source))?;
        if Digest::of(&object.data_as_bytes()) != checksum {
            return Err(bad("it is damaged"));
        }
        let metadata = variant::child(&object, 0).ok_or_else(|| bad("it is no commit"))?;
        let metadata = glib::VariantDict::new(Some(&metadata));
        let digest = |index| variant::child(&object, index).and_then(|child| variant::to_digest(&child));
        Ok(Self {
            version: metadata.lookup::<String>("version").ok().flatten().unwrap_or_default(),
            time: variant::child(&object, 5).and_then(|time| time.get::<u64>()).map_or(0, u64::from_be),
            beside: Beside::from_metadata(&metadata).ok_or_else(|| bad("its metadata is not understood"))?,
            root: digest(6).zip(digest(7)).ok_or_else(|| bad("it names no tree"))?,
            checksum,
        })
    }

    /// All paths of the OSTree tree, each directory before what is in it.
    fn list(&self, store: &Store) -> Result<Listing, StoreError> {
        let mut listing = Listing::new();
        let mut waiting = vec![(TreePath::new(), String::new(), self.root)];
        while let Some((path, place, (contents, metadata))) = waiting.pop() {
            let attributes = load(store, ObjectType::DirMeta, &metadata)?;
            let attributes = variant::to_directory(&attributes)
                .ok_or_else(|| self.bad(store, format!("directory object {metadata} is malformed")))?;
            let entries = load(store, ObjectType::DirTree, &contents)?;
            let malformed = || self.bad(store, format!("directory object {contents} is malformed"));
            for (kind, list) in variant::children(&entries).enumerate() {
                for entry in variant::children(&list) {
                    let name = variant::child(&entry, 0)
                        .and_then(|name| name.get::<String>())
                        .ok_or_else(malformed)?;
                    let digest =
                        |index| variant::child(&entry, index).and_then(|child| variant::to_digest(&child));
                    let (path, place) = self.join(&path, &place, &name);
                    if path.len() > MAX_PATH || listing.len() + waiting.len() >= MAX_PATHS {
                        return Err(
                            self.bad(store, format!("it has more than {MAX_PATHS} paths, or too long ones"))
                        );
                    }
                    let first = digest(1).ok_or_else(malformed)?;
                    if kind == 0 {
                        listing.push((path, place, Item::Object(first)));
                    } else {
                        waiting.push((path, place, (first, digest(2).ok_or_else(malformed)?)));
                    }
                }
            }
            listing.push((path, place, Item::Directory(attributes)));
        }
        Ok(listing)
    }

    /// A name in a directory as a path of the tree and as one of the OSTree tree.
    fn join(&self, path: &[u8], place: &str, name: &str) -> (TreePath, String) {
        let place = if place.is_empty() { name.to_owned() } else { format!("{place}/{name}") };
        let known = self.beside.as_ref().and_then(|beside| beside.names.get(&place));
        let name = known.map_or(name.as_bytes(), Vec::as_slice);
        let path = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
        (path, place)
    }

    /// The tree of what was listed and what is beside it; `resolve` makes an inode of an object.
    fn assemble(
        &self,
        store: &Store,
        listing: Listing,
        resolve: &mut dyn FnMut(&Digest) -> Result<Inode, StoreError>,
    ) -> Result<Tree, StoreError> {
        let mut tree = Tree::default();
        for (path, _, item) in listing {
            let inode = match item {
                Item::Directory(attributes) => attributes.inode(Kind::Directory),
                Item::Object(object) => resolve(&object)?,
            };
            tree.paths.insert(path, tree.inodes.len());
            tree.inodes.push(inode);
        }
        if let Some(beside) = &self.beside {
            for group in &beside.links {
                let first = group.first().and_then(|path| tree.paths.get(path).copied());
                let first = first.ok_or_else(|| self.bad(store, "a hard link of it is not in its tree"))?;
                tree.paths.extend(group.iter().map(|path| (path.clone(), first)));
            }
            for (paths, inode) in &beside.special {
                tree.paths.extend(paths.iter().map(|path| (path.clone(), tree.inodes.len())));
                tree.inodes.push(inode.clone());
            }
        }
        let tree = tree.canonical();
        tree.check()?;
        Ok(tree)
    }

    /// What an object is, without its content; the SHA-256 of a file is yet to be filled in.
    fn query(&self, store: &Store, object: &Digest) -> Result<Inode, StoreError> {
        let (info, xattrs) = store
            .repo
            .query_file(&object.to_string(), gio::Cancellable::NONE)
            .map_err(|source| store.error("read an object", source))?;
        let unknown = Digest::from([0; 32]);
        self.inode(store, object, &info, &xattrs, |size, _| {
            Ok(Content { size, sha256: unknown, object: *object })
        })
    }

    /// Copies an object into `batch`.
    fn copy(&self, source: &Store, object: &Digest, batch: &Batch<'_>) -> Result<Inode, StoreError> {
        let (stream, info, xattrs) = source
            .repo
            .load_file(&object.to_string(), gio::Cancellable::NONE)
            .map_err(|error| source.error("read an object", error))?;
        let inode = self.inode(source, object, &info, &xattrs, |size, attributes| {
            let stream = stream.ok_or_else(|| self.bad(source, format!("object {object} has no content")))?;
            batch.write_file(attributes, size, &mut stream.into_read()).map_err(|error| match error {
                WriteError::Read(error) => self.bad(source, format!("object {object}: {error}")),
                WriteError::Store(error) => error,
            })
        })?;
        // An object is named by its content and its attributes, so what was written has the name of what was read.
        let written = match &inode.kind {
            Kind::File(content) => content.object,
            Kind::Symlink(target) => batch.write_symlink(&inode, target)?,
            _ => *object,
        };
        match written == *object {
            true => Ok(inode),
            false => Err(self.bad(source, format!("object {object} is damaged"))),
        }
    }

    fn inode(
        &self,
        store: &Store,
        object: &Digest,
        info: &gio::FileInfo,
        xattrs: &glib::Variant,
        content: impl FnOnce(u64, &Attributes) -> Result<Content, StoreError>,
    ) -> Result<Inode, StoreError> {
        let malformed = || self.bad(store, format!("object {object} is malformed"));
        let attributes = Attributes {
            mode: variant::permissions(info.attribute_uint32("unix::mode")),
            uid: info.attribute_uint32("unix::uid"),
            gid: info.attribute_uint32("unix::gid"),
            xattrs: variant::to_xattrs(xattrs).ok_or_else(malformed)?,
        };
        let kind = match info.file_type() {
            gio::FileType::Regular => {
                let size = u64::try_from(info.size()).map_err(|_| malformed())?;
                Kind::File(content(size, &attributes)?)
            }
            gio::FileType::SymbolicLink => {
                let target = info.symlink_target().ok_or_else(malformed)?;
                Kind::Symlink(target.into_os_string().into_encoded_bytes())
            }
            _ => return Err(malformed()),
        };
        Ok(attributes.inode(kind))
    }

    fn loaded(self, tree: Tree) -> Loaded {
        Loaded { tree, commit: self.checksum, version: self.version, time: self.time }
    }

    fn bad(&self, store: &Store, reason: impl Into<String>) -> StoreError {
        store.bad_commit(&self.checksum, reason)
    }
}

fn load(store: &Store, kind: ObjectType, object: &Digest) -> Result<glib::Variant, StoreError> {
    let loaded = store
        .repo
        .load_variant(kind, &object.to_string())
        .map_err(|source| store.error("read a directory", source))?;
    match Digest::of(&loaded.data_as_bytes()) == *object {
        true => Ok(loaded),
        false => Err(store.bad_commit(object, "it is a directory, and damaged")),
    }
}
