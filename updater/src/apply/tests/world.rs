//! A host with two slots, a repository with one release, and everything that can go wrong with either.

use std::io::{self, Read};
use std::sync::{Mutex, OnceLock};

use upright_manifests::chunks::{Chunk, Index, id_of};
use upright_manifests::delta::{self, Input, Kind, Segment, SegmentWriter, Source};
use upright_manifests::digest::Digest;
use upright_manifests::name::{Arch, Slot};
use upright_manifests::payload::{self, Frame, Prefix};
use upright_manifests::release::{Blob, DeltaEdge, PartedBlob, Release, RootImage, Uki};
use upright_manifests::verity::{BLOCK, BlockHasher, TreeBuilder, VerityParams};

use super::super::*;
use crate::agent::Reporter;
use crate::boot::{BootLoader, Entry, Trust};
use crate::fetch::fake::{FakeClock, FakeRemote};
use crate::fetch::{Fetcher, Patience};
use crate::host::BlockDevice;
use crate::machine::{Progress, WayTaken};
use crate::slot::fake::FakeDevice;

/// Blocks of the new image; more than 128, so that its tree has two levels.
pub(super) const BLOCKS: usize = 300;
const ROOT_SIZE: u64 = 340 * 4096;
const VERITY_SIZE: u64 = 8 * 4096;

pub(super) struct World {
    pub(super) remote: FakeRemote,
    pub(super) boot: FakeBoot,
    pub(super) release: Release,
    /// The slot that runs.
    pub(super) base: FakeDevice,
    /// The slot that is written.
    pub(super) disk: FakeDevice,
    pub(super) root: FakeDevice,
    pub(super) verity: FakeDevice,
    pub(super) image: Vec<u8>,
    pub(super) tree: Vec<u8>,
    pub(super) uki: Vec<u8>,
    /// What the inactive slot's partitions held before.
    pub(super) before: (Vec<u8>, Vec<u8>),
    /// The steps that were reported.
    pub(super) steps: Mutex<Vec<String>>,
    /// What was kept last.
    pub(super) kept: Mutex<Progress>,
    /// All that was kept, in order.
    pub(super) noted: Mutex<Vec<Progress>>,
    pub(super) without: Vec<String>,
    old_hash: Digest,
}

/// Blocks by number; equal numbers are equal blocks.
fn image(numbers: impl IntoIterator<Item = u32>) -> Vec<u8> {
    let block = |number: u32| {
        let mut state = number.wrapping_mul(2_654_435_761) | 1;
        (0..BLOCK / 2).flat_map(move |at| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            [(state >> 24) as u8, (at % 7) as u8]
        })
    };
    numbers.into_iter().flat_map(block).collect()
}

fn new_numbers() -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..BLOCKS as u32).collect();
    // A superblock of its own, some changes, something that moved, something twice.
    numbers[0] = 1000;
    numbers[40..45].fill(2000);
    for (block, number) in (50..90).zip(5000..) {
        numbers[block] = number;
    }
    numbers[110] = 1000;
    numbers[150..153].copy_from_slice(&[2001, 2002, 2000]);
    numbers[200..260].rotate_left(13);
    numbers[290] = 3000;
    numbers
}

fn salt() -> Digest {
    Digest::of(b"salt")
}

/// The tree over an image, as it is on a verity partition.
pub(super) fn tree_of(image: &[u8]) -> (VerityParams, Vec<u8>) {
    let mut area = vec![0; VERITY_SIZE as usize];
    let mut put = |offset: u64, block: &[u8; BLOCK]| {
        area[offset as usize..][..BLOCK].copy_from_slice(block);
        Ok::<_, io::Error>(())
    };
    let mut builder = TreeBuilder::new(salt(), (image.len() / BLOCK) as u64, &mut put).unwrap();
    builder.update(image).unwrap();
    let (params, _) = builder.finish().unwrap();
    area[..BLOCK].copy_from_slice(&params.superblock().unwrap().to_block());
    area.truncate(params.hash_size as usize);
    (params, area)
}

fn parted(path: &str, bytes: &[u8], head: usize) -> PartedBlob {
    PartedBlob {
        path: path.parse().unwrap(),
        size: bytes.len() as u64,
        sha256: Digest::of(bytes),
        head_size: head as u64,
        head_sha256: Digest::of(&bytes[..head]),
        cost: None,
    }
}

