//! Compares what a slot holds with its hash tree, and both with the root hash that was signed.

use std::collections::BTreeSet;
use std::io;

use upright_manifests::digest::Digest;
use upright_manifests::erofs::{DataLayout, ErofsError, Reader};
use upright_manifests::verity::{BLOCK, Geometry, HASH_SIZE, TreeSink, VerityParams};
use upright_manifests::{BLOCK_SIZE, verity};

use super::error::ApplyError;
use super::readback::read_tree;
use super::repair::Forgiving;
use crate::host::BlockDevice;
use crate::slot::{AlignedBuffer, Image};

/// How many damaged blocks are remembered.
pub const MOST: usize = 1000;

/// What a slot was found to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The root hash of the image that is there.
    pub found: Digest,
    /// How many blocks of the image are not what the hash tree says; the kernel refuses to read them.
    pub damaged: u64,
    /// The numbers of the first of them.
    pub blocks: Vec<u64>,
    /// The first block of the verity partition that differs although the image's blocks below it do not; 0 is its superblock.
    pub tree: Option<u64>,
}

impl Audit {
    /// Whether the slot holds the image with this root hash, and all of it can be read.
    pub fn is_whole(&self, root_hash: Digest) -> bool {
        self.found == root_hash && self.damaged == 0 && self.tree.is_none()
    }
}

/// What follows from a block that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// It is damaged, and the rest is read. A disk that dies may take half a minute for each.
    Damaged,
    /// No more is read: the slot is not whole, whatever the rest holds.
    Ends,
}

/// Reads a slot whose tree should be the one of `params`.
pub fn audit(
    root: &dyn BlockDevice,
    verity: &dyn BlockDevice,
    params: &VerityParams,
    unreadable: Unreadable,
    observe: &mut dyn FnMut(u64),
) -> Result<Audit, ApplyError> {
    let geometry = Geometry::new(params.data_blocks).map_err(io::Error::other);
    let geometry =
        geometry.map_err(|source| ApplyError::Device { what: "read the hash tree".to_owned(), source })?;
    let forgiving = (Forgiving::new(root), Forgiving::new(verity));
    let (root, verity): (&dyn BlockDevice, &dyn BlockDevice) = match unreadable {
        Unreadable::Damaged => (&forgiving.0, &forgiving.1),
        Unreadable::Ends => (root, verity),
    };
    let mut sink = Comparison {
        verity,
        leaves: geometry.leaf_offset(0).unwrap_or(u64::MAX),
        stored: AlignedBuffer::new(BLOCK),
        damaged: 0,
        blocks: Vec::new(),
        tree: None,
    };
    let found = read_tree(root, params, &mut sink, observe)?;
    for number in forgiving.0.unreadable() {
        // Where there should be zeros, they hash to the right thing.
        if sink.blocks.len() < MOST && !sink.blocks.contains(&number) {
            sink.damaged += 1;
            sink.blocks.push(number);
        }
    }
    sink.blocks.sort_unstable();
    let failed = |source| ApplyError::Device { what: "read the hash tree".to_owned(), source };
    let superblock = params.superblock().map_err(io::Error::other).map_err(failed)?;
    // What is above a damaged leaf differs, too, and says nothing new.
    let mut tree = if sink.damaged == 0 { sink.tree } else { None };
    if !sink.is_stored(0, &superblock.to_block()).map_err(failed)? {
        tree = Some(0);
    }
    Ok(Audit { found, damaged: sink.damaged, blocks: sink.blocks, tree })
}

/// The files of the image in `root` that have data in `blocks`; what belongs to no file is the file system's own.
pub fn files_in(root: &dyn BlockDevice, blocks: &[u64]) -> Result<BTreeSet<Vec<u8>>, ErofsError> {
    let blocks: BTreeSet<u64> = blocks.iter().copied().collect();
    let mut files = BTreeSet::new();
    Reader::open(Image(root))?.walk(&mut |path, node| {
        let inode = &node.inode;
        let whole = match inode.layout {
            DataLayout::Plain => inode.size.div_ceil(BLOCK_SIZE),
            DataLayout::Inline => inode.size / BLOCK_SIZE,
        };
        let start = u64::from(inode.block);
        if !inode.kind.is_device() && blocks.range(start..start.saturating_add(whole)).next().is_some() {
            files.insert(path.to_vec());
        }
        Ok(())
    })?;
    Ok(files)
}

/// Compares the tree that is made with the one that is stored.
struct Comparison<'a> {
    verity: &'a dyn BlockDevice,
    /// Where the leaves begin on the verity partition.
    leaves: u64,
    stored: AlignedBuffer,
    damaged: u64,
    blocks: Vec<u64>,
    tree: Option<u64>,
}

impl TreeSink for Comparison<'_> {
    type Error = io::Error;

    fn put(&mut self, offset: u64, block: &[u8; verity::BLOCK]) -> io::Result<()> {
        if self.is_stored(offset, block)? {
            return Ok(());
        }
        match offset.checked_sub(self.leaves) {
            Some(leaf) => self.compare(leaf / HASH_SIZE, block),
            None => self.tree = self.tree.or(Some(offset / BLOCK_SIZE)),
        }
        Ok(())
    }
}

impl Comparison<'_> {
    /// Whether the verity partition has this block.
    fn is_stored(&mut self, offset: u64, block: &[u8; BLOCK]) -> io::Result<bool> {
        self.verity.read_at(&mut self.stored, offset)?;
        Ok(self.stored[..] == block[..])
    }

    /// Compares hashes, the first of which is that of data block `first`.
    fn compare(&mut self, first: u64, block: &[u8; BLOCK]) {
        let pairs = block.chunks_exact(HASH_SIZE as usize).zip(self.stored.chunks_exact(HASH_SIZE as usize));
        for (number, _) in (first..).zip(pairs).filter(|(_, (made, stored))| made != stored) {
            self.damaged += 1;
            if self.blocks.len() < MOST {
                self.blocks.push(number);
            }
        }
    }
}
