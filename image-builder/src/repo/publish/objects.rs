//! Encodes what a release is fetched as, and puts it into the repository under names that never change.
//!
//! What was encoded is written down beside the build, so that a publish that was cut off does not encode it again.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use upright_manifests::chunks::Leaf;
use upright_manifests::digest::{Digest, Digester};
use upright_manifests::name::RepoPath;
use upright_manifests::payload::Head;
use upright_manifests::release::{Blob, ByChunks, Cost, DeltaEdge, PartedBlob, RootImage};
use upright_manifests::verity::{BlockHasher, Discard, TreeBuilder};

use super::plan::{Edge, Why};
use super::prove::{Images, Target, measure_chunks, prove, prove_payload};
use crate::erofs::Layout;
use crate::payload::{Former, Parted};
use crate::repo::build::{Build, IMAGE, UKI, layout};
use crate::repo::error::{Error, Result, chain};
use crate::repo::files::{Files, STAGING, make_folder, place, replace};
use crate::repo::progress::Progress;
use crate::repo::workspace::Workspace;
use crate::{chunks, delta, payload};
use upright_manifests::bytes::human;

/// The record's file in a build's folder.
const RECORD: &str = "encoded.json";

/// The zstd level for the little that a UKI's delta brings along.
const COMPOSE_LEVEL: i32 = 19;

/// What was encoded of a build so far.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// The image it was encoded from.
    image: Option<Digest>,
    full: Option<PartedBlob>,
    /// The zstd level that it was compressed at.
    #[serde(default)]
    payload_level: Option<i32>,
    chunks: Option<Blob>,
    compose: Option<PartedBlob>,
    /// Deltas, by the root hash of the image they start from.
    #[serde(default)]
    deltas: BTreeMap<Digest, PartedBlob>,
    /// The sizes of deltas that were made and dropped, since they were too large.
    #[serde(default, alias = "too_large")]
    dropped: BTreeMap<Digest, u64>,
    /// What the way by chunks takes, by the root hash of the image that hosts run.
    #[serde(default)]
    by_chunks: BTreeMap<Digest, ByChunks>,
}

/// What a release is fetched as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Objects {
    pub(super) full: PartedBlob,
    pub(super) chunks: Blob,
    pub(super) compose: PartedBlob,
}

/// Encodes one build.
pub(super) struct Encoder<'a> {
    workspace: &'a Workspace,
    files: &'a dyn Files,
    progress: &'a dyn Progress,
    build: &'a Build,
    record: Record,
    /// The hashes of the blocks of images that are what was built, by root hash.
    leaves: BTreeMap<Digest, Rc<[Leaf]>>,
}

impl<'a> Encoder<'a> {
    /// An encoder that knows what was encoded before.
    pub(super) fn new(
        workspace: &'a Workspace,
        files: &'a dyn Files,
        progress: &'a dyn Progress,
        build: &'a Build,
    ) -> Self {
        let path = workspace.build(&build.version).join(RECORD);
        // A record that cannot be read costs time only.
        let record: Record =
            fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let record = match record.image {
            Some(image) if image == build.root.sha256 => record,
            _ => Record { image: Some(build.root.sha256), ..Record::default() },
        };
        Self { workspace, files, progress, build, record, leaves: BTreeMap::new() }
    }

    /// The full payload, its chunk index and the UKI's delta. Blocks that none of the builds `before` has get frames of
    /// their own.
    pub(super) fn objects(&mut self, before: &[&Build]) -> Result<Objects> {
        let (full, chunks) = match (self.record.full.clone(), self.record.chunks.clone()) {
            (Some(full), Some(chunks)) if self.stands_parted(&full) && self.stands(&chunks) => (full, chunks),
            _ => self.payload(before)?,
        };
        let compose = match self.record.compose.clone() {
            Some(compose) if self.stands_parted(&compose) => compose,
            _ => self.compose()?,
        };
        Ok(Objects { full, chunks, compose })
    }