fn full_payload(image: &[u8]) -> (Vec<u8>, usize) {
    let (mut frames, mut bodies, mut start) = (Vec::new(), Vec::new(), 0);
    for (number, content) in frame_cuts(image).into_iter().enumerate() {
        let blocks = (content.len() / BLOCK) as u32;
        // Some refer to nothing, some to what is before them, and some to the image's start, which gets its place last.
        let near = (number as u32 % 4 * 2).min(start as u32);
        let far = (number as u32 % 3).min(start as u32 - near);
        let prefix = Prefix { far_start: 0, far, near };
        let before = [
            &image[..far as usize * BLOCK],
            &image[(start as usize - near as usize) * BLOCK..start as usize * BLOCK],
        ]
        .concat();
        let mut context = zstd::zstd_safe::CCtx::create();
        context.ref_prefix(&before).unwrap();
        let mut packed = Vec::with_capacity(Frame::max_packed(blocks) as usize);
        context.compress2(&mut packed, content).unwrap();
        let sha256 = Digest::of(&packed);
        frames.push(Frame { offset: 0, packed: packed.len() as u32, start, blocks, prefix, sha256 });
        start += u64::from(blocks);
        bodies.extend(packed);
    }
    let mut bytes = payload::Head { blocks: start, frames }.to_bytes();
    let head = bytes.len();
    bytes.extend(bodies);
    (bytes, head)
}

/// Frames of 1 to 8 blocks.
fn frame_cuts(image: &[u8]) -> Vec<&[u8]> {
    let (mut cuts, mut rest) = (Vec::new(), image);
    for length in (1..=8usize).cycle() {
        if rest.is_empty() {
            break;
        }
        let (cut, after) = rest.split_at((length * BLOCK).min(rest.len()));
        cuts.push(cut);
        rest = after;
    }
    cuts
}

fn index(image: &[u8]) -> Index {
    let hasher = BlockHasher::new(&salt());
    let leaves: Vec<[u8; 32]> =
        image.as_chunks().0.iter().map(|block| *hasher.hash(block).as_bytes()).collect();
    let (mut chunks, mut start) = (Vec::new(), 0);
    for cut in frame_cuts(image) {
        let blocks = cut.len() / BLOCK;
        let own = &leaves[start..start + blocks];
        let last = *own[blocks - 1].first_chunk().unwrap();
        chunks.push(Chunk { start: start as u64, blocks: blocks as u8, last, id: id_of(own) });
        start += blocks;
    }
    Index { blocks: start as u64, salt: salt(), chunks }
}

/// A delta whose segments begin within blocks and come in another order than what they make, one of them reading what
/// another made.
fn root_delta(old: &[u8], old_hash: Digest, new: &[u8], new_hash: Digest) -> (Vec<u8>, usize) {
    let cuts = [0, 100_001, 300_000, 500_003, 655_360, new.len()];
    let order = [1, 0, 3, 2, 4];
    // Whole blocks that earlier segments made.
    let made = |number: usize| match number {
        2 => 0..24,
        3 => 25..73,
        _ => 0..0,
    };
    let (mut segments, mut copied) = (Vec::new(), 0);
    for number in order {
        let (start, end) = (cuts[number], cuts[number + 1]);
        let mut writer = SegmentWriter::new(start as u64);
        let mut at = start;
        while at < end {
            let part = (4096 - at % 4096).min(end - at);
            let wanted = &new[at..at + part];
            let moved = || old.chunks(BLOCK).position(|block| block == wanted);
            if old.get(at..at + part) == Some(wanted) {
                writer.copy(Source::Base, at as u64, part as u64);
            } else if let Some(block) = moved() {
                writer.copy(Source::Base, (block * BLOCK) as u64, part as u64);
            } else if let Some(block) = made(number).find(|block| new[block * BLOCK..][..part] == *wanted) {
                writer.copy(Source::Root, (block * BLOCK) as u64, part as u64);
                copied += 1;
            } else {
                writer.literal(wanted);
            }
            at += part;
        }
        segments.push((start, end - start, writer.pack(3).unwrap()));
    }
    assert_eq!(copied, 2);
    let input = |source, image: &[u8], id| Input { source, size: image.len() as u64, id };
    let inputs = vec![input(Source::Base, old, old_hash), input(Source::Root, new, new_hash)];
    delta_file(Kind::Root, new.len(), new_hash, inputs, segments)
}

fn uki_delta(image: &[u8], root_hash: Digest) -> (Vec<u8>, usize, Vec<u8>) {
    let mut uki = b"stub".repeat(500);
    let mut writer = SegmentWriter::new(0);
    writer.literal(&uki);
    writer.copy(Source::Root, 4097, 9000);
    writer.copy(Source::Root, 500_001, 40_000);
    uki.extend(&image[4097..13_097]);
    uki.extend(&image[500_001..540_001]);
    let inputs = vec![Input { source: Source::Root, size: image.len() as u64, id: root_hash }];
    let segments = vec![(0, uki.len(), writer.pack(3).unwrap())];
    let (bytes, head) = delta_file(Kind::Uki, uki.len(), Digest::of(&uki), inputs, segments);
    (bytes, head, uki)
}

