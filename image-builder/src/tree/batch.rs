//! Stores the files of one tree and then its commit, in one OSTree transaction.
//!
//! Objects wait in a staging folder until the commit; the file system is synced once. A process that dies
//! before leaves the repository as it was, and the next one cleans up.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::path::PathBuf;

use ostree::prelude::*;
use ostree::{MutableTree, TransactionGuard, gio, glib};
use upright_manifests::digest::{Digest, Digester};

use super::beside::Beside;
use super::check::MAX_XATTR_VALUE;
use super::path::split;
use super::store::{Store, StoreError};
use super::{Attributes, Content, Inode, Kind, Tree, TreePath, variant};

/// How much of a file is in memory at a time.
const BUFFER: usize = 256 * 1024;

/// How many bytes of extended attributes any file system holds.
const FEW_XATTRS: usize = 1024;

/// The file type bits of a regular file (inode(7)).
const S_IFREG: u32 = 0o100000;

/// What a commit says about its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// The ref that will name it, `<os>/<arch>/<version>`.
    pub reference: String,
    /// The release's version.
    pub version: String,
    /// The release's time, in seconds since 1970.
    pub time: u64,
    /// The commit before it, for `ostree log`.
    pub parent: Option<Digest>,
}

/// Why a file was not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// Its content could not be read.
    #[error(transparent)]
    Read(io::Error),
    /// It could not be written.
    #[error(transparent)]
    Store(StoreError),
}

/// A tree on its way into the store.
pub struct Batch<'a> {
    store: &'a Store,
    transaction: TransactionGuard<'a>,
    buffer: RefCell<Vec<u8>>,
    /// Bytes of content so far, and who hears of them.
    stored: Cell<u64>,
    watch: Option<&'a dyn Fn(u64)>,
}

impl<'a> Batch<'a> {
    pub(super) fn begin(store: &'a Store) -> Result<Self, StoreError> {
        let transaction = store
            .repo
            .auto_transaction(gio::Cancellable::NONE)
            .map_err(|source| store.error("begin a transaction", source))?;
        let buffer = RefCell::new(vec![0; BUFFER]);
        Ok(Self { store, transaction, buffer, stored: Cell::new(0), watch: None })
    }

    /// The same, telling `watch` how many bytes of content it has stored.
    pub fn watched(self, watch: &'a dyn Fn(u64)) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// Stores `size` bytes of `content`, which is read once.
    pub(crate) fn write_file(
        &self,
        attributes: &Attributes,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<Content, WriteError> {
        let too_long = attributes.xattrs.iter().find(|(_, value)| value.len() > MAX_XATTR_VALUE);
        if let Some((name, value)) = too_long {
            let name = String::from_utf8_lossy(name).into_owned();
            return Err(WriteError::Store(StoreError::Xattr { name, bytes: value.len() }));
        }
        let store_error = |source| WriteError::Store(self.file_error(attributes, source));
        let writer = self
            .store
            .repo
            .write_regfile(
                None,
                attributes.uid,
                attributes.gid,
                S_IFREG | u32::from(attributes.mode),
                size,
                Some(&variant::xattrs(&attributes.xattrs)),
            )
            .map_err(store_error)?;
        let mut buffer = self.buffer.borrow_mut();
        let mut digester = Digester::new();
        let mut left = size;
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            content.read_exact(&mut buffer[..most]).map_err(|error| WriteError::Read(early(error)))?;
            digester.update(&buffer[..most]);
            match writer.write_all(&buffer[..most], gio::Cancellable::NONE) {
                Ok((_, None)) => {}
                Ok((_, Some(source))) | Err(source) => return Err(store_error(source)),
            }
            left -= most as u64;
            self.stored.set(self.stored.get() + most as u64);
            if let Some(watch) = self.watch {
                watch(self.stored.get());
            }
        }
        let object = writer.finish(gio::Cancellable::NONE).map_err(store_error)?;
        let object = checksum(self.store, &object).map_err(WriteError::Store)?;
        Ok(Content { size, sha256: digester.finish(), object })
    }

    /// Why a file with `attributes` was not stored. They are kept in one attribute of the object, and what a file
    /// system does not hold it reports as a full disk.
    fn file_error(&self, attributes: &Attributes, source: glib::Error) -> StoreError {
        let bytes = attributes.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        let store = self.store.path.clone();
        match bytes {
            0..FEW_XATTRS => StoreError::Ostree { action: "store a file", store, source },
            _ => StoreError::Xattrs { bytes, store, source },
        }
    }

    /// A folder on the store's file system for files that have no name.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.store.path.join("tmp")
    }

