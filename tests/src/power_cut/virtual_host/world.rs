//! A publisher with three small releases, and what a host that runs the first has on its disk.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use tempfile::TempDir;
use upright_manifests::digest::Digest;
use upright_manifests::name::Slot;
use upright_manifests::verity::{TreeBuilder, salt};
use upright_updater::boot::Medium;

use super::super::disk::Content;
use super::super::fat::{Fat, FatError};
use super::super::loader;
use super::life::Life;
use super::tape::StateFiles;
use super::vfat::{self, Vfat};
use crate::fixture::{OS, file, kernel, noise, system};
use crate::programs::{build, run};

/// A repository's files by their path.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The sizes of a slot's root and verity partitions in bytes: little more than a release takes.
const PARTS: [u64; 2] = [256 << 10, 16 << 10];

/// The version that never passes its health checks.
pub const BAD: &str = "1.2.0";

/// A release as it was built.
pub struct Known {
    /// Its version.
    pub version: String,
    /// Its root hash.
    pub root_hash: Digest,
    image: Vec<u8>,
    tree: Vec<u8>,
    uki: Vec<u8>,
}

/// A publisher's releases.
pub struct World {
    /// 1.0.0, 1.1.0, and 1.2.0 which is bad.
    pub known: Vec<Known>,
    /// The repository when each of them was published.
    pub repositories: Vec<Arc<Files>>,
    /// What all clocks say.
    pub(super) now: Timestamp,
    folder: TempDir,
}

impl World {
    /// One that all tests of a program share.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<World, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| Self::new().map_err(|error| format!("{error:#}")));
        shared.as_ref().map_err(|error| anyhow::anyhow!("no releases: {error}"))
    }

    /// Builds and publishes.
    pub fn new() -> Result<Self> {
        let folder = TempDir::new()?;
        let workspace = folder.path().join("workspace");
        let path = workspace.to_str().context("a path that is UTF-8")?;
        let made = run("upright-build", ["init", path, "--os", OS])?;
        ensure!(made.status == 0, "{made:?}");
        let (mut known, mut repositories) = (Vec::new(), Vec::new());
        for version in ["1.0.0", "1.1.0", BAD] {
            let tree = folder.path().join(version);
            make_tree(&tree, version)?;
            let tree = tree.to_str().context("a path that is UTF-8")?;
            build(&workspace, &["build", tree, "--version", version, "--time", "2026-01-01T00:00:00Z"])?;
            build(&workspace, &["publish", version])?;
            known.push(Known::read(&workspace.join("builds").join(version), version)?);
            let mut files = Files::new();
            gather(&workspace.join("repository"), "", &mut files)?;
            repositories.push(Arc::new(files));
        }
        Ok(Self { known, repositories, now: Timestamp::now(), folder })
    }

    /// A host that runs 1.0.0 and has a user's file in its state, whose next boot entry lies across two sectors.
    pub fn host(&self, without: &[&str]) -> Result<Life<'_>> {
        let parts = parts();
        let mut disk = vfat::format(8);
        disk.resize(parts[3].end as usize, 0xee);
        let first = &self.known[0];
        for (part, bytes) in parts.iter().zip([&first.image, &first.tree]) {
            ensure!(bytes.len() as u64 <= part.end - part.start, "a release is larger than a partition");
            disk[part.start as usize..part.start as usize + bytes.len()].copy_from_slice(bytes);
        }
        let files = [("etc/a/upper/kept", &b"in etc"[..]), ("kept", b"in var")];
        let files = files.map(|(path, bytes)| (PathBuf::from(path), bytes.to_vec())).into();
        let life = self.life(disk, &files, without)?;
        let fat = Vfat::mount(&life.tape)?;
        let name = format!("{OS}_1.0.0.efi");
        fat.create(&name)?;
        fat.write_at(&name, &first.uki, 0)?;
        fat.sync_file(&name)?;
        fat.sync()?;
        // What was done so far is no part of its life.
        self.life(life.tape.disk(), &files, without)
    }

    /// A host with this disk and these files in its state folder.
    pub fn life(&self, disk: Vec<u8>, files: &StateFiles, without: &[&str]) -> Result<Life<'_>> {
        Life::new(self, &self.folder.path().join("workspace/root.json"), disk, files, without)
    }

    /// The release that a disk would start next, and its slot; or why that is no complete, verified system.
    pub fn next_boot(&self, disk: &dyn Content) -> Result<(usize, Slot), String> {
        let told = |error: FatError| error.to_string();
        let fat = Fat::open(disk).map_err(told)?;
        let chosen = loader::next_boot(&fat).map_err(told)?.ok_or("nothing is there to be started")?;
        let name = &chosen.file.name;
        let content = fat.read(&chosen.file, usize::MAX).map_err(|error| format!("{name}: {error}"))?;
        let index = self.known.iter().position(|known| known.uki == content);
        let index = index.ok_or_else(|| format!("{name} is started and is not complete"))?;
        let known = &self.known[index];
        let holds = |slot: &Slot| {
            let first = if *slot == Slot::A { 0 } else { 2 };
            [&known.image, &known.tree].iter().zip(&parts()[first..]).all(|(expected, part)| {
                let mut found = vec![0; expected.len()];
                disk.read_at(&mut found, part.start).is_ok() && found == **expected
            })
        };
        let slot = Slot::ALL.into_iter().find(holds);
        Ok((index, slot.ok_or_else(|| format!("no slot holds {}, which {name} starts", known.version))?))
    }
}