fn delta_file(
    kind: Kind,
    size: usize,
    target_id: Digest,
    inputs: Vec<Input>,
    segments: Vec<(usize, usize, Vec<u8>)>,
) -> (Vec<u8>, usize) {
    let entry = |(start, length, packed): &(usize, usize, Vec<u8>)| Segment {
        offset: 0,
        packed: packed.len() as u32,
        start: *start as u64,
        length: *length as u32,
        sha256: Digest::of(packed),
    };
    let head = delta::Head {
        kind,
        memory: delta::MAX_MEMORY,
        target_size: size as u64,
        target_id,
        inputs,
        segments: segments.iter().map(entry).collect(),
    };
    let mut bytes = head.to_bytes();
    let head = bytes.len();
    segments.iter().for_each(|(_, _, packed)| bytes.extend(packed));
    (bytes, head)
}

/// What is the same in all worlds.
#[derive(Clone)]
struct Published {
    release: Release,
    files: Vec<(&'static str, Vec<u8>)>,
    /// Both partitions of the slot that runs, and of the other.
    base: (Vec<u8>, Vec<u8>),
    inactive: (Vec<u8>, Vec<u8>),
    image: Vec<u8>,
    tree: Vec<u8>,
    uki: Vec<u8>,
    old_hash: Digest,
}

impl Published {
    fn new() -> Self {
        let (old, new) = (image(0..280), image(new_numbers()));
        let ((old_params, old_tree), (params, tree)) = (tree_of(&old), tree_of(&new));
        let (full, full_head) = full_payload(&new);
        let chunks = index(&new).to_bytes();
        let (delta, delta_head) = root_delta(&old, old_params.root_hash, &new, params.root_hash);
        let (compose, compose_head, uki) = uki_delta(&new, params.root_hash);
        let release = Release {
            format: 1,
            os: "acme".parse().unwrap(),
            arch: Arch::X86_64,
            version: "2".parse().unwrap(),
            time: jiff::Timestamp::UNIX_EPOCH,
            floor: None,
            commit: None,
            base: None,
            root: RootImage {
                size: new.len() as u64,
                sha256: Digest::of(&new),
                verity: params,
                full: parted("full", &full, full_head),
                chunks: Blob {
                    path: "chunks".parse().unwrap(),
                    size: chunks.len() as u64,
                    sha256: Digest::of(&chunks),
                },
            },
            uki: Uki {
                size: uki.len() as u64,
                sha256: Digest::of(&uki),
                compose: parted("compose", &compose, compose_head),
                certificates: Vec::new(),
            },
            deltas: vec![DeltaEdge {
                from: "1".parse().unwrap(),
                from_root_hash: old_params.root_hash,
                delta: parted("delta", &delta, delta_head),
                chunks: None,
            }],
            versioned: Vec::new(),
        };
        // The release before the one that runs: it has some blocks of the new one that the latter has not, in place and
        // further back.
        let older = (0..40).chain([2000; 5]).chain(45..60).chain(5000..5040).chain(100..150);
        let older = image(older.chain([7, 8, 9]).chain(200..320));
        let pad = |bytes: &[u8], size: u64| {
            let mut partition = vec![0xee; size as usize];
            partition[..bytes.len()].copy_from_slice(bytes);
            partition
        };
        let slot = |root: &[u8], tree: &[u8]| (pad(root, ROOT_SIZE), pad(tree, VERITY_SIZE));
        Self {
            release,
            files: vec![("full", full), ("chunks", chunks), ("delta", delta), ("compose", compose)],
            base: slot(&old, &old_tree),
            inactive: slot(&older, &tree_of(&older).1),
            image: new,
            tree,
            uki,
            old_hash: old_params.root_hash,
        }
    }
}

impl World {
    /// A host that runs a release made of blocks 0 to 279, with an older one in the other slot.
    pub(super) fn new() -> Self {
        static PUBLISHED: OnceLock<Published> = OnceLock::new();
        let published = PUBLISHED.get_or_init(Published::new).clone();
        let remote = FakeRemote::default();
        for (path, bytes) in published.files {
            remote.put(path, bytes);
        }
        let root = published.inactive.0.len() as u64;
        let disk = |(root, verity): &(Vec<u8>, Vec<u8>)| FakeDevice::holding([&root[..], verity].concat());
        let inactive = disk(&published.inactive);
        Self {
            remote,
            boot: FakeBoot::default(),
            release: published.release,
            base: disk(&published.base),
            root: inactive.partition(0..root),
            verity: inactive.partition(root..root + VERITY_SIZE),
            disk: inactive,
            image: published.image,
            tree: published.tree,
            uki: published.uki,
            before: published.inactive,
            steps: Mutex::default(),
            kept: Mutex::default(),
            noted: Mutex::default(),
            without: Vec::new(),
            old_hash: published.old_hash,
        }
    }
    pub(super) fn without(mut self, ways: &[&str]) -> Self {
        self.without = ways.iter().map(|&way| way.to_owned()).collect();
        self
    }

