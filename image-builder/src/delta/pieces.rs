//! The pieces a target image is made of, by its layout.

use std::fs::File;

use upright_manifests::BLOCK_SIZE;

use super::encode::DeltaError;
use crate::erofs::{FileRun, Layout, Run};

/// A run of blocks of one kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) run: Run,
    pub(super) content: Content<'a>,
}

/// What a piece holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content<'a> {
    Metadata,
    File(&'a FileRun),
    Zero,
}

/// The blocks of a file.
pub(super) fn run_of(file: &FileRun) -> Run {
    Run { start: file.start, blocks: file.size.div_ceil(BLOCK_SIZE) }
}

/// All pieces of a checked layout, ascending; together they hold each block once.
pub(super) fn of(layout: &Layout) -> Vec<Piece<'_>> {
    let metadata = layout.metadata.iter().map(|run| Piece { run: *run, content: Content::Metadata });
    let files = layout.files.iter().map(|file| Piece { run: run_of(file), content: Content::File(file) });
    let mut known: Vec<Piece<'_>> = metadata.chain(files).collect();
    known.sort_by_key(|piece| piece.run.start);
    let mut pieces = Vec::with_capacity(known.len());
    let mut next = 0;
    let zero =
        |from: u64, to: u64| Piece { run: Run { start: from, blocks: to - from }, content: Content::Zero };
    for piece in known {
        if piece.run.start > next {
            pieces.push(zero(next, piece.run.start));
        }
        next = piece.run.start + piece.run.blocks;
        pieces.push(piece);
    }
    if next < layout.blocks {
        pieces.push(zero(next, layout.blocks));
    }
    pieces
}

/// Makes sure that no two pieces overlap and that all are inside of the image.
pub(super) fn check(layout: &Layout, image: &File) -> Result<(), DeltaError> {
    let read = |error| DeltaError::Read { offset: 0, length: 0, error };
    let size = image.metadata().map_err(read)?.len();
    if layout.blocks.checked_mul(BLOCK_SIZE) != Some(size) {
        return Err(DeltaError::Layout(format!("{} blocks, {size} bytes", layout.blocks)));
    }
    let files = layout.files.iter().map(run_of);
    let mut runs: Vec<Run> = layout.metadata.iter().copied().chain(files).collect();
    runs.sort_by_key(|run| run.start);
    let mut next = 0;
    for run in runs {
        let end = run.start.checked_add(run.blocks).filter(|end| *end <= layout.blocks);
        match end {
            Some(end) if run.start >= next && run.blocks > 0 => next = end,
            _ => return Err(DeltaError::Layout(format!("run of {} blocks at {}", run.blocks, run.start))),
        }
    }
    Ok(())
}
