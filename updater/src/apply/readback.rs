//! Reads a slot back from the device, past the page cache, and makes its hash tree on the way.

use std::io;
use std::sync::mpsc;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::digest::Digest;
use upright_manifests::name::Slot;
use upright_manifests::verity::{BLOCK, TreeBuilder, TreeError, TreeSink, VerityParams};
use upright_manifests::version::Version;

use super::error::ApplyError;
use super::first::First;
use super::tree::{CheckTreeError, TreeWriter, check_tree};
use crate::host::BlockDevice;
use crate::slot::{AlignedBuffer, IO_SIZE};

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

/// How many buffers the thread that reads may fill ahead.
const BUFFERS: usize = 3;

/// Takes the blocks of a tree as they are made. One type for all, so that there is one tree builder in the program.
pub(super) type Sink<'a> = Box<dyn FnMut(u64, &[u8; BLOCK]) -> io::Result<()> + 'a>;

/// The root hash of the image on `device`, for a tree with the salt and size in `params`.
pub fn root_hash_of(
    device: &dyn BlockDevice,
    params: &VerityParams,
    observe: &mut dyn FnMut(u64),
) -> Result<Digest, ApplyError> {
    read_tree(device, params, &mut |_: u64, _: &[u8; BLOCK]| Ok(()), observe)
}

/// The same, with the tree's blocks for `sink`.
pub(super) fn read_tree(
    device: &dyn BlockDevice,
    params: &VerityParams,
    sink: &mut dyn TreeSink<Error = io::Error>,
    observe: &mut dyn FnMut(u64),
) -> Result<Digest, ApplyError> {
    read(device, None, params, sink, observe)
}

/// Reads the root partition back and compares it with what was signed. Only then the image gets its first block, and the verity
/// partition its tree, the superblock last; both are read back too.
pub(super) fn verify(
    at: Partitions<'_>,
    first: &First<'_>,
    version: &Version,
    way: &str,
    params: &VerityParams,
    observe: &mut dyn FnMut(u64),
) -> Result<(), ApplyError> {
    let write = device_error("write the hash tree");
    let impossible = |source| ApplyError::Verity { version: version.clone(), source };
    params.geometry().map_err(impossible)?;
    let superblock = params.superblock().map_err(impossible)?;
    first.touch();
    let mut tree = TreeWriter::new(at.verity);
    let found = read(at.root, Some(first), params, &mut tree, observe)?;
    tree.flush().map_err(&write)?;
    if found != params.root_hash {
        let (slot, version, way) = (at.slot, version.clone(), way.to_owned());
        return Err(ApplyError::ReadBack { slot, version, way, expected: params.root_hash, found });
    }
    first.reveal().map_err(device_error("write the image's first block"))?;
    tree.complete(&superblock).map_err(&write)?;
    check_tree(at.verity, params).map_err(|error| match error {
        CheckTreeError::Verity(source) => impossible(source),
        CheckTreeError::Read(source) => device_error("read the hash tree back")(source),
        CheckTreeError::Damaged(block) => ApplyError::Tree { slot: at.slot, block },
    })
}

fn device_error(what: &'static str) -> impl Fn(io::Error) -> ApplyError {
    move |source| ApplyError::Device { what: what.to_owned(), source }
}

/// Builds the tree over the image on `device`. Reading and hashing go on at the same time.
fn read(
    device: &dyn BlockDevice,
    first: Option<&First<'_>>,
    params: &VerityParams,
    sink: &mut dyn TreeSink<Error = io::Error>,
    observe: &mut dyn FnMut(u64),
) -> Result<Digest, ApplyError> {
    let failed = device_error("read the slot back");
    let size = params.data_blocks.saturating_mul(BLOCK_SIZE);
    if size > device.size() {
        let reason = format!("{} bytes, {size} expected", device.size());
        return Err(failed(io::Error::new(io::ErrorKind::UnexpectedEof, reason)));
    }
    let sink: Sink<'_> = Box::new(|offset, block| sink.put(offset, block));
    let mut builder = TreeBuilder::new(params.salt, params.data_blocks, sink)
        .map_err(|error| failed(io::Error::other(error)))?;
    in_order(device, size, |bytes, offset| {
        if let Some(first) = first {
            first.overlay(bytes, offset..offset + bytes.len() as u64);
        }
        builder.update(bytes).map_err(tree_error)?;
        observe(offset + bytes.len() as u64);
        Ok(())
    })?;
    let (found, _) = builder.finish().map_err(tree_error)?;
    Ok(found.root_hash)
}

fn tree_error(error: TreeError<io::Error>) -> ApplyError {
    device_error("write the hash tree")(match error {
        TreeError::Sink(source) => source,
        error => io::Error::other(error.to_string()),
    })
}

/// Hands the first `size` bytes of a device to `take`, in order, while a thread reads ahead.
fn in_order(
    device: &dyn BlockDevice,
    size: u64,
    mut take: impl FnMut(&mut [u8], u64) -> Result<(), ApplyError>,
) -> Result<(), ApplyError> {
    let failed = device_error("read the slot back");
    std::thread::scope(|scope| {
        let (give_back, empty) = mpsc::sync_channel(BUFFERS);
        let (send, receive) = mpsc::sync_channel(BUFFERS);
        scope.spawn(move || {
            let mut fresh = BUFFERS;
            for offset in (0..size).step_by(IO_SIZE) {
                let buffer = match fresh {
                    0 => empty.recv().ok(),
                    _ => {
                        fresh -= 1;
                        Some(AlignedBuffer::new(IO_SIZE))
                    }
                };
                // Nobody takes what is read any more.
                let Some(mut buffer) = buffer else { return };
                let length = (size - offset).min(IO_SIZE as u64) as usize;
                let result = device.read_at(&mut buffer[..length], offset);
                if send.send(result.map(|()| (buffer, length, offset))).is_err() {
                    return;
                }
            }
        });
        for result in receive {
            let (mut buffer, length, offset) = result.map_err(&failed)?;
            take(&mut buffer[..length], offset)?;
            // The reader is gone when it has read everything.
            let _ = give_back.try_send(buffer);
        }
        Ok(())
    })
}
