//! The root file systems that everything is measured on, as tars.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use upright_manifests::digest::Digest;

use super::kept::sha256;
use super::measure::Shell;
use super::pair::Tree;

/// Trees that one run of the script makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    /// What is measured beside the peers.
    Pairs,
    /// The same hotfix on two more images.
    Sizes,
    /// The next Debian.
    Major,
}

impl Set {
    /// What the script calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Pairs => "pairs",
            Self::Sizes => "sizes",
            Self::Major => "major",
        }
    }

    fn trees(self) -> &'static [Tree] {
        match self {
            Self::Pairs => &[Tree::A, Tree::B, Tree::C],
            Self::Sizes => &[Tree::SmallA, Tree::SmallC, Tree::LargeA, Tree::LargeC],
            Self::Major => &[Tree::D],
        }
    }
}

/// `A.tar`, `B.tar` and so on in a folder, with their hashes.
pub(super) struct Trees {
    folder: PathBuf,
    hashes: BTreeMap<Tree, Digest>,
}

impl Trees {
    /// Those in `given`, or those in `folder`, which `script` makes if they are not there.
    pub(super) fn find(given: Option<&Path>, folder: &Path, script: &Path, sets: &[Set]) -> Result<Self> {
        let folder = match given {
            Some(folder) => std::path::absolute(folder)?,
            None => folder.to_owned(),
        };
        for set in sets {
            let missing = set.trees().iter().find(|tree| !tar(&folder, **tree).exists());
            if let Some(tree) = missing {
                ensure!(given.is_none(), "{} is not there", tar(&folder, *tree).display());
                super::say(&format!("making trees with mmdebstrap: {}", set.name()));
                let made = Command::new(script).arg(&folder).arg(set.name()).status();
                let made = made.with_context(|| format!("cannot run {}", script.display()))?;
                ensure!(made.success(), "{} ended with {made}", script.display());
            }
        }
        let trees = sets.iter().flat_map(|set| set.trees());
        let hash = |tree: &Tree| Ok((*tree, sha256(&tar(&folder, *tree), None)?));
        let hashes = trees.map(hash).collect::<Result<_>>()?;
        Ok(Self { folder, hashes })
    }

    /// The SHA-256 of a tree's tar.
    pub(super) fn hash(&self, tree: Tree) -> Result<Digest> {
        self.hashes.get(&tree).copied().with_context(|| format!("tree {tree} was not looked for"))
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