    /// The delta from `source` to this build, where `left` bytes are left for it, or why hosts are better off without.
    pub(super) fn delta(
        &mut self,
        source: &Build,
        edge: &Edge,
        root: &RootImage,
        left: u64,
    ) -> Result<Result<DeltaEdge, Why>> {
        let from_root_hash = edge.from_root_hash;
        let full = root.full.size;
        let against = |delta: u64| match delta {
            _ if delta >= full => Some(Why::NotSmaller { delta, full }),
            _ if delta > left => Some(Why::OverBudget { delta, left }),
            _ => None,
        };
        if let Some(why) = self.record.dropped.get(&from_root_hash).copied().and_then(against) {
            return Ok(Err(why));
        }
        let made = match self.record.deltas.get(&from_root_hash) {
            Some(blob) if self.stands_parted(blob) => match against(blob.size) {
                Some(why) => Err(why),
                None => Ok(blob.clone()),
            },
            _ => self.encode_delta(source, edge, &against)?,
        };
        let delta = match made {
            Ok(delta) => delta,
            Err(why) => return Ok(Err(why)),
        };
        let chunks = self.by_chunks(source, root)?;
        Ok(Ok(DeltaEdge { from: edge.from.clone(), from_root_hash, delta, chunks }))
    }

    /// What the way by chunks takes for hosts that run `source`; `None` if they would find nothing or it cannot be tried.
    fn by_chunks(&mut self, source: &Build, root: &RootImage) -> Result<Option<ByChunks>> {
        let from = source.root.verity.root_hash;
        if let Some(known) = self.record.by_chunks.get(&from) {
            return Ok(Some(*known));
        }
        if source.root.verity.salt != root.verity.salt {
            return Ok(None);
        }
        let leaves = self.leaves(source)?;
        let (old, image) = (self.image(source)?, self.image(self.build)?);
        let opened = File::open(self.repository(&root.full.path));
        let (Ok(payload), Ok(index)) = (opened, fs::read(self.repository(&root.chunks.path))) else {
            return Ok(None);
        };
        let Ok(measured) = measure_chunks(&payload, root.full.head_size, &index, (&old, &leaves), &image)
        else {
            return Ok(None);
        };
        self.record.by_chunks.insert(from, measured);
        self.write_record()?;
        Ok(Some(measured))
    }

    fn payload(&mut self, before: &[&Build]) -> Result<(PartedBlob, Blob)> {
        let step = format!("full payload of {}", self.build.version);
        self.progress.begin(&step, Some(self.build.root.size));
        let image = self.image(self.build)?;
        let leaves = self.leaves(self.build)?;
        let mut old = Vec::new();
        for build in before.iter().filter(|build| build.root.verity.salt == self.build.root.verity.salt) {
            old.push(self.leaves(build)?);
        }
        let fresh = match before.is_empty() {
            true => Vec::new(),
            false => chunks::fresh(&leaves, old.iter().flat_map(|leaves| leaves.iter())),
        };
        drop(old);
        let salt = self.build.root.verity.salt;
        let newest = before.first().filter(|build| build.root.verity.salt == salt);
        let former = newest.and_then(|build| self.former(build));
        let former_leaves = match newest.filter(|_| former.is_some()) {
            Some(build) => self.leaves(build)?,
            None => Rc::default(),
        };
        let former =
            former.as_ref().map(|(file, head)| Former { file, head: head.clone(), leaves: &former_leaves });
        let (staged, out) = self.stage("full")?;
        let compression = self.workspace.config.compression;
        let options = payload::Options { level: compression.payload, ..payload::Options::default() };
        let (parted, head) =
            payload::encode(&image, &leaves, &fresh, former.as_ref(), &options, &out, &|done| {
                self.progress.reached(done);
            })
            .map_err(|error| self.failed("the full payload", &error))?;
        let cost = prove_payload(&out, parted.head_size, &image)
            .map_err(|reason| self.unproven("the full payload", &reason))?;
        let full = self.place_parted(&staged, &parted, cost, "payloads", "zst")?;
        let index =
            chunks::index(&leaves, self.build.root.verity.salt, &self.layout(self.build)?, &head).to_bytes();
        let sha256 = Digest::of(&index);
        let path = repo_path(format!("payloads/{sha256}.chunks"))?;
        replace(self.files, &self.staging(), &self.repository(&path), &index)?;
        let chunks = Blob { path, size: index.len() as u64, sha256 };
        self.progress.end(&human(full.size));
        self.record.full = Some(full.clone());
        self.record.payload_level = Some(compression.payload);
        self.record.chunks = Some(chunks.clone());
        self.record.by_chunks.clear();
        self.write_record()?;
        Ok((full, chunks))
    }

