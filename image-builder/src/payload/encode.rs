//! Cuts an image into frames and compresses them on all cores.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::chunks::Leaf;
use upright_manifests::digest::Digest;
use upright_manifests::payload::{
    Frame, Head, MAX_BLOCKS, MAX_FRAME_BLOCKS, MAX_PREFIX_BLOCKS, Prefix, head_bytes,
};
use zstd::zstd_safe::{CCtx, CParameter, get_error_name};

use super::far;
use super::parts::{PartWriter, Parted};
use crate::erofs::Run;
use crate::parallel;

/// How to encode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The zstd level, 1 to 22.
    pub level: i32,
    /// The length of a frame in blocks, at most [`MAX_FRAME_BLOCKS`].
    pub frame_blocks: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { level: 19, frame_blocks: MAX_FRAME_BLOCKS }
    }
}

/// Why a payload could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Too large, or not made of whole blocks.
    #[error(
        "image of {0} bytes cannot be a payload: it must have whole blocks of {BLOCK_SIZE} bytes, at most {MAX_BLOCKS}"
    )]
    Size(u64),
    /// Options out of range.
    #[error("frames of {0} blocks are not possible: 1 to {MAX_FRAME_BLOCKS} are")]
    FrameBlocks(u32),
    /// The image could not be read.
    #[error("cannot read the image at byte {offset}: {error}")]
    Read {
        /// Where.
        offset: u64,
        /// What happened.
        error: io::Error,
    },
    /// The payload of the former release could not be read.
    #[error(
        "cannot read the former release's full payload at byte {offset}: {error}; remove it and publish again"
    )]
    Former {
        /// Where.
        offset: u64,
        /// What happened.
        error: io::Error,
    },
    /// zstd refused.
    #[error("cannot compress the image: {0}")]
    Compress(&'static str),
    /// The payload could not be written.
    #[error("cannot write the payload: {0}")]
    Write(io::Error),
}

/// The full payload of a former release.
pub struct Former<'a> {
    /// The payload.
    pub file: &'a File,
    /// Its head.
    pub head: Head,
    /// The hashes of its image's blocks.
    pub leaves: &'a [Leaf],
}

/// Encodes `image`, whose blocks have the hashes `leaves`, into the empty file `out`, open for reading and writing. Frames of
/// `former`, made with the same options, that hold the same at the same place and refer to the same are taken as they are.
///
/// `fresh` are the runs of blocks that the releases before do not have, ascending: they get frames of their own, so that a host
/// that fetches only what it lacks fetches little else. Equal arguments give equal bytes. `done` hears how many bytes of the
/// image are encoded.
pub fn encode(
    image: &File,
    leaves: &[Leaf],
    fresh: &[Run],
    former: Option<&Former<'_>>,
    options: &Options,
    out: &File,
    done: &dyn Fn(u64),
) -> Result<(Parted, Head), PayloadError> {
    let size = image.metadata().map_err(|error| PayloadError::Read { offset: 0, error })?.len();
    if !size.is_multiple_of(BLOCK_SIZE) || size / BLOCK_SIZE > MAX_BLOCKS {
        return Err(PayloadError::Size(size));
    }
    if options.frame_blocks == 0 || options.frame_blocks > MAX_FRAME_BLOCKS {
        return Err(PayloadError::FrameBlocks(options.frame_blocks));
    }
    let blocks = size / BLOCK_SIZE;
    let kept: Vec<&Frame> = former.map_or_else(Vec::new, |former| former.kept(leaves));
    let runs = cut(blocks, &kept, fresh, u64::from(options.frame_blocks));
    let kept: BTreeMap<u64, &Frame> = kept.into_iter().map(|frame| (frame.start, frame)).collect();
    let read = |run: Run| read(image, run);
    let mut prefixes = prefixes(&runs, &far::similar(&runs, &read)?);
    for (prefix, run) in prefixes.iter_mut().zip(&runs) {
        *prefix = kept.get(&run.start).map_or(*prefix, |frame| frame.prefix);
    }
    let mut writer = PartWriter::new(out, head_bytes(runs.len())).map_err(PayloadError::Write)?;
    let mut frames = Vec::with_capacity(runs.len());
    parallel::ordered(
        runs.len(),
        |number| match (kept.get(&runs[number].start), former) {
            (Some(frame), Some(former)) => former.packed(frame),
            _ => compress(&read, runs[number], prefixes[number], options.level),
        },
        |packed| {
            let run = runs[frames.len()];
            let offset = writer.part(&packed).map_err(PayloadError::Write)?;
            frames.push(Frame {
                offset,
                packed: packed.len() as u32,
                start: run.start,
                blocks: run.blocks as u32,
                prefix: prefixes[frames.len()],
                sha256: Digest::of(&packed),
            });
            done((run.start + run.blocks) * BLOCK_SIZE);
            Ok(())
        },
    )?;
    let head = Head { blocks, frames };
    let parted = writer.finish(&head.to_bytes()).map_err(PayloadError::Write)?;
    Ok((parted, head))
}