    /// Installs, going on from what was kept last; the bytes that came this time are told too.
    pub(super) fn install(&self) -> (Result<WayTaken, ApplyError>, u64) {
        let clock = FakeClock::default();
        let fetcher = Fetcher::new(&self.remote, &clock, Patience::default());
        let (base_root, base_verity) =
            (self.base.partition(0..ROOT_SIZE), self.base.partition(ROOT_SIZE..ROOT_SIZE + VERITY_SIZE));
        let entry =
            Entry { slot: Slot::B, os: self.release.os.clone(), version: self.release.version.clone() };
        let job = Job {
            fetcher: &fetcher,
            boot: &self.boot,
            release: &self.release,
            entry: &entry,
            target: Partitions { slot: Slot::B, root: &self.root, verity: &self.verity },
            base: Partitions { slot: Slot::A, root: &base_root, verity: &base_verity },
            base_hash: self.old_hash,
            allowance: Allowance { without: &self.without, ..Allowance::default() },
        };
        let progress = self.kept.lock().unwrap().clone();
        let mut keep = |progress: &Progress| {
            *self.kept.lock().unwrap() = progress.clone();
            self.noted.lock().unwrap().push(progress.clone());
            Ok(())
        };
        let result = install(&job, progress, &mut keep, &mut Steps(&self.steps));
        (result, fetcher.fetched())
    }

    /// Publishes the full payload of another image under the release's name, signed as if it were its own.
    pub(super) fn publish_payload_of(&mut self, image: &[u8]) {
        let (bytes, head) = full_payload(image);
        self.release.root.full = parted("full", &bytes, head);
        self.remote.put("full", bytes);
    }

    /// Mends the slot, with what the one that runs has if it `may_look` there; the bytes that came are told too.
    pub(super) fn repair(&self, may_look: bool) -> (Result<Mended, ApplyError>, u64) {
        let clock = FakeClock::default();
        let fetcher = Fetcher::new(&self.remote, &clock, Patience::default());
        let (base_root, base_verity) =
            (self.base.partition(0..ROOT_SIZE), self.base.partition(ROOT_SIZE..ROOT_SIZE + VERITY_SIZE));
        let other = Partitions { slot: Slot::A, root: &base_root, verity: &base_verity };
        let slot = Partitions { slot: Slot::B, root: &self.root, verity: &self.verity };
        let params = &self.release.root.verity;
        let patient = Patient { slot, other: may_look.then_some(other), params };
        let mend = || {
            let damage = look(patient, &mut |_| ())?;
            let mut mending = Mending::begin(patient, &damage)?;
            mending.take_here()?;
            let frames = match damage.here() < damage.blocks() {
                true => Some(damage.frames(&fetcher, &self.release.root)),
                false => None,
            };
            let frames = frames.transpose();
            let frames = frames.map_err(|source| ApplyError::Mend { slot: Slot::B, source })?;
            let reporter = &mut Steps(&self.steps);
            frames.map_or(Ok(()), |frames| mending.fetch(&fetcher, &frames, reporter))?;
            mending.finish(reporter)?;
            Ok(mending.mended())
        };
        (mend(), fetcher.fetched())
    }

    /// Installs, and tells how many bytes were written and fetched for it.
    pub(super) fn cost(&self) -> (u64, u64) {
        let before = self.disk.written();
        let (result, fetched) = self.install();
        result.unwrap();
        self.assert_installed();
        (self.disk.written() - before, fetched)
    }

    /// The hash tree of the slot that runs says that it holds nothing that is known.
    pub(super) fn forget_base(&self) {
        let (params, _) = tree_of(&self.base.bytes()[..280 * BLOCK]);
        let leaves = params.geometry().unwrap().leaf_offset(0).unwrap();
        (0..280).for_each(|leaf| self.base.damage(ROOT_SIZE + leaves + leaf * 32));
    }

