//! Which blocks the hash tree of a slot says it holds: free to know, and only a hint.
//!
//! A tree that lies, because its slot was half written or is damaged, costs a download: the read-back tells.

use std::io;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::chunks::Scan;
use upright_manifests::digest::Digest;
use upright_manifests::verity::{BLOCK, Geometry, Superblock, VerityParams};

use crate::host::BlockDevice;
use crate::slot::{AlignedBuffer, IO_SIZE};

/// Stands in the place of a superblock's signature while the slot is being written front to back: the tree tells what the part
/// holds that is not written yet.
const CONCEALED: [u8; 8] = *b"uprthint";

/// A superblock's signature.
const SIGNATURE: [u8; 8] = *b"verity\0\0";

/// A hash tree that may tell what a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hint {
    /// The salt of its hashes.
    pub(super) salt: Digest,
    /// How many blocks it covers.
    blocks: u64,
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

    /// Takes the superblock away, durably. A whole tree still tells what the slot holds, also after a restart; what is left of one
    /// that an earlier update wrote over does not.
    pub(super) fn conceal(verity: &dyn BlockDevice, resumed: bool) -> io::Result<Option<Self>> {
        let mut block = first_block(verity)?;
        let hint = if resumed && block.starts_with(&CONCEALED) {
            block[..8].copy_from_slice(&SIGNATURE);
            parse(&block)
        } else if resumed {
            None
        } else {
            parse(&block)
        };
        let concealed = match hint {
            Some(_) => {
                block[..8].copy_from_slice(&CONCEALED);
                block
            }
            None => Box::new([0; BLOCK]),
        };
        verity.write_at(&concealed[..], 0)?;
        verity.sync()?;
        Ok(hint)
    }

    /// Hands the hashes of the slot's blocks to the search, from block `from` on.
    pub(super) fn scan(&self, verity: &dyn BlockDevice, from: u64, mut scan: Scan<'_, '_>) -> io::Result<()> {
        let mut leaves = Leaves::new(self, verity)?;
        let mut number = 0;
        while let Some(some) = leaves.some()? {
            for leaf in some {
                // Nothing hashes to zeros.
                scan.push(if number < from { &[0; 32] } else { leaf });
                number += 1;
            }
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