    /// Commits `tree`, whose files have been stored here or before, and points `info.reference` at it. Equal
    /// tree, version, time and parent give an equal commit.
    pub fn commit(self, tree: &Tree, info: &CommitInfo) -> Result<Digest, StoreError> {
        tree.check()?;
        let (beside, places) = Beside::of(tree);
        let root = self.write_tree(tree, &places)?;
        let metadata = glib::VariantDict::new(None);
        metadata.insert_value("version", &info.version.to_variant());
        beside.to_metadata(&metadata);
        let parent = info.parent.map(|parent| parent.to_string());
        let commit = self
            .store
            .repo
            .write_commit_with_time(
                parent.as_deref(),
                Some(&info.reference),
                None,
                Some(&metadata.end()),
                &root,
                info.time,
                gio::Cancellable::NONE,
            )
            .map_err(|source| self.store.error("write a commit", source))?;
        self.store.repo.transaction_set_ref(None, &info.reference, Some(&commit));
        let Self { store, transaction, .. } = self;
        transaction
            .commit(gio::Cancellable::NONE)
            .map_err(|source| store.error("finish a transaction", source))?;
        checksum(store, &commit)
    }

    fn write_tree(
        &self,
        tree: &Tree,
        places: &BTreeMap<&TreePath, String>,
    ) -> Result<ostree::RepoFile, StoreError> {
        let error = |source| self.store.error("write a directory", source);
        let mut directories: HashMap<&[u8], MutableTree> = HashMap::new();
        let root = MutableTree::new();
        for (path, place) in places {
            let Some(inode) = tree.inode(path) else { continue };
            let (directory, _) = split(path);
            let parent = directories.get(directory).unwrap_or(&root);
            let (_, name) = split(place.as_bytes());
            let name = &place[place.len() - name.len()..];
            match &inode.kind {
                Kind::Directory => {
                    let made = if path.is_empty() {
                        root.clone()
                    } else {
                        parent.ensure_dir(name).map_err(error)?
                    };
                    made.set_metadata_checksum(&self.write_directory(inode)?);
                    directories.insert(path, made);
                }
                Kind::File(content) => {
                    parent.replace_file(name, &content.object.to_string()).map_err(error)?
                }
                Kind::Symlink(target) => {
                    parent
                        .replace_file(name, &self.write_symlink(inode, target)?.to_string())
                        .map_err(error)?;
                }
                _ => {}
            }
        }
        let root = self.store.repo.write_mtree(&root, gio::Cancellable::NONE).map_err(error)?;
        root.downcast()
            .map_err(|_| error(glib::Error::new(gio::IOErrorEnum::Failed, "the root is not in a repository")))
    }

    fn write_directory(&self, inode: &Inode) -> Result<glib::GString, StoreError> {
        let Inode { mode, uid, gid, ref xattrs, .. } = *inode;
        let object = variant::directory(&Attributes { mode, uid, gid, xattrs: xattrs.clone() });
        let checksum = self
            .store
            .repo
            .write_metadata(ostree::ObjectType::DirMeta, None, &object, gio::Cancellable::NONE)
            .map_err(|source| self.store.error("write a directory", source))?;
        Ok(checksum.to_hex().into())
    }

    /// Stores a symbolic link; its checksum.
    pub(super) fn write_symlink(&self, inode: &Inode, target: &[u8]) -> Result<Digest, StoreError> {
        let xattrs = variant::xattrs(&inode.xattrs);
        let target = String::from_utf8_lossy(target);
        let object = self
            .store
            .repo
            .write_symlink(None, inode.uid, inode.gid, Some(&xattrs), &target, gio::Cancellable::NONE)
            .map_err(|source| self.store.error("store a symbolic link", source))?;
        checksum(self.store, &object)
    }
}

/// An end before its time, said in words that fit any input; an error that says more stays.
fn early(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof && error.get_ref().is_none() {
        return io::Error::new(error.kind(), "it ends before its stated length");
    }
    error
}

fn checksum(store: &Store, text: &str) -> Result<Digest, StoreError> {
    text.parse().map_err(|_| StoreError::Commit {
        store: store.path.clone(),
        commit: text.to_owned(),
        reason: "its checksum is not one".into(),
    })
}
