//! The publisher's workspace: its folders and its lock (`docs/architecture.md`).

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use upright_manifests::version::Version;

use super::config::Config;
use super::error::{Error, Result};

/// The file that makes a folder a workspace.
pub const CONFIG_FILE: &str = "upright.toml";

/// A workspace and what its `upright.toml` says.
#[derive(Debug)]
pub struct Workspace {
    root: PathBuf,
    /// What `upright.toml` says.
    pub config: Config,
}

/// Keeps other commands from changing the workspace until it is dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the lock lasts as long as the open file")] File);

impl Workspace {
    /// Opens the workspace at `root`.
    pub fn open(root: &Path) -> Result<Self> {
        let path = root.join(CONFIG_FILE);
        if !path.exists() {
            let root = root.display();
            return Err(Error::refused(format!(
                "{root} is not a workspace: it has no {CONFIG_FILE}; make one with `upright-build init {root} --os \
                 NAME`, or name the right folder with --workspace"
            )));
        }
        let config = Config::load(&path)?;
        Ok(Self { root: root.to_owned(), config })
    }

    /// Waits for no one: fails at once when another command holds the workspace.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.root.join(CONFIG_FILE);
        let file = File::open(&path).map_err(Error::file("open", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Busy(self.root.clone())),
            Err(error) => Err(Error::file("lock", &path)(error.into())),
        }
    }

    /// The workspace's own folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The tree store, an OSTree repository.
    pub fn trees(&self) -> PathBuf {
        self.root.join("ostree")
    }

    /// What `build` made, a folder a version.
    pub fn builds(&self) -> PathBuf {
        self.root.join("builds")
    }

    /// What `build` made of one version.
    pub fn build(&self, version: &Version) -> PathBuf {
        self.builds().join(version.as_str())
    }

    /// The newest TUF root this workspace has signed: what verification starts from, and what images ship.
    pub fn trusted_root(&self) -> PathBuf {
        self.root.join("root.json")
    }

    /// What is served.
    pub fn repository(&self) -> PathBuf {
        self.root.join("repository")
    }

    /// A file that `upright.toml` names: relative paths start at the workspace.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }
}
