//! The objects a release names: size, hash, and whether they make what they should.

use std::io::Read;
use std::os::unix::fs::FileExt;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::chunks::{Index, Leaf, id_of};
use upright_manifests::delta::{self, Source as From};
use upright_manifests::digest::{Digest, Digester};
use upright_manifests::payload::{self, Unpacker};
use upright_manifests::release::{Blob, PartedBlob, Release};
use upright_manifests::verity::{BlockHasher, Discard, TreeBuilder};

use super::{Report, Source};
use crate::repo::error::{Error, Result};
use crate::repo::progress::Progress;
use upright_manifests::bytes::human;

/// The longest chunk index that is read, in bytes.
const MAX_INDEX: u64 = 256 << 20;

/// What is wrong with an object, in words that follow its path.
type Wrong = String;

/// Audits everything that `release` names, of its deltas those that are `wanted`.
pub(super) fn check(
    source: &Source,
    release: &Release,
    wanted: &dyn Fn(&str) -> bool,
    report: &mut Report,
    progress: &dyn Progress,
) -> Result<()> {
    let root = &release.root;
    progress.begin(&format!("payload of {}", release.version), Some(root.full.size));
    let leaves = object(source, &root.full, report, |head, file| payload(release, head, file, progress))?;
    progress.end(&human(root.full.size));
    chunks(source, release, leaves.flatten().as_deref(), report)?;
    let uki = delta::Kind::Uki;
    object(source, &release.uki.compose, report, |head, file| {
        let expected = (uki, release.uki.size, release.uki.sha256);
        deltas(head, file, expected, (From::Root, root.verity.root_hash))
    })?;
    for edge in release.deltas.iter().filter(|edge| wanted(edge.delta.path.as_str())) {
        object(source, &edge.delta, report, |head, file| {
            let expected = (delta::Kind::Root, root.size, root.verity.root_hash);
            deltas(head, file, expected, (From::Base, edge.from_root_hash))
        })?;
    }
    Ok(())
}

