//! Gets the blocks that are wanted: out of a slot that has them, or of frames of the full payload.

use upright_manifests::BLOCK_SIZE;
use upright_manifests::payload::{Frame, FrameError, Unpacker};
use upright_manifests::verity::{BLOCK, BlockHasher};

use super::damage::{Damage, Frames};
use super::leaves::block;
use super::{Blocks, Mending, Patient};
use crate::apply::error::{ApplyError, WayError};
use crate::fetch::{Fetcher, Parts};
use crate::host::BlockDevice;

/// The blocks that are somewhere on this host.
pub(super) fn from_here(patient: Patient<'_>, damage: &Damage) -> Result<Blocks, WayError> {
    let mut found = Blocks::new();
    for (number, want) in &damage.wanted {
        let Some((slot, at)) = want.here else { continue };
        let partitions = [Some(patient.slot), patient.other].into_iter().flatten();
        let Some(from) = partitions.filter(|partitions| partitions.slot == slot).map(|at| at.root).next()
        else {
            continue;
        };
        found.insert(*number, block(from, at).map_err(WayError::source("read a slot"))?);
    }
    Ok(found)
}

/// Hands over those that are in `frames`, which come in the image's order, so that each finds what it refers back to mended.
pub(super) fn from_frames(
    mending: &mut Mending<'_>,
    fetcher: &Fetcher<'_>,
    frames: &Frames,
    observe: &mut dyn FnMut(u64),
) -> Result<(), ApplyError> {
    let parts: Vec<_> = frames.frames.iter().map(Frame::range).collect();
    fetcher.with_parts(&frames.path, &parts, |parts| {
        let mut unpacker = Unpacker::new().map_err(|error| mending.told(error.into()))?;
        let mut done = 0;
        for frame in &frames.frames {
            let found =
                from_frame(mending, &mut unpacker, frame, parts).map_err(|error| mending.told(error))?;
            mending.take(found)?;
            done += u64::from(frame.packed);
            observe(done);
        }
        Ok(())
    })
}

/// The blocks that are wanted of the next frame.
fn from_frame(
    mending: &Mending<'_>,
    unpacker: &mut Unpacker,
    frame: &Frame,
    parts: &Parts<'_>,
) -> Result<Blocks, WayError> {
    let Patient { slot, params, .. } = mending.patient;
    let hasher = BlockHasher::new(&params.salt);
    let prefix = prefix(slot.root, frame, &mending.found)?;
    let packed = parts.next()?;
    let bytes = match unpacker.unpack(frame, &packed, &prefix) {
        Err(FrameError::Hash { .. }) => unpacker.unpack(frame, &parts.again()?, &prefix)?,
        outcome => outcome?,
    };
    let mut found = Blocks::new();
    for (block, number) in bytes.as_chunks::<BLOCK>().0.iter().zip(frame.start..) {
        let Some(want) = mending.damage.wanted.get(&number).filter(|want| want.here.is_none()) else {
            continue;
        };
        // A frame is what was signed; that it makes the image depends on what it refers back to.
        if want.leaf.is_some_and(|leaf| hasher.hash(block).as_bytes() != &leaf) {
            return Err(WayError::Other("image"));
        }
        found.insert(number, Box::new(*block));
    }
    Ok(found)
}

/// What a frame refers back to, with what was found in place of what is damaged.
fn prefix(root: &dyn BlockDevice, frame: &Frame, found: &Blocks) -> Result<Vec<u8>, WayError> {
    let mut bytes = vec![0; frame.prefix.bytes()];
    let numbers = frame.prefix_ranges().into_iter().flat_map(|range| range.step_by(BLOCK));
    for (block_, offset) in bytes.as_chunks_mut::<BLOCK>().0.iter_mut().zip(numbers) {
        let number = offset / BLOCK_SIZE;
        match found.get(&number) {
            Some(block) => *block_ = **block,
            None => *block_ = *block(root, number).map_err(WayError::source("read the slot"))?,
        }
    }
    Ok(bytes)
}
