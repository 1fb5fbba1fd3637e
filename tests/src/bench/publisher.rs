//! Our side of the comparison: workspaces with trees built and published, each step measured once.
//!
//! A is 1.0.0; B is its successor 1.1.0, C its hotfix 1.0.1 and D the next Debian 2.0.0, all laid out after A. Each pair has a
//! channel of its own, whose only former release is A. The hotfix for images of other sizes has workspaces of its own.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use upright_image_builder::repo::build::Build;
use upright_image_builder::repo::published::Published;
use upright_image_builder::repo::workspace::Workspace;
use upright_manifests::digest::Digest;
use upright_manifests::release::Release;

use super::kept::{Kept, sha256};
use super::measure::{Cost, Shell};
use super::pair::{Pair, Tree};
use super::trees::Trees;

/// The OS's name.
pub(super) const OS: &str = "debian";

/// The channel that points at the first release.
pub(super) const FIRST: &str = "first";

/// There while a step is under way: what it did by halves costs less the next time.
const UNDER_WAY: &str = "bench-step";

/// What is published together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Catalogue {
    /// The workspace's folder in the shell's.
    workspace: &'static str,
    /// All of the same old release.
    pairs: &'static [Pair],
    /// The full payload's zstd level.
    level: u8,
}

impl Catalogue {
    /// What most is measured on.
    pub(super) const MAIN: Self = Self {
        workspace: "workspace",
        pairs: &[Pair::COMPARED[0], Pair::COMPARED[1], Pair::MAJOR],
        level: 19,
    };

    /// The hotfix for a small image. Its full payload is not measured, and costs less than at level 19.
    pub(super) const SMALL: Self = Self { workspace: "small", pairs: &[Pair::SMALL], level: 3 };

    /// The hotfix for a large image.
    pub(super) const LARGE: Self = Self { workspace: "large", pairs: &[Pair::LARGE], level: 3 };

    /// The release that all of the others are laid out after.
    fn first(self) -> Tree {
        self.pairs.first().map_or(Tree::A, |pair| pair.old)
    }

    fn trees(self) -> impl Iterator<Item = Tree> {
        [self.first()].into_iter().chain(self.pairs.iter().map(|pair| pair.new))
    }
}

/// A workspace whose steps are measured.
pub(super) struct Publisher<'a> {
    shell: &'a Shell,
    trees: &'a Trees,
    catalogue: Catalogue,
    steps: Kept,
    key: String,
}

impl<'a> Publisher<'a> {
    /// The workspace of this `upright-build` and these trees: the one that is there, or a new one.
    pub(super) fn open(shell: &'a Shell, trees: &'a Trees, catalogue: Catalogue) -> Result<Self> {
        let program = shell.run("command -v upright-build")?;
        let steps = Kept::new(&shell.at(catalogue.workspace).join("steps"));
        let mut publisher = Self { shell, trees, catalogue, steps, key: String::new() };
        // Steps build on each other, so one that is done differently makes all of them void.
        let mut key = vec![sha256(program.trim().as_ref(), None)?.to_string()];
        for tree in catalogue.trees() {
            key.push(trees.hash(tree)?.to_string());
        }
        key.extend(publisher.lines());
        publisher.key = key.join("; ");
        let path = publisher.path("bench-key");
        let stands = fs::read_to_string(&path).is_ok_and(|key| key == publisher.key);
        if !stands || publisher.path(UNDER_WAY).exists() {
            publisher.begin()?;
            fs::write(&path, &publisher.key).with_context(|| format!("writing {}", path.display()))?;
        } else {
            // A workspace of last month has expired.
            shell.run(&format!("upright-build -q -C {} refresh", catalogue.workspace))?;
        }
        Ok(publisher)
    }

    /// What decides what is in the workspace.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// The workspace's folder.
    pub(super) fn workspace(&self) -> PathBuf {
        self.shell.at(self.catalogue.workspace)
    }

    /// What is served.
    pub(super) fn repository(&self) -> PathBuf {
        self.path("repository")
    }

    /// The folder of a build.
    pub(super) fn folder(&self, tree: Tree) -> PathBuf {
        self.path("builds").join(tree.version())
    }

    /// The record of a build.
    pub(super) fn record(&self, tree: Tree) -> Result<Build> {
        let folder = self.folder(tree);
        Build::read(&folder)?.with_context(|| format!("{} holds no build", folder.display()))
    }

    /// The command line that builds a tree.
    pub(super) fn build_line(&self, tree: Tree) -> String {
        let (first, workspace) = (self.catalogue.first(), self.catalogue.workspace);
        let base = if tree == first { "--fresh".to_owned() } else { format!("--base {}", first.version()) };
        format!("upright-build -q -C {workspace} build {tree}.tar --version {} {base}", tree.version())
    }