/// Where the partitions of both slots are.
pub(super) fn parts() -> [Range<u64>; 4] {
    let slot = PARTS[0] + PARTS[1];
    [0, 1, 2, 3].map(|index| {
        let start = vfat::SIZE.next_multiple_of(4096) + index / 2 * slot + index % 2 * PARTS[0];
        start..start + PARTS[index as usize % 2]
    })
}

impl Known {
    fn read(folder: &Path, version: &str) -> Result<Self> {
        use upright_image_builder::repo::build::{IMAGE, UKI};
        let read =
            |name: &str| fs::read(folder.join(name)).with_context(|| format!("reading {name} of {version}"));
        let (image, uki) = (read(IMAGE)?, read(UKI)?);
        let mut tree: Vec<u8> = Vec::new();
        let sink = |offset: u64, block: &[u8; 4096]| {
            let end = offset as usize + block.len();
            tree.resize(tree.len().max(end), 0);
            tree[offset as usize..end].copy_from_slice(block);
            Ok::<_, std::convert::Infallible>(())
        };
        let mut builder = TreeBuilder::new(salt(&OS.parse()?), image.len() as u64 / 4096, sink)?;
        let made = builder.update(&image).and_then(|()| builder.finish());
        let (params, _) = made.map_err(|error| anyhow::anyhow!("the tree of {version}: {error}"))?;
        let superblock = params.superblock()?.to_bytes();
        tree[..superblock.len()].copy_from_slice(&superblock);
        let (version, root_hash) = (version.to_owned(), params.root_hash);
        Ok(Self { version, root_hash, image, tree, uki })
    }
}

fn gather(folder: &Path, path: &str, files: &mut Files) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().context("a name that is UTF-8")?;
        let path = if path.is_empty() { name } else { format!("{path}/{name}") };
        match entry.file_type()?.is_dir() {
            true => gather(&entry.path(), &path, files)?,
            false => drop(files.insert(path, fs::read(entry.path())?)),
        }
    }
    Ok(())
}

/// Writes the root file system of a version: as little as makes an OS.
fn make_tree(tree: &Path, version: &str) -> Result<()> {
    let number = version.bytes().map(u64::from).sum::<u64>();
    system(tree, &kernel(1, 9_000), &noise(2, 15_000))?;
    file(tree, "usr/share/acme/new", &noise(number, 30_000))?;
    (10..30).try_for_each(|seed| file(tree, &format!("usr/share/acme/{seed}"), &noise(seed, 3_000)))
}
