//! Trees to write, and images read back into trees.

mod following;
mod image;
mod refused;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use upright_manifests::erofs::{FileType, Node, Reader, decode_device};
use upright_manifests::verity::{Discard, TreeBuilder};

use super::*;
use crate::tree::{Content, Device, Inode, Kind};

/// A tree in memory with its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sketch {
    pub(super) tree: Tree,
    contents: BTreeMap<Digest, Vec<u8>>,
}

impl Sketch {
    /// A tree with an empty root directory.
    pub(super) fn new() -> Self {
        let mut sketch = Self { tree: Tree::default(), contents: BTreeMap::new() };
        sketch.add(b"", inode(Kind::Directory, 0o755));
        sketch
    }

    /// Adds or replaces an inode and its path, and the directories above it where they are missing.
    pub(super) fn add(&mut self, path: &[u8], inode: Inode) -> usize {
        if let Some(at) = path.iter().rposition(|&byte| byte == b'/') {
            self.directory(&path[..at]);
        }
        self.tree.inodes.push(inode);
        self.tree.paths.insert(path.to_vec(), self.tree.inodes.len() - 1);
        self.tree.inodes.len() - 1
    }

    pub(super) fn directory(&mut self, path: &[u8]) {
        if !self.tree.paths.contains_key(path) {
            self.add(path, inode(Kind::Directory, 0o755));
        }
    }

    pub(super) fn file(&mut self, path: &[u8], content: &[u8]) -> usize {
        let content = self.content(content);
        self.add(path, inode(Kind::File(content), 0o644))
    }

    pub(super) fn content(&mut self, bytes: &[u8]) -> Content {
        let sha256 = Digest::of(bytes);
        self.contents.insert(sha256, bytes.to_vec());
        Content { size: bytes.len() as u64, sha256, object: sha256 }
    }

    pub(super) fn link(&mut self, path: &[u8], to: &[u8]) {
        let index = self.tree.paths[to];
        self.tree.paths.insert(path.to_vec(), index);
    }

    pub(super) fn change(&mut self, path: &[u8]) -> &mut Inode {
        &mut self.tree.inodes[self.tree.paths[path]]
    }

    /// The same in the order that trees are compared in, without what nothing names.
    pub(super) fn normal(&self) -> Self {
        let mut normal = Self { tree: self.tree.clone().canonical(), contents: BTreeMap::new() };
        for inode in &normal.tree.inodes {
            if let Kind::File(content) = inode.kind {
                normal.contents.insert(content.sha256, self.contents[&content.sha256].clone());
            }
        }
        normal
    }
}

impl Contents for Sketch {
    fn open(&self, content: &Content) -> io::Result<Box<dyn Read>> {
        let bytes = self.contents.get(&content.sha256).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(io::Cursor::new(bytes.clone())))
    }
}

pub(super) fn inode(kind: Kind, mode: u16) -> Inode {
    Inode { kind, mode, uid: 0, gid: 0, xattrs: BTreeMap::new() }
}

pub(super) const TIME: Timestamp = Timestamp::constant(1_700_000_000, 0);

/// Writes the sketch and gives its image.
pub(super) fn image_of(sketch: &Sketch, base: Option<&Layout>) -> (Vec<u8>, Written) {
    let (file, written) = file_of(sketch, base);
    let mut image = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut image, 0).unwrap();
    check(&image, &written);
    (image, written)
}

pub(super) fn file_of(sketch: &Sketch, base: Option<&Layout>) -> (File, Written) {
    let file = tempfile::tempfile().unwrap();
    let options = Options { time: TIME, release: "acme 1.0.0", base, salt: Digest::of(b"salt") };
    let written = write(&sketch.normal().tree, sketch, &options, &file, &|_| {}).unwrap();
    (file, written)
}