impl Former<'_> {
    /// The frames that an image whose blocks have the hashes `leaves` can take as they are.
    fn kept(&self, leaves: &[Leaf]) -> Vec<&Frame> {
        let same = |range: Range<u64>| {
            let range = (range.start / BLOCK_SIZE) as usize..(range.end / BLOCK_SIZE) as usize;
            leaves.get(range.clone()).is_some_and(|new| self.leaves.get(range) == Some(new))
        };
        let stands = |frame: &&Frame| {
            let start = frame.start * BLOCK_SIZE;
            same(start..start + frame.unpacked() as u64) && frame.prefix_ranges().into_iter().all(same)
        };
        self.head.frames.iter().filter(stands).collect()
    }

    fn packed(&self, frame: &Frame) -> Result<Vec<u8>, PayloadError> {
        let mut packed = vec![0; frame.packed as usize];
        let failed = |error| PayloadError::Former { offset: frame.offset, error };
        self.file.read_exact_at(&mut packed, frame.offset).map_err(failed)?;
        if Digest::of(&packed) != frame.sha256 {
            return Err(failed(io::ErrorKind::InvalidData.into()));
        }
        Ok(packed)
    }
}

/// Fresh runs closer together than this share a frame, in blocks.
const NEAR: u64 = 8;

/// The frames' blocks: those of former frames that are kept, and between them fresh runs apart from what is around them, each in
/// even parts of at most `longest`.
fn cut(blocks: u64, kept: &[&Frame], fresh: &[Run], longest: u64) -> Vec<Run> {
    let mut frames = Vec::new();
    let mut start = 0;
    for frame in kept {
        cut_between(start, frame.start, fresh, longest, &mut frames);
        frames.push(Run { start: frame.start, blocks: frame.blocks.into() });
        start = frame.start + u64::from(frame.blocks);
    }
    cut_between(start, blocks, fresh, longest, &mut frames);
    frames
}

fn cut_between(mut start: u64, end: u64, fresh: &[Run], longest: u64, frames: &mut Vec<Run>) {
    let mut runs: Vec<Run> = Vec::new();
    for run in
        fresh.iter().filter(|run| run.blocks > 0 && run.start >= start && run.start + run.blocks <= end)
    {
        match runs.last_mut() {
            Some(last) if run.start < last.start + last.blocks + NEAR => {
                last.blocks = last.blocks.max(run.start + run.blocks - last.start);
            }
            _ => runs.push(*run),
        }
    }
    for run in runs {
        split(start, run.start - start, longest, frames);
        split(run.start, run.blocks, longest, frames);
        start = run.start + run.blocks;
    }
    split(start, end - start, longest, frames);
}

fn split(start: u64, blocks: u64, longest: u64, frames: &mut Vec<Run>) {
    let parts = blocks.div_ceil(longest);
    let edge = |n: u64| start + blocks * n / parts;
    frames.extend((0..parts).map(|n| Run { start: edge(n), blocks: edge(n + 1) - edge(n) }));
}

