//! The way by the full payload: independent zstd frames, each checked before it is unpacked.

use std::io::Write;
use std::sync::atomic::AtomicU64;

use upright_manifests::payload::{Frame, Head, MAX_HEAD_BYTES, Unpacker};
use upright_manifests::release::RootImage;

use super::error::WayError;
use super::install::Observer;
use super::target::Target;
use crate::fetch::{Parts, Retry, head, with_parts};
use crate::host::Remote;

/// Fetches the head of the full payload.
pub(super) fn payload_head(remote: &dyn Remote, root: &RootImage, retry: Retry) -> Result<Head, WayError> {
    let head = Head::parse(&head(remote, &root.full, MAX_HEAD_BYTES, retry)?)?;
    match head.image_size() == root.size && head.file_size() == root.full.size {
        true => Ok(head),
        false => Err(WayError::Other("image")),
    }
}

/// Writes all frames that the target does not have yet.
pub(super) fn run(
    remote: &dyn Remote,
    root: &RootImage,
    retry: Retry,
    target: &mut Target<'_>,
    fetched: &AtomicU64,
    observer: &mut Observer<'_>,
) -> Result<(), WayError> {
    let head = payload_head(remote, root, retry)?;
    let first = head.frames.partition_point(|frame| {
        frame.start * upright_manifests::BLOCK_SIZE + frame.unpacked() as u64 <= target.durable()
    });
    let frames = &head.frames[first..];
    if let Some(frame) = frames.first() {
        target.rewind(frame.start * upright_manifests::BLOCK_SIZE);
    }
    let parts: Vec<_> = frames.iter().map(Frame::range).collect();
    with_parts(remote, root.full.path.as_str(), &parts, retry, fetched, |parts| {
        write(parts, frames, &mut Unpacker::new()?, target, observer)
    })?;
    target.finish().map_err(WayError::device("write the slot"))
}

/// Writes frames as they come.
pub(super) fn write(
    parts: &Parts,
    frames: &[Frame],
    unpacker: &mut Unpacker,
    target: &mut Target<'_>,
    observer: &mut Observer<'_>,
) -> Result<(), WayError> {
    for frame in frames {
        let packed = parts.next()?;
        target.write_all(unpacker.unpack(frame, &packed)?).map_err(WayError::device("write the slot"))?;
        observer.at(target.position());
    }
    Ok(())
}
