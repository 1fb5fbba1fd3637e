//! The way by the full payload: zstd frames, each checked before it is unpacked.

use upright_manifests::BLOCK_SIZE;
use upright_manifests::payload::{Frame, FrameError, Head, MAX_HEAD_BYTES, MAX_PREFIX_BLOCKS, Unpacker};
use upright_manifests::release::RootImage;

use super::error::WayError;
use super::install::Observer;
use super::target::Target;
use crate::fetch::{Fetcher, Parts};
use crate::slot::AlignedBuffer;

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
        write(parts, frames, &mut FrameUnpacker::new()?, target, observer)
    })?;
    target.finish().map_err(WayError::device("write the slot"))
}

/// Writes frames as they come.
pub(super) fn write(
    parts: &Parts<'_>,
    frames: &[Frame],
    unpacker: &mut FrameUnpacker,
    target: &mut Target<'_>,
    observer: &mut Observer<'_>,
) -> Result<(), WayError> {
    for frame in frames {
        let packed = parts.next()?;
        match unpacker.unpack(frame, &packed, target) {
            Err(WayError::Frame(FrameError::Hash { .. })) => {
                unpacker.unpack(frame, &parts.again()?, target)?
            }
            outcome => outcome?,
        }
        target.commit(frame.unpacked()).map_err(WayError::device("write the slot"))?;
        observer.at(target.position());
    }
    Ok(())
}

/// Unpacks frames into a target that has everything before them.
pub(super) struct FrameUnpacker {
    unpacker: Unpacker,
    prefix: Option<AlignedBuffer>,
}

impl FrameUnpacker {
    pub(super) fn new() -> Result<Self, WayError> {
        Ok(Self { unpacker: Unpacker::new()?, prefix: None })
    }

    /// Puts what the frame holds where [`Target::reserve`] says.
    fn unpack(&mut self, frame: &Frame, packed: &[u8], target: &mut Target<'_>) -> Result<(), WayError> {
        let mut prefix: &mut [u8] = &mut [];
        if frame.prefix.bytes() > 0 {
            let most = MAX_PREFIX_BLOCKS as usize * BLOCK_SIZE as usize;
            prefix = &mut self.prefix.get_or_insert_with(|| AlignedBuffer::new(most))[..frame.prefix.bytes()];
            let mut at = 0;
            for range in frame.prefix_ranges() {
                let length = (range.end - range.start) as usize;
                let part = &mut prefix[at..at + length];
                target.read_back(part, range.start).map_err(WayError::source("read what was written"))?;
                at += length;
            }
        }
        let room = target.reserve(frame.unpacked()).map_err(WayError::device("write the slot"))?;
        Ok(self.unpacker.unpack_into(frame, packed, prefix, room)?)
    }
}
