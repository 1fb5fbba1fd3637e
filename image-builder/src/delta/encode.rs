//! From two images and their layouts to a delta.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use upright_manifests::BLOCK_SIZE;
use upright_manifests::delta::{Head, Input, Kind, PackError, Source};
use upright_manifests::digest::Digest;

use super::edit::{Edit, What, push};
use super::effort;
use super::file::{Files, Made};
use super::old::Old;
use super::pairing::Candidates;
use super::pieces::{self, Content, Piece};
use super::segments::{self, Bytes, Images, Stretch};
use super::similar;
use crate::erofs::{Layout, Run};
use crate::parallel;
use crate::payload::Parted;

/// An image to find differences between.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// The image.
    pub image: &'a File,
    /// Where its files are.
    pub layout: &'a Layout,
    /// Its dm-verity root hash.
    pub root_hash: Digest,
}

/// How to encode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The zstd level, 1 to 22.
    pub level: i32,
}

impl Default for Options {
    fn default() -> Self {
        Self { level: 19 }
    }
}

/// How a target is made, in bytes of the target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Copied from a source.
    pub copied: u64,
    /// Similar to a source.
    pub added: u64,
    /// Brought along.
    pub literal: u64,
    /// Zeros.
    pub zero: u64,
    /// Compressed as it was before.
    pub rebuilt: u64,
}

/// Why a delta could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// A layout that does not fit its image.
    #[error("layout and image do not agree: {0}")]
    Layout(String),
    /// An image could not be read.
    #[error("cannot read {length} bytes of an image at byte {offset}: {error}")]
    Read {
        /// Where.
        offset: u64,
        /// How many.
        length: u64,
        /// What happened.
        error: io::Error,
    },
    /// What should stand in both places does not.
    #[error("byte {at} of the UKI and byte {root_offset} of the root image differ")]
    Part {
        /// Where in the UKI the part starts.
        at: u64,
        /// Where in the root image it should be.
        root_offset: u64,
    },
    /// A segment could not be packed.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The delta could not be written.
    #[error("cannot write the delta: {0}")]
    Write(io::Error),
}

/// Writes the delta that turns `source` into `target` into the empty file `out`, open for reading and
/// writing. Equal arguments give equal bytes. `done` hears how many bytes of the target are done; each counts twice, once
/// matched and once packed.
pub fn encode(
    source: Side<'_>,
    target: Side<'_>,
    options: &Options,
    out: &File,
    done: &(dyn Fn(u64) + Sync),
) -> Result<(Parted, Stats), DeltaError> {
    pieces::check(source.layout, source.image)?;
    pieces::check(target.layout, target.image)?;
    let (mut old, new) = (Candidates::new(source.layout), Candidates::new(target.layout));
    old.pair(similar::pairs(source, target, &old, &new)?);
    let files = Files { source, target, old, new };
    let pieces = pieces::of(target.layout);
    let matched = AtomicU64::new(0);
    let made = parallel::map(&pieces, |piece| {
        let made = edits(&files, piece);
        let length = piece.run.blocks * BLOCK_SIZE;
        done(matched.fetch_add(length, Ordering::Relaxed) + length);
        made
    })?;
    let size = |side: Side<'_>| side.layout.blocks * BLOCK_SIZE;
    let input = |at, side: Side<'_>| Input { source: at, size: size(side), id: side.root_hash };
    let mut inputs = vec![input(Source::Base, source)];
    if made.iter().any(|made| made.late) {
        inputs.push(input(Source::Root, target));
    }
    let mut made = independent(&pieces, made);
    effort::bound(&mut made, effort::MOST);
    let stretches = stretches(&pieces, made);
    let head = Head {
        kind: Kind::Root,
        memory: 0,
        target_size: size(target),
        target_id: target.root_hash,
        inputs,
        segments: Vec::new(),
    };
    let images =
        Images { base: Some(source.image), root: Some(target.image), target: Bytes::File(target.image) };
    let parted = segments::write(head, &stretches, images, options.level, out, &|packed| {
        done(matched.load(Ordering::Relaxed) + packed);
    })?;
    Ok((parted, Stats::of(&stretches)))
}

/// How to make one piece of the target.
fn edits(files: &Files<'_>, piece: &Piece<'_>) -> Result<Made, DeltaError> {
    let length = piece.run.blocks * BLOCK_SIZE;
    let edits = match piece.content {
        Content::Zero => vec![Edit { what: What::Zero, length }],
        Content::Metadata => {
            let new = Bytes::File(files.target.image).read(piece.run.start * BLOCK_SIZE, length)?;
            Old::read(Source::Base, files.source.image, &files.source.layout.metadata)?.edits(&new)?
        }
        Content::File(file) => return files.edits(file),
    };
    Ok(Made { edits, late: false })
}

/// Late pieces cannot be made from each other: those that would be are brought along.
fn independent(pieces: &[Piece<'_>], mut made: Vec<Made>) -> Vec<Made> {
    let bytes = |run: Run| run.start * BLOCK_SIZE..(run.start + run.blocks) * BLOCK_SIZE;
    let late = pieces.iter().zip(&made).filter(|(_, made)| made.late);
    let late: Vec<_> = late.map(|(piece, _)| bytes(piece.run)).collect();
    for (piece, made) in pieces.iter().zip(&mut made) {
        let takes = |range: &std::ops::Range<u64>| made.edits.iter().any(|edit| edit.takes(range));
        if made.late && late.iter().any(takes) {
            let edit = Edit { what: What::Literal, length: piece.run.blocks * BLOCK_SIZE };
            *made = Made { edits: vec![edit], late: false };
        }
    }
    made
}

/// The edits in the order they are followed in, as stretches of the target; those that take what others make come last.
fn stretches(pieces: &[Piece<'_>], made: Vec<Made>) -> Vec<Stretch> {
    let (mut first, mut last): (Vec<Stretch>, Vec<Stretch>) = Default::default();
    for (piece, made) in pieces.iter().zip(made) {
        let start = piece.run.start * BLOCK_SIZE;
        let stretches = if made.late { &mut last } else { &mut first };
        match stretches.last_mut() {
            Some(stretch) if stretch.end == start => {
                stretch.end += piece.run.blocks * BLOCK_SIZE;
                made.edits.into_iter().for_each(|edit| push(&mut stretch.edits, edit));
            }
            _ => stretches.push(Stretch {
                start,
                end: start + piece.run.blocks * BLOCK_SIZE,
                edits: made.edits,
            }),
        }
    }
    first.append(&mut last);
    first
}

impl Stats {
    fn of(stretches: &[Stretch]) -> Self {
        let mut stats = Self::default();
        for edit in stretches.iter().flat_map(|stretch| &stretch.edits) {
            *match edit.what {
                What::Copy(..) => &mut stats.copied,
                What::Add(..) => &mut stats.added,
                What::Literal => &mut stats.literal,
                What::Zero => &mut stats.zero,
                What::Rebuild(_) => &mut stats.rebuilt,
            } += edit.length;
        }
        stats
    }
}