    /// What was written never had to be mended.
    pub(super) fn assert_never_mended(&self) {
        let steps = self.steps.lock().unwrap();
        assert!(!steps.iter().any(|step| step.starts_with("mending")), "{steps:?}");
    }

    /// The slot holds the release, and nothing outside of it was touched.
    pub(super) fn assert_installed(&self) {
        let (root, verity) = (self.root.durable(), self.verity.durable());
        assert!(root[..self.image.len()] == self.image, "the image");
        assert!(root[self.image.len()..] == self.before.0[self.image.len()..], "beyond the image");
        assert!(verity[..self.tree.len()] == self.tree, "the tree");
        assert!(verity[self.tree.len()..] == self.before.1[self.tree.len()..], "beyond the tree");
        assert!(self.boot.staged.lock().unwrap().as_deref() == Some(&self.uki[..]), "the UKI");
    }

    /// Whoever looks for a file system or a hash tree by its UUID finds one that is whole, or none.
    pub(super) fn assert_whole_or_hidden(&self) {
        let (root, verity) = (self.root.bytes(), self.verity.bytes());
        let same = |bytes: &[u8], whole: &[u8], length: usize| bytes[BLOCK..length] == whole[BLOCK..length];
        if root[1024..1028] != [0; 4] {
            let old = same(&root, &self.before.0, root.len());
            assert!(old || same(&root, &self.image, self.image.len()), "half an image can be found");
        }
        if verity[..8] == *b"verity\0\0" {
            let old = same(&verity, &self.before.1, verity.len());
            assert!(old || same(&verity, &self.tree, self.tree.len()), "half a tree can be found");
        }
    }
}

struct Steps<'w>(&'w Mutex<Vec<String>>);

impl Reporter for Steps<'_> {
    fn step(&mut self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
    fn bytes(&mut self, done: u64, total: u64) {
        assert!(done <= total);
    }
}

/// An ESP that holds one staged UKI, and may change a byte of it.
#[derive(Default)]
pub(super) struct FakeBoot {
    pub(super) staged: Mutex<Option<Vec<u8>>>,
    pub(super) damages: Mutex<bool>,
}

impl BootLoader for FakeBoot {
    fn name(&self) -> &'static str {
        "fake"
    }
    fn trust(&self, _: &Entry) -> io::Result<Option<Trust>> {
        Ok(None)
    }
    fn is_seen(&self, _: &Entry) -> io::Result<bool> {
        Ok(false)
    }
    fn command_lines(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn remove_others(&self, _: &Entry) -> io::Result<()> {
        Ok(())
    }
    fn room(&self, _: &Entry) -> io::Result<u64> {
        Ok(1 << 30)
    }
    fn room_beside(&self, _: &Entry) -> io::Result<u64> {
        Ok(1 << 30)
    }
    fn size(&self, _: &Entry) -> io::Result<Option<u64>> {
        Ok(None)
    }
    fn stage(&self, _: &Entry, uki: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        uki.read_to_end(&mut bytes)?;
        if *self.damages.lock().unwrap() {
            bytes[77] ^= 4;
        }
        *self.staged.lock().unwrap() = Some(bytes);
        Ok(())
    }
    fn staged(&self, _: &Entry) -> io::Result<Box<dyn Read>> {
        let staged = self.staged.lock().unwrap().clone();
        Ok(Box::new(io::Cursor::new(staged.ok_or(io::ErrorKind::NotFound)?)))
    }
    fn taken(&self, _: &Entry) -> io::Result<Option<u64>> {
        Ok(None)
    }
    fn stage_copy(&self, _: &mut dyn Read) -> io::Result<()> {
        Ok(())
    }
    fn staged_copy(&self) -> io::Result<Box<dyn Read>> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn mend(&self, _: &Entry) -> io::Result<()> {
        Ok(())
    }
    fn content(&self, _: &Entry) -> io::Result<Option<Box<dyn Read>>> {
        Ok(None)
    }
    fn restore(&self, _: &Entry, _: &Entry) -> io::Result<()> {
        Ok(())
    }
    fn switch(&self, _: &Entry, _: u32) -> io::Result<()> {
        Ok(())
    }
    fn mark_good(&self, _: &Entry) -> io::Result<()> {
        Ok(())
    }
    fn mark_bad(&self, _: &Entry) -> io::Result<()> {
        Ok(())
    }
}

/// Sizes of the partitions are what tests of room compare with.
pub(super) fn room() -> Room {
    Room { root: ROOT_SIZE, verity: VERITY_SIZE, esp: 1 << 20, state: 1 << 20, state_needed: 1 << 20 }
}

/// The device as the trait sees it.
pub(super) fn size(device: &FakeDevice) -> u64 {
    device.size()
}