/// Reads a file of a head and parts once: `judge` gets the head, which is what was signed, and the rest to read.
fn object<T>(
    source: &Source,
    blob: &PartedBlob,
    report: &mut Report,
    judge: impl FnOnce(&[u8], &mut Hashed) -> Result<Result<T, Wrong>>,
) -> Result<Option<T>> {
    let path = blob.path.as_str();
    let Some(file) = source.open(path)? else {
        report.errors.push(format!("{path} is not there"));
        return Ok(None);
    };
    let mut file = Hashed { file, path, digester: Digester::new(), length: 0 };
    let verdict = match file.part(blob.head_size)? {
        Some(head) if Digest::of(&head) == blob.head_sha256 => judge(&head, &mut file)?,
        _ => Err("its head is not what was signed".into()),
    };
    let same = file.finish(blob.size)? == Some(blob.sha256);
    match verdict {
        _ if !same => report.errors.push(format!("{path} is not the {} bytes that were signed", blob.size)),
        Err(wrong) => report.errors.push(format!("{path}: {wrong}")),
        Ok(value) => {
            report.objects += 1;
            report.bytes += blob.size;
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// Unpacks the whole image; the hashes of its blocks.
fn payload(
    release: &Release,
    head: &[u8],
    file: &mut Hashed,
    progress: &dyn Progress,
) -> Result<Result<Option<Vec<Leaf>>, Wrong>> {
    let head = match payload::Head::parse(head) {
        Ok(head) if head.image_size() == release.root.size => head,
        Ok(head) => {
            return Ok(Err(format!(
                "it makes {} bytes of an image of {}",
                head.image_size(),
                release.root.size
            )));
        }
        Err(error) => return Ok(Err(error.to_string())),
    };
    let mut unpacker = Unpacker::new().map_err(|error| Error::Failed(error.to_string()))?;
    // Frames refer to what others have made, and an image is more than memory may hold.
    let folder = std::env::temp_dir();
    let made = tempfile::tempfile().map_err(Error::file("make a file in", &folder))?;
    let kept = || Error::file("keep an image in", &folder);
    let verity = &release.root.verity;
    let hasher = BlockHasher::new(&verity.salt);
    let mut image = Digester::new();
    let mut leaves = Vec::new();
    for frame in &head.frames {
        let Some(packed) = file.part(u64::from(frame.packed))? else {
            return Ok(Err("it ends too early".into()));
        };
        let [far, near] = frame.prefix_ranges();
        let mut prefix = vec![0; frame.prefix.bytes()];
        let (before, after) = prefix.split_at_mut((far.end - far.start) as usize);
        made.read_exact_at(before, far.start)
            .and_then(|()| made.read_exact_at(after, near.start))
            .map_err(kept())?;
        let bytes = match unpacker.unpack(frame, &packed, &prefix) {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(error.to_string())),
        };
        made.write_all_at(bytes, frame.start * BLOCK_SIZE).map_err(kept())?;
        image.update(bytes);
        leaves.extend(bytes.as_chunks().0.iter().map(|block| *hasher.hash(block).as_bytes()));
        progress.reached(file.length);
    }
    if image.finish() != release.root.sha256 {
        return Ok(Err("it makes another image than the one that was signed".into()));
    }
    match root_hash(&leaves, &verity.salt) {
        Some(root_hash) if root_hash == verity.root_hash => Ok(Ok(Some(leaves))),
        _ => Ok(Err("its image has another root hash than the one that was signed".into())),
    }
}

fn root_hash(leaves: &[Leaf], salt: &Digest) -> Option<Digest> {
    let mut tree = TreeBuilder::new(*salt, leaves.len() as u64, Discard).ok()?;
    leaves.iter().try_for_each(|leaf| tree.push_leaf(Digest::from(*leaf))).ok()?;
    Some(tree.finish().ok()?.0.root_hash)
}

fn chunks(source: &Source, release: &Release, leaves: Option<&[Leaf]>, report: &mut Report) -> Result<()> {
    let Blob { path, size, sha256 } = &release.root.chunks;
    let wrong = match source.read(path.as_str(), (*size).min(MAX_INDEX))? {
        None => Some("is not there".to_owned()),
        Some(bytes) if bytes.len() as u64 != *size || Digest::of(&bytes) != *sha256 => {
            Some(format!("is not the {size} bytes that were signed"))
        }
        Some(bytes) => match Index::parse(&bytes) {
            Err(error) => Some(format!("is not a chunk index: {error}")),
            Ok(index) => index_is_wrong(&index, release, leaves).map(str::to_owned),
        },
    };
    match wrong {
        Some(wrong) => report.errors.push(format!("{path} {wrong}")),
        None => {
            report.objects += 1;
            report.bytes += size;
        }
    }
    Ok(())
}

fn index_is_wrong(index: &Index, release: &Release, leaves: Option<&[Leaf]>) -> Option<&'static str> {
    let verity = &release.root.verity;
    if index.blocks != verity.data_blocks || index.salt != verity.salt {
        return Some("is the index of another image");
    }
    let leaves = leaves?;
    let mut chunks = index.chunks.iter();
    let fits = chunks.all(|chunk| {
        let start = usize::try_from(chunk.start).unwrap_or(usize::MAX);
        let own = leaves.get(start..start.saturating_add(usize::from(chunk.blocks)));
        own.is_some_and(|own| {
            id_of(own) == chunk.id && own.last().is_some_and(|leaf| leaf[..4] == chunk.last)
        })
    });
    (!fits).then_some("does not describe the image")
}

/// Reads the segments of a delta that should make a target of this kind, size and identity out of this source.
fn deltas(
    head: &[u8],
    file: &mut Hashed,
    (kind, size, id): (delta::Kind, u64, Digest),
    (from, from_id): (From, Digest),
) -> Result<Result<(), Wrong>> {
    let head = match delta::Head::parse(head) {
        Ok(head) => head,
        Err(error) => return Ok(Err(error.to_string())),
    };
    if (head.kind, head.target_size, head.target_id) != (kind, size, id) {
        return Ok(Err("it makes something else than what was signed".into()));
    }
    if head.input(from).is_some_and(|input| input.id != from_id) {
        return Ok(Err("it starts from another image than the one that was signed".into()));
    }
    for segment in &head.segments {
        match file.part(u64::from(segment.packed))? {
            Some(packed) if Digest::of(&packed) == segment.sha256 => {}
            _ => return Ok(Err(format!("its segment at byte {} is damaged", segment.offset))),
        }
    }
    Ok(Ok(()))
}

/// A file that is hashed as it is read.
struct Hashed<'a> {
    file: Box<dyn Read>,
    path: &'a str,
    digester: Digester,
    length: u64,
}

impl Hashed<'_> {
    /// The next `length` bytes; `None` if the file ends before.
    fn part(&mut self, length: u64) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        self.file.by_ref().take(length).read_to_end(&mut bytes).map_err(self.failed())?;
        self.digester.update(&bytes);
        self.length += bytes.len() as u64;
        Ok((bytes.len() as u64 == length).then_some(bytes))
    }

    /// The digest of the whole file, if it has `size` bytes; reads no more than one byte beyond.
    fn finish(mut self, size: u64) -> Result<Option<Digest>> {
        let mut buffer = vec![0; 1 << 18];
        while self.length <= size {
            let read = self.file.read(&mut buffer).map_err(self.failed())?;
            if read == 0 {
                break;
            }
            self.digester.update(&buffer[..read]);
            self.length += read as u64;
        }
        Ok((self.length == size).then(|| self.digester.finish()))
    }

    fn failed(&self) -> impl Fn(std::io::Error) -> Error + use<> {
        let path = self.path.to_owned();
        move |error| Error::Failed(format!("cannot read {path}: {error}"))
    }
}
