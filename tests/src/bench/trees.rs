//! The root file systems that everything is measured on, as tars.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use upright_manifests::digest::Digest;

use super::kept::sha256;
use super::measure::Shell;
use super::pair::Tree;

/// `A.tar`, `B.tar` and `C.tar` in a folder, with their hashes.
pub(super) struct Trees {
    folder: PathBuf,
    hashes: Vec<Digest>,
}

impl Trees {
    /// Those in `given`, or those in `folder`, which `script` makes if they are not there.
    pub(super) fn find(given: Option<&Path>, folder: &Path, script: &Path) -> Result<Self> {
        let folder = match given {
            Some(folder) => std::path::absolute(folder)?,
            None => folder.to_owned(),
        };
        let missing = Tree::ALL.into_iter().find(|tree| !tar(&folder, *tree).exists());
        if let Some(tree) = missing {
            ensure!(given.is_none(), "{} is not there", tar(&folder, tree).display());
            super::say("making the trees A, B and C with mmdebstrap");
            let made = Command::new(script).arg(&folder).status();
            let made = made.with_context(|| format!("cannot run {}", script.display()))?;
            ensure!(made.success(), "{} ended with {made}", script.display());
        }
        let hashes =
            Tree::ALL.map(|tree| sha256(&tar(&folder, tree), None)).into_iter().collect::<Result<_>>()?;
        Ok(Self { folder, hashes })
    }

    /// What tells these trees from all others.
    pub(super) fn key(&self) -> String {
        self.hashes.iter().map(Digest::to_string).collect::<Vec<_>>().join(" ")
    }

    /// The SHA-256 of a tree's tar.
    pub(super) fn hash(&self, tree: Tree) -> Result<Digest> {
        self.hashes.get(tree as usize).copied().context("a tree without a hash")
    }

    /// Lets the shell's folder have the tree's tar by its plain name.
    pub(super) fn link(&self, tree: Tree, shell: &Shell) -> Result<()> {
        let link = shell.at(&format!("{tree}.tar"));
        let target = tar(&self.folder, tree);
        if fs::read_link(&link).is_ok_and(|found| found == target) {
            return Ok(());
        }
        let _ = fs::remove_file(&link);
        symlink(&target, &link).with_context(|| format!("making {}", link.display()))
    }
}

fn tar(folder: &Path, tree: Tree) -> PathBuf {
    folder.join(format!("{tree}.tar"))
}
