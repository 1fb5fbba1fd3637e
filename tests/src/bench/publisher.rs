//! Our side of the comparison: a workspace with the three trees built and published, each step measured once.
//!
//! A is 1.0.0; B is its successor 1.1.0 and C its hotfix 1.0.1, both laid out after A. Each pair has a channel of its own,
//! whose only former release is A.

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

/// The channel that points at A.
pub(super) const FIRST: &str = "first";

/// The folder of the workspace in the shell's.
const WORKSPACE: &str = "workspace";

/// There while a step is under way: what it did by halves costs less the next time.
const UNDER_WAY: &str = "bench-step";

/// A workspace whose steps are measured.
pub(super) struct Publisher<'a> {
    shell: &'a Shell,
    trees: &'a Trees,
    steps: Kept,
    key: String,
}

impl<'a> Publisher<'a> {
    /// The workspace of this `upright-build` and these trees: the one that is there, or a new one.
    pub(super) fn open(shell: &'a Shell, trees: &'a Trees) -> Result<Self> {
        let program = shell.run("command -v upright-build")?;
        // Steps build on each other, so one that is done differently makes all of them void.
        let key =
            format!("{} {} {}", sha256(program.trim().as_ref(), None)?, trees.key(), lines().join("; "));
        let publisher = Self { shell, trees, steps: Kept::new(&shell.at("workspace/steps")), key };
        let path = publisher.path("bench-key");
        let stands = fs::read_to_string(&path).is_ok_and(|key| key == publisher.key);
        if !stands || publisher.path(UNDER_WAY).exists() {
            publisher.begin()?;
            fs::write(&path, &publisher.key).with_context(|| format!("writing {}", path.display()))?;
        } else {
            // A workspace of last month has expired.
            shell.run(&format!("upright-build -q -C {WORKSPACE} refresh"))?;
        }
        Ok(publisher)
    }

    /// What decides what is in the workspace.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// The workspace's folder.
    pub(super) fn workspace(&self) -> PathBuf {
        self.shell.at(WORKSPACE)
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
    pub(super) fn build_line(tree: Tree) -> String {
        let base =
            if tree == Tree::A { "--fresh".to_owned() } else { format!("--base {}", Tree::A.version()) };
        format!("upright-build -q -C {WORKSPACE} build {tree}.tar --version {} {base}", tree.version())
    }

    /// The command line that publishes a tree in a channel.
    pub(super) fn publish_line(tree: Tree, channel: &str) -> String {
        format!("upright-build -q -C {WORKSPACE} publish {} --channel {channel}", tree.version())
    }

    /// Builds a tree.
    pub(super) fn build(&self, tree: Tree) -> Result<Cost> {
        if tree != Tree::A {
            self.build(Tree::A)?;
        }
        self.trees.link(tree, self.shell)?;
        self.step(&format!("build-{tree}"), None, &Self::build_line(tree))
    }

    /// Publishes A: full payload and chunk index.
    pub(super) fn publish_first(&self) -> Result<Cost> {
        self.build(Tree::A)?;
        let cost = self.step("publish-A", None, &Self::publish_line(Tree::A, FIRST))?;
        for pair in Pair::ALL {
            let channel = pair.channel();
            self.step(&format!("publish-A-{channel}"), None, &Self::publish_line(Tree::A, channel))?;
        }
        Ok(cost)
    }

    /// Publishes the second of a pair, and tells what the delta from the first cost. A publish that is cut off once the full
    /// payload is encoded does not count: the next one goes on from there.
    pub(super) fn publish(&self, pair: Pair) -> Result<Cost> {
        self.publish_first()?;
        self.build(pair.new)?;
        let line = Self::publish_line(pair.new, pair.channel());
        self.step(&format!("publish-{pair}"), Some(&cut_off(pair.new, &line)), &line)
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
        self.shell.run(&format!("upright-build -q init {WORKSPACE} --os {OS}"))?;
        let path = self.path("upright.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let channels: Vec<&str> = [FIRST].into_iter().chain(Pair::ALL.map(Pair::channel)).collect();
        let changed = text.replace("channels = [\"stable\"]", &format!("channels = {channels:?}"));
        ensure!(changed != text, "{} lists other channels than expected", path.display());
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
}

/// Every command line that a workspace comes from.
fn lines() -> Vec<String> {
    let builds = Tree::ALL.into_iter().map(Publisher::build_line);
    let publishes = Pair::ALL
        .into_iter()
        .map(|pair| cut_off(pair.new, &Publisher::publish_line(pair.new, pair.channel())));
    builds.chain(publishes).collect()
}

/// Runs a publish until everything but the deltas is encoded.
fn cut_off(tree: Tree, publish: &str) -> String {
    let record = format!("{WORKSPACE}/builds/{}/encoded.json", tree.version());
    format!(
        "{publish} & until grep -qs '\"compose\": {{' {record} || ! kill -0 $! 2>/dev/null; do sleep 0.1; done; \
         kill -KILL $! && ! wait $!"
    )
}
