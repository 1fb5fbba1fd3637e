//! The way by the full payload: independent zstd frames, each checked before it is unpacked.

use upright_manifests::BLOCK_SIZE;
use upright_manifests::payload::{Frame, FrameError, Head, MAX_HEAD_BYTES, Unpacker};
use upright_manifests::release::RootImage;

use super::error::WayError;
use super::install::Observer;
use super::target::Target;
use crate::fetch::{Fetcher, Parts};

/// Fetches the head of the full payload.
pub(super) fn payload_head(fetcher: &Fetcher<'_>, root: &RootImage) -> Result<Head, WayError> {
    let head = Head::parse(&fetcher.head(&root.full, MAX_HEAD_BYTES)?)?;
    match head.image_size() == root.size && head.file_size() == root.full.size {
        true => Ok(head),
        false => Err(WayError::Other("image")),
    }
}

/// Writes all frames that the target does not have yet.
pub(super) fn run(
    fetcher: &Fetcher<'_>,
    root: &RootImage,
    target: &mut Target<'_>,
    observer: &mut Observer<'_>,
) -> Result<(), WayError> {
    let head = payload_head(fetcher, root)?;
    let done = |frame: &Frame| frame.start * BLOCK_SIZE + frame.unpacked() as u64 <= target.durable();
    let frames = &head.frames[head.frames.partition_point(done)..];
    if let Some(frame) = frames.first() {
        target.seek(frame.start * BLOCK_SIZE).map_err(WayError::device("write the slot"))?;
    }
    let parts: Vec<_> = frames.iter().map(Frame::range).collect();
    fetcher.with_parts(root.full.path.as_str(), &parts, |parts| {
        write(parts, frames, &mut Unpacker::new()?, target, observer)
    })?;
    target.finish().map_err(WayError::device("write the slot"))
}

/// Writes frames as they come.
pub(super) fn write(
    parts: &Parts<'_>,
    frames: &[Frame],
    unpacker: &mut Unpacker,
    target: &mut Target<'_>,
    observer: &mut Observer<'_>,
) -> Result<(), WayError> {
    for frame in frames {
        let packed = parts.next()?;
        let room = target.reserve(frame.unpacked()).map_err(WayError::device("write the slot"))?;
        match unpacker.unpack_into(frame, &packed, room) {
            Err(FrameError::Hash { .. }) => unpacker.unpack_into(frame, &parts.again()?, room)?,
            outcome => outcome?,
        }
        target.commit(frame.unpacked()).map_err(WayError::device("write the slot"))?;
        observer.at(target.position());
    }
    Ok(())
}
