//! The tree store: a local OSTree repository in bare-user mode, which needs no root.
//!
//! Each release is a commit with a ref `<os>/<arch>/<version>`; equal files are kept once over all of them, and
//! `ostree ls`, `log`, `diff` and `fsck` work on it. What OSTree cannot hold is kept in the commit's metadata
//! (`beside.rs`).

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ostree::gio;
use ostree::glib;
use upright_manifests::digest::Digest;

use super::batch::Batch;
use super::objects::Objects;
use super::{Content, Contents, TreeError, variant};

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// OSTree refused.
    #[error("cannot {action} in the tree store {}", store.display())]
    Ostree {
        /// What was tried.
        action: &'static str,
        /// The repository.
        store: PathBuf,
        /// Why not.
        source: glib::Error,
    },
    /// OSTree refused a file, perhaps for its many extended attributes.
    #[error(
        "cannot store a file with {bytes} bytes of extended attributes in the tree store {}: \
         put the store on a file system that holds them, such as xfs or btrfs",
        store.display()
    )]
    Xattrs {
        /// How long names and values are.
        bytes: usize,
        /// The repository.
        store: PathBuf,
        /// Why not.
        source: glib::Error,
    },
    /// No Linux holds such an extended attribute.
    #[error("its extended attribute {name} has {bytes} bytes, and Linux holds 65536 at most; leave it out")]
    Xattr {
        /// The attribute's name.
        name: String,
        /// The length of its value.
        bytes: usize,
    },
    /// The file system refused.
    #[error("cannot {action} in the tree store {}", store.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The repository.
        store: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The repository holds its files in a way that this program does not read.
    #[error("tree store {} is a repository in {mode} mode: it must be bare-user", store.display())]
    Mode {
        /// The repository.
        store: PathBuf,
        /// Its mode.
        mode: String,
    },
    /// There is no such release.
    #[error("the tree store {} has no {reference}: ostree refs lists what it has", store.display())]
    NoRef {
        /// The repository.
        store: PathBuf,
        /// What was looked for.
        reference: String,
    },
    /// A commit that is not whole, or that another program made.
    #[error("commit {commit} in the tree store {} cannot be read: {reason}", store.display())]
    Commit {
        /// The repository.
        store: PathBuf,
        /// The commit.
        commit: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What was to be stored is not a tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// A tree store.
pub struct Store {
    pub(super) repo: ostree::Repo,
    pub(super) path: PathBuf,
    objects: Objects,
}

impl Store {
    /// Opens the store at `path`, making it first if there is nothing.
    pub fn open_or_create(path: &Path) -> Result<Self, StoreError> {
        if !path.join("objects").is_dir() {
            std::fs::create_dir_all(path).map_err(|source| StoreError::Io {
                action: "make the folder",
                store: path.to_owned(),
                source,
            })?;
            let repo = ostree::Repo::new_for_path(path);
            repo.create(ostree::RepoMode::BareUser, gio::Cancellable::NONE).map_err(|source| {
                StoreError::Ostree { action: "make a repository", store: path.to_owned(), source }
            })?;
        }
        Self::open(path)
    }

    /// Opens the store at `path`.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let store = Self::open_any(path)?;
        match store.repo.mode() {
            ostree::RepoMode::BareUser => Ok(store),
            mode => Err(StoreError::Mode { store: store.path, mode: mode_name(mode) }),
        }
    }

    /// Opens any OSTree repository, to import from it.
    pub(super) fn open_any(path: &Path) -> Result<Self, StoreError> {
        let repo = ostree::Repo::new_for_path(path);
        repo.open(gio::Cancellable::NONE).map_err(|source| StoreError::Ostree {
            action: "open a repository",
            store: path.to_owned(),
            source,
        })?;
        Ok(Self { repo, path: path.to_owned(), objects: Objects::new(path) })
    }

    /// Begins to store a tree. Only one batch can be open at a time; one that is dropped leaves nothing behind.
    pub fn begin(&self) -> Result<Batch<'_>, StoreError> {
        Batch::begin(self)
    }

    /// The refs that begin with `prefix` (all for an empty one) and their commits, sorted by name.
    pub fn refs(&self, prefix: &str) -> Result<Vec<(String, Digest)>, StoreError> {
        let refs = self
            .repo
            .list_refs(None, gio::Cancellable::NONE)
            .map_err(|source| self.error("list the refs", source))?;
        let mut refs: Vec<(String, Digest)> = refs
            .into_iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .filter_map(|(name, commit)| Some((name, commit.parse().ok()?)))
            .collect();
        refs.sort();
        Ok(refs)
    }

    /// The commit that `reference` (a ref or a checksum) names.
    pub fn resolve(&self, reference: &str) -> Result<Digest, StoreError> {
        let unknown = || StoreError::NoRef { store: self.path.clone(), reference: reference.to_owned() };
        let commit = self.repo.resolve_rev(reference, true).map_err(|_| unknown())?.ok_or_else(unknown)?;
        commit.parse().map_err(|_| unknown())
    }

    /// Points `reference` at a commit that is in the store.
    pub fn point(&self, reference: &str, commit: &Digest) -> Result<(), StoreError> {
        self.repo
            .set_ref_immediate(None, reference, Some(&commit.to_string()), gio::Cancellable::NONE)
            .map_err(|source| self.error("set a ref", source))
    }

    /// The commit that `commit` comes after, if any.
    pub fn parent(&self, commit: &Digest) -> Result<Option<Digest>, StoreError> {
        let loaded = self.repo.load_commit(&commit.to_string());
        let (object, _) = loaded.map_err(|source| self.error("read a commit", source))?;
        Ok(variant::child(&object, 1).and_then(|parent| variant::to_digest(&parent)))
    }

    /// The file contents, for use from many threads.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Where the repository is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn error(&self, action: &'static str, source: glib::Error) -> StoreError {
        StoreError::Ostree { action, store: self.path.clone(), source }
    }

    pub(super) fn bad_commit(&self, commit: &Digest, reason: impl Into<String>) -> StoreError {
        StoreError::Commit { store: self.path.clone(), commit: commit.to_string(), reason: reason.into() }
    }
}

impl Contents for Store {
    fn open(&self, content: &Content) -> io::Result<Box<dyn Read>> {
        self.objects.open(content)
    }
}

fn mode_name(mode: ostree::RepoMode) -> String {
    match mode {
        ostree::RepoMode::Bare => "bare".into(),
        ostree::RepoMode::Archive => "archive".into(),
        ostree::RepoMode::BareUserOnly => "bare-user-only".into(),
        other => format!("{other:?}"),
    }
}