/// What each frame is compressed with: what is similar to it, and as many blocks before it as are worth the time to look
/// through, which is little for a short frame.
fn prefixes(runs: &[Run], similar: &[Option<Run>]) -> Vec<Prefix> {
    let of = |(run, similar): (&Run, &Option<Run>)| {
        let most = (run.blocks * WORTH).clamp(LEAST, u64::from(MAX_PREFIX_BLOCKS));
        let far = similar.map(|far| Run { blocks: far.blocks.min(most / 2), ..far });
        let far = far.unwrap_or(Run { start: 0, blocks: 0 });
        let near = (most - far.blocks).min(run.start - (far.start + far.blocks));
        Prefix { far_start: far.start as u32, far: far.blocks as u32, near: near as u32 }
    };
    runs.iter().zip(similar).map(of).collect()
}

/// Blocks of a prefix for each block of its frame.
const WORTH: u64 = 4;
/// Blocks of a prefix that any frame may have.
const LEAST: u64 = 64;

fn read(image: &File, run: Run) -> Result<Vec<u8>, PayloadError> {
    let offset = run.start * BLOCK_SIZE;
    let mut bytes = vec![0; (run.blocks * BLOCK_SIZE) as usize];
    image.read_exact_at(&mut bytes, offset).map_err(|error| PayloadError::Read { offset, error })?;
    Ok(bytes)
}

/// Reads blocks of the image.
pub(super) type Read<'a> = &'a (dyn Fn(Run) -> Result<Vec<u8>, PayloadError> + Sync);

fn compress(read: Read<'_>, run: Run, prefix: Prefix, level: i32) -> Result<Vec<u8>, PayloadError> {
    let failed = |code| PayloadError::Compress(get_error_name(code));
    let near = u64::from(prefix.near);
    let mut before = read(Run { start: prefix.far_start.into(), blocks: prefix.far.into() })?;
    before.extend(read(Run { start: run.start - near, blocks: near })?);
    let bytes = read(run)?;
    let mut context = CCtx::create();
    context.set_parameter(CParameter::CompressionLevel(level)).map_err(failed)?;
    if !before.is_empty() {
        // The window must reach back to where the prefix starts.
        let window = (before.len() + bytes.len()).next_power_of_two().ilog2();
        context.set_parameter(CParameter::WindowLog(window)).map_err(failed)?;
        context.ref_prefix(&before).map_err(failed)?;
    }
    let mut packed = Vec::with_capacity(Frame::max_packed(run.blocks as u32) as usize);
    context.compress2(&mut packed, &bytes).map_err(failed)?;
    drop(context);
    Ok(packed)
}

#[cfg(test)]
mod cuts {
    use super::*;

    fn runs<const N: usize>(runs: [(u64, u64); N]) -> Vec<Run> {
        runs.map(|(start, blocks)| Run { start, blocks }).to_vec()
    }

    #[test]
    fn fresh_runs_get_frames_of_their_own() {
        assert_eq!(cut(100, &[], &[], 40), runs([(0, 33), (33, 33), (66, 34)]));
        let fresh = runs([(4, 2), (9, 1), (20, 10)]);
        assert_eq!(cut(30, &[], &fresh, 40), runs([(0, 4), (4, 6), (10, 10), (20, 10)]));
        assert_eq!(cut(0, &[], &[], 40), []);
        assert_eq!(cut(10, &[], &runs([(0, 10)]), 40), runs([(0, 10)]));
        let kept = Frame {
            offset: 0,
            packed: 1,
            start: 10,
            blocks: 7,
            prefix: Prefix::default(),
            sha256: Digest::of(b""),
        };
        assert_eq!(cut(30, &[&kept], &fresh, 40), runs([(0, 4), (4, 6), (10, 7), (17, 3), (20, 10)]));
    }
}
