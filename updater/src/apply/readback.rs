//! Reads a slot back from the device, past the page cache, and makes its hash tree on the way.

use std::io;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::digest::Digest;
use upright_manifests::name::Slot;
use upright_manifests::verity::{
    BLOCK, BlockHasher, SUPERBLOCK_SIZE, TreeBuilder, TreeError, TreeSink, VerityParams,
};
use upright_manifests::version::Version;

use super::error::ApplyError;
use crate::host::BlockDevice;
use crate::slot::IO_SIZE;

/// The partitions of a slot.
#[derive(Clone, Copy)]
pub struct Partitions<'a> {
    /// Which slot.
    pub slot: Slot,
    /// The root partition.
    pub root: &'a dyn BlockDevice,
    /// The verity partition.
    pub verity: &'a dyn BlockDevice,
}

/// The root hash of the image on `device`, for a tree with the salt and size in `params`.
pub fn root_hash_of(
    device: &dyn BlockDevice,
    params: &VerityParams,
    observe: &mut dyn FnMut(u64),
) -> Result<Digest, ApplyError> {
    read(device, params, |_: u64, _: &[u8; BLOCK]| Ok(()), observe).map(|(root_hash, _)| root_hash)
}

/// Reads the root partition back, compares it with what was signed, and gives the verity partition its tree, the superblock
/// last, which is then read back too.
pub fn verify(
    at: Partitions<'_>,
    version: &Version,
    way: &str,
    params: &VerityParams,
    observe: &mut dyn FnMut(u64),
) -> Result<(), ApplyError> {
    let (found, mut sink) = read(at.root, params, TreeWriter::new(at.verity), observe)?;
    if found != params.root_hash {
        return Err(ApplyError::ReadBack {
            slot: at.slot,
            version: version.clone(),
            way: way.to_owned(),
            expected: params.root_hash,
            found,
        });
    }
    let write = device_error("write the hash tree");
    sink.flush().map_err(&write)?;
    at.verity.sync().map_err(&write)?;
    let superblock =
        params.superblock().map_err(|source| ApplyError::Verity { version: version.clone(), source })?;
    let mut block = vec![0; BLOCK];
    block[..SUPERBLOCK_SIZE].copy_from_slice(&superblock.to_bytes());
    at.verity.write_at(&block, 0).map_err(&write)?;
    at.verity.sync().map_err(&write)?;
    check_tree(at, params, version)
}

/// Takes the tree's superblock away, so that what the slot holds cannot be taken for an image.
pub(super) fn invalidate(verity: &dyn BlockDevice) -> Result<(), ApplyError> {
    let write = device_error("clear the hash tree");
    verity.write_at(&vec![0; BLOCK], 0).map_err(&write)?;
    verity.sync().map_err(write)
}

fn device_error(what: &'static str) -> impl Fn(io::Error) -> ApplyError {
    move |source| ApplyError::Device { what: what.to_owned(), source }
}

fn read<S: TreeSink<Error = io::Error>>(
    device: &dyn BlockDevice,
    params: &VerityParams,
    sink: S,
    observe: &mut dyn FnMut(u64),
) -> Result<(Digest, S), ApplyError> {
    let failed = device_error("read the slot back");
    let tree = |error: TreeError<io::Error>| ApplyError::Device {
        what: "write the hash tree".to_owned(),
        source: io::Error::other(error),
    };
    let size = params.data_blocks * BLOCK_SIZE;
    if size > device.size() {
        let reason = format!("{} bytes, {size} expected", device.size());
        return Err(failed(io::Error::new(io::ErrorKind::UnexpectedEof, reason)));
    }
    let mut builder = TreeBuilder::new(params.salt, params.data_blocks, sink)
        .map_err(|error| failed(io::Error::other(error)))?;
    let mut buffer = vec![0; IO_SIZE];
    let mut offset = 0;
    while offset < size {
        let part = (size - offset).min(IO_SIZE as u64) as usize;
        device.read_at(&mut buffer[..part], offset).map_err(&failed)?;
        builder.update(&buffer[..part]).map_err(tree)?;
        offset += part as u64;
        observe(offset);
    }
    let (found, sink) = builder.finish().map_err(tree)?;
    Ok((found.root_hash, sink))
}

/// Compares the tree on the device with its root hash, level by level from the top, and the superblock with the parameters.
fn check_tree(at: Partitions<'_>, params: &VerityParams, version: &Version) -> Result<(), ApplyError> {
    let impossible = |source| ApplyError::Verity { version: version.clone(), source };
    let read = device_error("read the hash tree back");
    let damaged = |block| ApplyError::Tree { slot: at.slot, block };
    let mut block = [0; BLOCK];
    at.verity.read_at(&mut block, 0).map_err(&read)?;
    if block[..SUPERBLOCK_SIZE] != params.superblock().map_err(impossible)?.to_bytes() {
        return Err(damaged(0));
    }
    let hasher = BlockHasher::new(&params.salt);
    let mut expected = vec![params.root_hash];
    for level in params.geometry().map_err(impossible)?.levels().iter().rev() {
        let mut below = Vec::new();
        for number in 0..level.blocks {
            let at_block = level.start + number;
            at.verity.read_at(&mut block, at_block * BLOCK_SIZE).map_err(&read)?;
            if expected.get(number as usize) != Some(&hasher.hash(&block)) {
                return Err(damaged(at_block));
            }
            // The hashes in the leaves are those of the data, which was compared already.
            if level.start + level.blocks < params.hash_size / BLOCK_SIZE {
                below.extend(block.as_chunks::<32>().0.iter().map(|hash| Digest::from(*hash)));
            }
        }
        expected = below;
    }
    Ok(())
}

/// Writes the blocks of a tree in runs.
struct TreeWriter<'a> {
    device: &'a dyn BlockDevice,
    start: u64,
    run: Vec<u8>,
}

impl<'a> TreeWriter<'a> {
    fn new(device: &'a dyn BlockDevice) -> Self {
        Self { device, start: 0, run: Vec::with_capacity(IO_SIZE) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.run.is_empty() {
            self.device.write_at(&self.run, self.start)?;
            self.run.clear();
        }
        Ok(())
    }
}

impl TreeSink for TreeWriter<'_> {
    type Error = io::Error;

    fn put(&mut self, offset: u64, block: &[u8; BLOCK]) -> io::Result<()> {
        if offset != self.start + self.run.len() as u64 || self.run.len() == IO_SIZE {
            self.flush()?;
        }
        if self.run.is_empty() {
            self.start = offset;
        }
        self.run.extend_from_slice(block);
        Ok(())
    }
}
