//! What the peers work on: the trees as EROFS images of `mkfs.erofs`, and as commits in an OSTree repository.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::kept::Kept;
use super::measure::{Cost, Shell};
use super::pair::Tree;
use super::trees::Trees;

/// The peers' images and commits, made when they are first needed.
pub(super) struct Images<'a> {
    shell: &'a Shell,
    trees: &'a Trees,
    kept: &'a Kept,
}

/// A command line and what it cost.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Step {
    /// What was run.
    pub(super) line: String,
    /// What it took.
    pub(super) cost: Cost,
}

impl<'a> Images<'a> {
    /// Those in the shell's folder.
    pub(super) fn new(shell: &'a Shell, trees: &'a Trees, kept: &'a Kept) -> Self {
        Self { shell, trees, kept }
    }

    /// Makes image and commit of a tree, if they are not there yet, and tells what each step cost.
    pub(super) fn make(&self, tree: Tree) -> Result<Vec<Step>> {
        let name = format!("image-{tree}");
        let lines = lines(tree);
        let is_there = self.shell.at(&format!("{tree}.img")).exists() && self.commit(tree).is_ok();
        let mut inputs = vec![self.trees.hash(tree)?.to_string()];
        inputs.extend(lines.iter().cloned());
        if !is_there {
            self.kept.forget(&name)?;
        }
        self.kept.or(&name, &inputs, || {
            self.trees.link(tree, self.shell)?;
            self.shell.run(&format!(
                "rm -rf {tree} && mkdir {tree}; [ -d ostree ] || ostree --repo=ostree init --mode=bare-user"
            ))?;
            let steps = lines.iter().map(|line| {
                super::say(line);
                Ok(Step { line: line.clone(), cost: self.shell.measure(line)? })
            });
            let steps = steps.collect::<Result<_>>()?;
            self.shell.run(&format!("rm -rf {tree}"))?;
            Ok(steps)
        })
    }

    /// The commit of a tree in the OSTree repository.
    pub(super) fn commit(&self, tree: Tree) -> Result<String> {
        Ok(self.shell.run(&format!("ostree --repo=ostree rev-parse {tree}"))?.trim().to_owned())
    }
}

fn lines(tree: Tree) -> Vec<String> {
    [
        "tar --extract --file={t}.tar --directory={t} --numeric-owner --same-permissions --xattrs --xattrs-include='*'",
        "mkfs.erofs --quiet -T1700000000 -U00000000-0000-4000-8000-000000000000 {t}.img {t}",
        "veritysetup format --salt=00 --uuid=00000000-0000-4000-8000-000000000001 {t}.img {t}.verity",
        "ostree --repo=ostree commit --branch={t} --tree=dir={t} --subject={t} --timestamp=@1700000000",
    ]
    .map(|line| line.replace("{t}", &tree.to_string()))
    .into()
}