    /// The full payload of another build, where it was made with the same options and is still there.
    fn former(&self, build: &Build) -> Option<(File, Head)> {
        let other = Encoder::new(self.workspace, self.files, self.progress, build).record;
        let full =
            other.full.filter(|_| other.payload_level == Some(self.workspace.config.compression.payload))?;
        let file = File::open(self.repository(&full.path)).ok()?;
        let mut head = vec![0; usize::try_from(full.head_size).ok()?];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut head, 0).ok()?;
        let head = Head::parse(&head).ok().filter(|_| Digest::of(&head) == full.head_sha256)?;
        Some((file, head))
    }

    fn compose(&mut self) -> Result<PartedBlob> {
        let folder = self.workspace.build(&self.build.version);
        let path = folder.join(UKI);
        let uki = fs::read(&path).map_err(Error::file("read", &path))?;
        if Digest::of(&uki) != self.build.uki.sha256 {
            return Err(changed(&path));
        }
        let parts = self.build.uki.parts.iter();
        let parts: Vec<_> = parts
            .map(|part| delta::Part { at: part.at, length: part.length, root_offset: part.root_offset })
            .collect();
        let (staged, out) = self.stage("uki")?;
        let root_hash = self.build.root.verity.root_hash;
        let image = self.image(self.build)?;
        let parted = delta::compose(&uki, &image, root_hash, &parts, COMPOSE_LEVEL, &out)
            .map_err(|error| self.failed("the UKI's delta", &error))?;
        let images = Images { base: None, root: &image };
        let cost = self.prove("the UKI's delta", &out, &parted, &images, Target::Uki(&uki))?;
        let compose = self.place_parted(&staged, &parted, cost, "payloads", "uki")?;
        self.record.compose = Some(compose.clone());
        self.write_record()?;
        Ok(compose)
    }

    /// Makes a delta; puts it into the repository unless there is something `against` its size.
    fn encode_delta(
        &mut self,
        source: &Build,
        edge: &Edge,
        against: &dyn Fn(u64) -> Option<Why>,
    ) -> Result<Result<PartedBlob, Why>> {
        let step = format!("delta {} to {}", source.version, self.build.version);
        self.progress.begin(&step, Some(self.build.root.size));
        for build in [source, self.build] {
            self.leaves(build)?;
        }
        let (old, old_layout) = (self.image(source)?, self.layout(source)?);
        let (new, new_layout) = (self.image(self.build)?, self.layout(self.build)?);
        let to = self.build.root.verity.root_hash;
        let (staged, out) = self.stage("delta")?;
        let (parted, _) = delta::encode(
            delta::Side { image: &old, layout: &old_layout, root_hash: edge.from_root_hash },
            delta::Side { image: &new, layout: &new_layout, root_hash: to },
            &delta::Options { level: self.workspace.config.compression.delta },
            &out,
            &|done| self.progress.reached(done / 2),
        )
        .map_err(|error| self.failed(&format!("the delta from {}", source.version), &error))?;
        let images = Images { base: Some(&old), root: &new };
        let cost = self.prove(&step, &out, &parted, &images, Target::Image(&new))?;
        self.progress.end(&human(parted.size));
        if let Some(why) = against(parted.size) {
            self.record.dropped.insert(edge.from_root_hash, parted.size);
            self.write_record()?;
            return Ok(Err(why));
        }
        let path = repo_path(format!("deltas/{}-{to}.delta", edge.from_root_hash))?;
        place(self.files, &staged, &self.repository(&path))?;
        let blob = PartedBlob { cost: Some(cost), ..parted.at(path) };
        self.record.deltas.insert(edge.from_root_hash, blob.clone());
        self.write_record()?;
        Ok(Ok(blob))
    }

    /// An empty file in the staging folder, open for reading and writing.
    fn stage(&self, name: &str) -> Result<(PathBuf, File)> {
        make_folder(self.files, &self.staging())?;
        let path = self.staging().join(name);
        self.files.write(&path, &[]).map_err(Error::file("create", &path))?;
        let file =
            OpenOptions::new().read(true).write(true).open(&path).map_err(Error::file("open", &path))?;
        Ok((path, file))
    }

    fn place_parted(
        &self,
        staged: &Path,
        parted: &Parted,
        cost: Cost,
        folder: &str,
        ending: &str,
    ) -> Result<PartedBlob> {
        let path = repo_path(format!("{folder}/{}.{ending}", parted.sha256))?;
        place(self.files, staged, &self.repository(&path))?;
        Ok(PartedBlob { cost: Some(cost), ..parted.at(path) })
    }

    fn write_record(&self) -> Result<()> {
        let folder = self.workspace.build(&self.build.version);
        let bytes = serde_json::to_vec_pretty(&self.record)
            .map_err(|error| Error::Failed(format!("cannot write {RECORD}: {error}")))?;
        replace(self.files, &self.staging(), &folder.join(RECORD), &bytes)
    }

    fn image(&self, build: &Build) -> Result<File> {
        let path = self.workspace.build(&build.version).join(IMAGE);
        let file = File::open(&path).map_err(Error::file("open", &path))?;
        let size = file.metadata().map_err(Error::file("read", &path))?.len();
        if size == build.root.size { Ok(file) } else { Err(changed(&path)) }
    }

    /// The hashes of the blocks of a build's image, which must be what was built.
    fn leaves(&mut self, build: &Build) -> Result<Rc<[Leaf]>> {
        let verity = &build.root.verity;
        if let Some(leaves) = self.leaves.get(&verity.root_hash) {
            return Ok(leaves.clone());
        }
        let leaves: Rc<[Leaf]> = leaves(&self.image(build)?, &verity.salt)?.into();
        if root_of(&leaves, &verity.salt)? != verity.root_hash {
            return Err(changed(&self.workspace.build(&build.version).join(IMAGE)));
        }
        self.leaves.insert(verity.root_hash, leaves.clone());
        Ok(leaves)
    }

    fn layout(&self, build: &Build) -> Result<Layout> {
        layout::read(&self.workspace.build(&build.version))
    }

    fn stands(&self, blob: &Blob) -> bool {
        let path = self.repository(&blob.path);
        digest(&path).is_ok_and(|found| found == (blob.size, blob.sha256))
    }

    fn stands_parted(&self, blob: &PartedBlob) -> bool {
        self.stands(&Blob { path: blob.path.clone(), size: blob.size, sha256: blob.sha256 })
    }

    fn repository(&self, path: &RepoPath) -> PathBuf {
        self.workspace.repository().join(path.as_str())
    }

    fn staging(&self) -> PathBuf {
        self.workspace.repository().join(STAGING)
    }

    fn prove(
        &self,
        what: &str,
        out: &File,
        parted: &Parted,
        images: &Images<'_>,
        target: Target<'_>,
    ) -> Result<Cost> {
        prove(out, parted.head_size, images, target).map_err(|reason| self.unproven(what, &reason))
    }

    fn unproven(&self, what: &str, reason: &str) -> Error {
        let version = &self.build.version;
        Error::Failed(format!(
            "{what} of {version} does not make what it should and is not published: {reason}"
        ))
    }

    fn failed(&self, what: &str, error: &dyn std::error::Error) -> Error {
        Error::Failed(format!("cannot make {what} of {}: {}", self.build.version, chain(error)))
    }
}