/// What holds for every image.
fn check(image: &[u8], written: &Written) {
    assert_eq!(written.size, image.len() as u64);
    assert_eq!(written.sha256, Digest::of(image));
    assert_eq!(written.layout.blocks * BLOCK_SIZE, written.size);
    let mut tree = TreeBuilder::new(Digest::of(b"salt"), written.layout.blocks, Discard).unwrap();
    tree.update(image).unwrap();
    assert_eq!(tree.finish().unwrap().0, written.verity);
    assert!(written.layout.metadata.is_sorted_by_key(|run| run.start));
    assert!(written.layout.files.is_sorted_by_key(|run| run.start));
    let mut used = vec![false; written.layout.blocks as usize];
    let files = written.layout.files.iter().map(|file| Run { start: file.start, blocks: file.blocks() });
    for run in written.layout.metadata.iter().copied().chain(files) {
        for block in run.start..run.start + run.blocks {
            assert!(!std::mem::replace(&mut used[block as usize], true), "block {block} is used once");
        }
    }
    let free = used.iter().filter(|used| !**used).count() as u64;
    assert!(free * 10 <= written.layout.blocks, "{free} of {} blocks are free", written.layout.blocks);
    for (block, used) in image.chunks(4096).zip(used) {
        assert!(used || block.iter().all(|&byte| byte == 0), "what is free is zero");
    }
    for file in &written.layout.files {
        let start = (file.start * BLOCK_SIZE) as usize;
        assert_eq!(Digest::of(&image[start..start + file.size as usize]), file.sha256);
    }
}

/// The tree that an image holds.
pub(super) fn read_back(image: &[u8]) -> Sketch {
    let reader = Reader::open(image).unwrap();
    let (mut sketch, mut known) =
        (Sketch { tree: Tree::default(), contents: BTreeMap::new() }, BTreeMap::new());
    let mut names: BTreeMap<u64, u32> = BTreeMap::new();
    let mut links: BTreeMap<u64, u32> = BTreeMap::new();
    let visited = reader.walk(&mut |path, node| {
        let index = *known.entry(node.nid).or_insert_with(|| {
            let inode = inode_of(&reader, node, &mut sketch);
            sketch.tree.inodes.push(inode);
            sketch.tree.inodes.len() - 1
        });
        let parent = path.iter().rposition(|&byte| byte == b'/').map_or(b"".as_slice(), |at| &path[..at]);
        if node.inode.kind != FileType::Directory {
            *names.entry(node.nid).or_default() += 1;
        } else {
            *names.entry(node.nid).or_default() += 2;
            if !path.is_empty() {
                let above = reader.lookup(parent)?.unwrap();
                *names.entry(above.nid).or_default() += 1;
                let up = reader.entries(node)?.into_iter().find(|entry| entry.name == b"..").unwrap();
                assert_eq!(up.nid, above.nid);
            }
            let own = reader.entries(node)?.into_iter().find(|entry| entry.name == b".").unwrap();
            assert_eq!(own.nid, node.nid);
        }
        links.insert(node.nid, node.inode.links);
        assert!(node.inode.time.is_none_or(|time| time == TIME.as_second()));
        sketch.tree.paths.insert(path.to_vec(), index);
        Ok(())
    });
    visited.unwrap();
    assert_eq!(links, names, "link counts");
    assert_eq!(reader.superblock().inodes, known.len() as u64);
    assert_eq!(reader.superblock().time, TIME.as_second());
    sketch.normal()
}

fn inode_of(reader: &Reader<&[u8]>, node: &Node, sketch: &mut Sketch) -> Inode {
    let device = || {
        let (major, minor) = decode_device(node.inode.block);
        Device { major, minor }
    };
    let kind = match node.inode.kind {
        FileType::Regular => {
            let mut bytes = vec![0; node.inode.size as usize];
            assert_eq!(reader.read(node, 0, &mut bytes).unwrap(), bytes.len());
            Kind::File(sketch.content(&bytes))
        }
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink(reader.target(node).unwrap()),
        FileType::CharDevice => Kind::CharDevice(device()),
        FileType::BlockDevice => Kind::BlockDevice(device()),
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
    };
    let xattrs = reader.xattrs(node).unwrap();
    Inode { kind, mode: node.inode.permissions, uid: node.inode.uid, gid: node.inode.gid, xattrs }
}
