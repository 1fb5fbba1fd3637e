//! Which blocks a slot holds: as its hash tree says, which is free to know, or as reading it tells.
//!
//! All of it is a hint. A tree that lies, because its slot is damaged, costs a download: the read-back tells.

use std::io;
use std::ops::Range;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::chunks::Scan;
use upright_manifests::digest::Digest;
use upright_manifests::verity::{BLOCK, BlockHasher, Geometry, Superblock, VerityParams};

use crate::host::BlockDevice;
use crate::slot::{AlignedBuffer, IO_SIZE};

/// Stands in the place of a superblock's signature while the slot is being written: nobody finds the tree, and who goes on
/// after a restart sees that the slot holds more than one release.
const CONCEALED: [u8; 8] = *b"uprthint";

/// A superblock's signature.
const SIGNATURE: [u8; 8] = *b"verity\0\0";

/// What is known of what a slot holds that is about to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing: it may never have held a release.
    Unknown,
    /// A release, to which nothing was done yet: its tree tells.
    Whole(Hint),
    /// An update began to write over it, and perhaps another one before that, in any order and as far as the power lasted. Only
    /// reading it tells what is where; it held a release of so many blocks, if any.
    Mixed(u64),
}

impl Before {
    /// What is known once something was written.
    pub(super) fn touched(self) -> Self {
        match self {
            Self::Unknown => Self::Mixed(0),
            Self::Whole(hint) => Self::Mixed(hint.blocks),
            Self::Mixed(blocks) => Self::Mixed(blocks),
        }
    }

    /// Takes the superblock of a hash tree away, durably.
    pub(super) fn conceal(verity: &dyn BlockDevice) -> io::Result<Self> {
        let mut block = first_block(verity)?;
        let was_concealed = block.starts_with(&CONCEALED);
        if was_concealed {
            block[..8].copy_from_slice(&SIGNATURE);
        }
        let hint = parse(&block);
        if hint.is_none() {
            block.fill(0);
        }
        block[..8].copy_from_slice(&CONCEALED);
        verity.write_at(&block[..], 0)?;
        verity.sync()?;
        Ok(match hint {
            _ if was_concealed => Self::Mixed(hint.map_or(0, |hint| hint.blocks)),
            Some(hint) => Self::Whole(hint),
            None => Self::Unknown,
        })
    }
}

/// A hash tree that may tell what a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hint {
    /// The salt of its hashes.
    pub(super) salt: Digest,
    /// How many blocks it covers.
    pub(super) blocks: u64,
}

impl Hint {
    /// The tree on a verity partition that nothing is written to.
    pub(super) fn of(verity: &dyn BlockDevice) -> io::Result<Option<Self>> {
        Ok(parse(&*first_block(verity)?))
    }

    /// The tree that [`super::tree`] has just written.
    pub(super) fn written(params: &VerityParams) -> Self {
        Self { salt: params.salt, blocks: params.data_blocks }
    }

    /// Hands the hashes of the slot's blocks to the search.
    pub(super) fn scan(&self, verity: &dyn BlockDevice, mut scan: Scan<'_, '_>) -> io::Result<()> {
        let mut leaves = Leaves::new(self, verity)?;
        while let Some(some) = leaves.some()? {
            some.iter().for_each(|leaf| scan.push(leaf));
        }
        Ok(())
    }

    /// Which blocks two slots have in common at the same places; the first is never among them.
    pub(super) fn common(
        a: (&Self, &dyn BlockDevice),
        b: (&Self, &dyn BlockDevice),
    ) -> io::Result<Vec<bool>> {
        let mut common = Vec::new();
        if a.0.salt != b.0.salt {
            return Ok(common);
        }
        let (mut a, mut b) = (Leaves::new(a.0, a.1)?, Leaves::new(b.0, b.1)?);
        while let (Some(a), Some(b)) = (a.some()?, b.some()?) {
            common.extend(a.iter().zip(b).map(|(a, b)| a == b));
        }
        if let Some(first) = common.first_mut() {
            *first = false;
        }
        Ok(common)
    }
}

/// Reads blocks of a root partition and hands their hashes to the search. Those before `blocks`, and those beside one that cannot
/// be read, are none that could be used.
pub(super) fn scan_content(
    root: &dyn BlockDevice,
    salt: &Digest,
    blocks: Range<u64>,
    mut scan: Scan<'_, '_>,
    observe: &mut dyn FnMut(u64),
) {
    // Nothing hashes to zeros.
    const NOTHING: [u8; 32] = [0; 32];
    let hasher = BlockHasher::new(salt);
    let mut buffer = AlignedBuffer::new(IO_SIZE);
    (0..blocks.start).for_each(|_| scan.push(&NOTHING));
    let end = blocks.end.min(root.size() / BLOCK_SIZE);
    for start in (blocks.start..end).step_by(IO_SIZE / BLOCK) {
        let count = (end - start).min((IO_SIZE / BLOCK) as u64);
        let bytes = &mut buffer[..count as usize * BLOCK];
        let readable = root.read_at(bytes, start * BLOCK_SIZE).is_ok();
        for block in bytes.as_chunks().0 {
            match readable {
                true => scan.push(hasher.hash(block).as_bytes()),
                false => scan.push(&NOTHING),
            }
        }
        observe((start + count) * BLOCK_SIZE);
    }
}

/// The hashes of blocks in a tree, read in large pieces.
pub(super) struct Leaves<'a> {
    verity: &'a dyn BlockDevice,
    /// Where the next ones are, and how many are left.
    offset: u64,
    left: u64,
    buffer: AlignedBuffer,
}

impl<'a> Leaves<'a> {
    /// Those of a whole tree; none where there is not even room for one.
    pub(super) fn new(hint: &Hint, verity: &'a dyn BlockDevice) -> io::Result<Self> {
        let geometry = Geometry::new(hint.blocks).map_err(io::Error::other)?;
        let start = geometry.leaf_offset(0).filter(|_| geometry.hash_size() <= verity.size());
        let (offset, left) = start.map_or((0, 0), |start| (start, hint.blocks));
        Ok(Self { verity, offset, left, buffer: AlignedBuffer::new(IO_SIZE) })
    }

    /// The next ones, of all trees as many; `None` at the end.
    pub(super) fn some(&mut self) -> io::Result<Option<&[[u8; 32]]>> {
        let hashes = self.left.min((IO_SIZE / 32) as u64);
        if hashes == 0 {
            return Ok(None);
        }
        let bytes = (hashes * 32).next_multiple_of(BLOCK_SIZE) as usize;
        self.verity.read_at(&mut self.buffer[..bytes], self.offset)?;
        self.offset += bytes as u64;
        self.left -= hashes;
        Ok(Some(self.buffer[..hashes as usize * 32].as_chunks().0))
    }
}

fn first_block(verity: &dyn BlockDevice) -> io::Result<Box<[u8; BLOCK]>> {
    let mut block = Box::new([0; BLOCK]);
    verity.read_at(&mut block[..], 0)?;
    Ok(block)
}

fn parse(block: &[u8; BLOCK]) -> Option<Hint> {
    let superblock = Superblock::parse_block(block).ok()?;
    Some(Hint { salt: superblock.salt, blocks: superblock.data_blocks })
}