fn changed(path: &Path) -> Error {
    Error::Unverified(format!(
        "{} is not what the build made; remove the build's folder and build it again",
        path.display()
    ))
}

fn repo_path(text: String) -> Result<RepoPath> {
    text.parse().map_err(|error| Error::Failed(format!("cannot name an object: {error}")))
}

/// Length and SHA-256 of a file.
fn digest(path: &Path) -> std::io::Result<(u64, Digest)> {
    let mut file = File::open(path)?;
    let mut digester = Digester::new();
    let mut buffer = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((length, digester.finish())),
            read => {
                digester.update(&buffer[..read]);
                length += read as u64;
            }
        }
    }
}

/// The hashes of an image's blocks.
fn leaves(image: &File, salt: &Digest) -> Result<Vec<Leaf>> {
    let failed = |error: std::io::Error| Error::Failed(format!("cannot read the image: {error}"));
    let size = image.metadata().map_err(failed)?.len();
    let hasher = BlockHasher::new(salt);
    let mut leaves = Vec::new();
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < size {
        let length = buffer.len().min(usize::try_from(size - offset).unwrap_or(usize::MAX));
        std::os::unix::fs::FileExt::read_exact_at(image, &mut buffer[..length], offset).map_err(failed)?;
        let (blocks, _) = buffer[..length].as_chunks();
        leaves.extend(blocks.iter().map(|block| *hasher.hash(block).as_bytes()));
        offset += length as u64;
    }
    Ok(leaves)
}

/// The root hash of the dm-verity tree over blocks with these hashes.
fn root_of(leaves: &[Leaf], salt: &Digest) -> Result<Digest> {
    let failed = |error: &dyn std::fmt::Display| Error::Failed(format!("cannot check the image: {error}"));
    let mut tree = TreeBuilder::new(*salt, leaves.len() as u64, Discard).map_err(|error| failed(&error))?;
    for leaf in leaves {
        tree.push_leaf(Digest::from(*leaf)).map_err(|error| failed(&error))?;
    }
    let (params, _) = tree.finish().map_err(|error| failed(&error))?;
    Ok(params.root_hash)
}