    /// The command line that publishes a tree in a channel.
    pub(super) fn publish_line(&self, tree: Tree, channel: &str) -> String {
        format!(
            "upright-build -q -C {} publish {} --channel {channel}",
            self.catalogue.workspace,
            tree.version()
        )
    }

    /// Builds a tree.
    pub(super) fn build(&self, tree: Tree) -> Result<Cost> {
        if tree != self.catalogue.first() {
            self.build(self.catalogue.first())?;
        }
        self.trees.link(tree, self.shell)?;
        self.step(&format!("build-{tree}"), None, &self.build_line(tree))
    }

    /// Publishes the first release: full payload and chunk index.
    pub(super) fn publish_first(&self) -> Result<Cost> {
        let first = self.catalogue.first();
        self.build(first)?;
        let cost = self.step("publish-first", None, &self.publish_line(first, FIRST))?;
        for channel in self.catalogue.pairs.iter().map(|pair| pair.channel()) {
            self.step(&format!("publish-first-{channel}"), None, &self.publish_line(first, channel))?;
        }
        Ok(cost)
    }

    /// Publishes the second of a pair, and tells what the delta from the first cost. A publish that is cut off once the full
    /// payload is encoded does not count: the next one goes on from there.
    pub(super) fn publish(&self, pair: Pair) -> Result<Cost> {
        self.publish_first()?;
        self.build(pair.new)?;
        let line = self.publish_line(pair.new, pair.channel());
        self.step(&format!("publish-{pair}"), Some(&self.cut_off(pair.new, &line)), &line)
    }

    /// The manifest of a tree that is published.
    pub(super) fn release(&self, tree: Tree) -> Result<Release> {
        let published = Published::read(&Workspace::open(&self.workspace())?)?;
        let release = published.release(None, &tree.version().parse()?);
        Ok(release.with_context(|| format!("{} is not published", tree.version()))?.release.clone())
    }

    /// The digest of the image of a tree.
    pub(super) fn image(&self, tree: Tree) -> Result<Digest> {
        Ok(self.record(tree)?.root.sha256)
    }

    fn begin(&self) -> Result<()> {
        let folder = self.workspace();
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
        }
        self.shell.run(&format!("upright-build -q init {} --os {OS}", self.catalogue.workspace))?;
        let path = self.path("upright.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let pairs = self.catalogue.pairs.iter().map(|pair| pair.channel());
        let channels: Vec<&str> = [FIRST].into_iter().chain(pairs).collect();
        let mut changed = text;
        for (from, to) in [
            ("channels = [\"stable\"]", format!("channels = {channels:?}")),
            ("payload = 19", format!("payload = {}", self.catalogue.level)),
            // The largest image has more than 4 GiB.
            ("slot = \"4GiB\"", "slot = \"6GiB\"".to_owned()),
            ("verity = \"40MiB\"", "verity = \"64MiB\"".to_owned()),
        ] {
            ensure!(changed.contains(from), "{} has no {from:?}", path.display());
            changed = changed.replace(from, &to);
        }
        fs::write(&path, changed).with_context(|| format!("writing {}", path.display()))
    }

    fn step(&self, name: &str, before: Option<&str>, line: &str) -> Result<Cost> {
        let mark = self.path(UNDER_WAY);
        self.steps.or(name, std::slice::from_ref(&self.key), || {
            fs::write(&mark, line).with_context(|| format!("writing {}", mark.display()))?;
            if let Some(before) = before {
                super::say(before);
                self.shell.run(before)?;
            }
            super::say(line);
            let cost = self.shell.measure(line)?;
            fs::remove_file(&mark).with_context(|| format!("removing {}", mark.display()))?;
            Ok(cost)
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.workspace().join(name)
    }

    /// Every command line that the workspace comes from.
    fn lines(&self) -> Vec<String> {
        let builds = self.catalogue.trees().map(|tree| self.build_line(tree));
        let publish = |pair: &Pair| self.cut_off(pair.new, &self.publish_line(pair.new, pair.channel()));
        builds.chain(self.catalogue.pairs.iter().map(publish)).collect()
    }

    /// Runs a publish until everything but the deltas is encoded.
    fn cut_off(&self, tree: Tree, publish: &str) -> String {
        let record = format!("{}/builds/{}/encoded.json", self.catalogue.workspace, tree.version());
        format!(
            "{publish} & until grep -qs '\"compose\": {{' {record} || ! kill -0 $! 2>/dev/null; do sleep 0.1; done; \
             kill -KILL $! && ! wait $!"
        )
    }
}
