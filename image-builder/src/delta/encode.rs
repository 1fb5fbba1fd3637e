//! From two images and their layouts to a delta.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use upright_manifests::BLOCK_SIZE;
use upright_manifests::delta::{Head, Input, Kind, PackError, Source};
use upright_manifests::digest::Digest;

use super::edit::{Edit, What, push};
use super::old::Old;
use super::pairing::Candidates;
use super::pieces::{self, Content, Piece};
use super::segments::{self, Bytes, Images};
use crate::erofs::Layout;
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
    let candidates = Candidates::new(source.layout);
    let pieces = pieces::of(target.layout);
    let matched = AtomicU64::new(0);
    let edits = parallel::map(&pieces, |piece| {
        let edits = edits(&candidates, source, target, piece);
        let length = piece.run.blocks * BLOCK_SIZE;
        done(matched.fetch_add(length, Ordering::Relaxed) + length);
        edits
    })?;
    let mut all = Vec::new();
    edits.into_iter().flatten().for_each(|edit| push(&mut all, edit));
    let size = |side: Side<'_>| side.layout.blocks * BLOCK_SIZE;
    let head = Head {
        kind: Kind::Root,
        memory: 0,
        target_size: size(target),
        target_id: target.root_hash,
        inputs: vec![Input { source: Source::Base, size: size(source), id: source.root_hash }],
        segments: Vec::new(),
    };
    let images = Images { base: Some(source.image), root: None, target: Bytes::File(target.image) };
    let parted = segments::write(head, &all, images, options.level, out, &|packed| {
        done(matched.load(Ordering::Relaxed) + packed);
    })?;
    Ok((parted, Stats::of(&all)))
}

/// How to make one piece of the target.
fn edits(
    candidates: &Candidates<'_>,
    source: Side<'_>,
    target: Side<'_>,
    piece: &Piece<'_>,
) -> Result<Vec<Edit>, DeltaError> {
    let literal = Edit { what: What::Literal, length: piece.run.blocks * BLOCK_SIZE };
    let old = match piece.content {
        Content::Zero => return Ok(vec![Edit { what: What::Zero, ..literal }]),
        Content::Metadata => source.layout.metadata.clone(),
        Content::File(file) => match (candidates.same(file), candidates.base(file)) {
            (Some(same), _) => {
                return Ok(vec![Edit { what: What::Copy(Source::Base, same.start * BLOCK_SIZE), ..literal }]);
            }
            (None, Some(base)) => vec![pieces::run_of(base)],
            (None, None) => return Ok(vec![literal]),
        },
    };
    let new = Bytes::File(target.image).read(piece.run.start * BLOCK_SIZE, literal.length)?;
    let old = Old::read(source.image, &old)?;
    Ok(old.edits(&new))
}

impl Stats {
    fn of(edits: &[Edit]) -> Self {
        let mut stats = Self::default();
        for edit in edits {
            *match edit.what {
                What::Copy(..) => &mut stats.copied,
                What::Add(..) => &mut stats.added,
                What::Literal => &mut stats.literal,
                What::Zero => &mut stats.zero,
            } += edit.length;
        }
        stats
    }
}
