//! The old bytes that new ones are described by, and where in the source they are.

use std::fs::File;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::delta::{Numbers, PackError, Source};

use super::edit::{Edit, What, push};
use super::encode::DeltaError;
use super::matching::{self, Match};
use super::segments::Bytes;
use super::suffixes;
use crate::erofs::Run;

/// Equal bytes in a row that are copied and not added: what an edit costs, about.
const COPY: usize = 192;

/// The zstd level that tells which of two ways brings less.
const ROUGHLY: i32 = 6;

/// Bytes of a source, one stretch after the other.
#[derive(Debug, Default)]
pub(super) struct Old {
    pub(super) bytes: Vec<u8>,
    stretches: Vec<Stretch>,
}

/// Bytes that are next to each other in a source.
#[derive(Debug)]
struct Stretch {
    source: Source,
    offset: u64,
    length: u64,
}

impl Old {
    /// Reads runs of an image.
    pub(super) fn read(source: Source, image: &File, runs: &[Run]) -> Result<Self, DeltaError> {
        let mut old = Self::default();
        for run in runs {
            let (offset, length) = (run.start * BLOCK_SIZE, run.blocks * BLOCK_SIZE);
            old.bytes.extend(Bytes::File(image).read(offset, length)?);
            old.stretches.push(Stretch { source, offset, length });
        }
        Ok(old)
    }

    /// What the parts of a rebuild hold.
    pub(super) fn plain(bytes: Vec<u8>) -> Self {
        let stretch = Stretch { source: Source::Plain, offset: 0, length: bytes.len() as u64 };
        Self { bytes, stretches: vec![stretch] }
    }

    /// How to make `new`: the way of two that brings less along.
    pub(super) fn edits(&self, new: &[u8]) -> Result<Vec<Edit>, DeltaError> {
        let ours = matching::matches(&self.bytes, new);
        let theirs = match suffixes::matches(&self.bytes, new, &ours) {
            Some(theirs) if 50 * self.brings(new, &theirs)? < 49 * self.brings(new, &ours)? => Some(theirs),
            _ => None,
        };
        let matches = theirs.unwrap_or(ours);
        Ok(self.follow(new, &matches, self.numbers(new, &matches)?))
    }

    /// About how many bytes a delta brings along to make `new` with these matches.
    fn brings(&self, new: &[u8], matches: &[Match]) -> Result<usize, DeltaError> {
        let (mut steps, mut literal) = (Vec::new(), Vec::new());
        let (mut end, mut expected) = (0, 0);
        for found in matches {
            literal.extend(&new[end..found.new]);
            for step in [found.new - end, found.length, found.old.wrapping_sub(expected)] {
                steps.extend((step as u32).to_le_bytes());
            }
            (end, expected) = (found.new + found.length, found.old + found.length);
        }
        literal.extend(&new[end..]);
        let difference = self.difference(new, matches, Numbers::Bytes);
        [steps, literal, difference].iter().map(|bytes| roughly(bytes)).sum()
    }

    /// Which numbers differ by what compresses best; bytes, unless others save some percent.
    fn numbers(&self, new: &[u8], matches: &[Match]) -> Result<Numbers, DeltaError> {
        let mut best = (Numbers::Bytes, usize::MAX);
        for numbers in Numbers::ALL {
            let packed = roughly(&self.difference(new, matches, numbers))?;
            if packed < best.1 - best.1 / 50 {
                best = (numbers, packed);
            }
        }
        Ok(best.0)
    }

    /// What all matches differ by.
    fn difference(&self, new: &[u8], matches: &[Match], numbers: Numbers) -> Vec<u8> {
        let of = |found: &Match| {
            let (new, old) = (&new[found.new..][..found.length], &self.bytes[found.old..]);
            numbers.between(found.old as u64, new, old)
        };
        matches.iter().map(of).collect::<Vec<_>>().concat()
    }

    fn follow(&self, new: &[u8], matches: &[Match], numbers: Numbers) -> Vec<Edit> {
        let mut edits = Vec::new();
        let mut end = 0;
        for found in matches {
            push(&mut edits, Edit::new(What::Literal, found.new - end));
            self.refine(new, *found, numbers, &mut edits);
            end = found.new + found.length;
        }
        push(&mut edits, Edit::new(What::Literal, new.len() - end));
        edits
    }

    /// A match as copies where it is exact for long, additions elsewhere.
    fn refine(&self, new: &[u8], found: Match, numbers: Numbers, edits: &mut Vec<Edit>) {
        let add = |source, offset| What::Add(source, offset, numbers);
        let old = &self.bytes[found.old..found.old + found.length];
        let new = &new[found.new..found.new + found.length];
        let mut at = 0;
        let mut from = 0;
        while at < old.len() {
            let equal = matching::common(&old[at..], &new[at..]);
            if equal >= COPY {
                self.locate(found.old + from, at - from, add, edits);
                self.locate(found.old + at, equal, What::Copy, edits);
                from = at + equal;
            }
            at += equal.max(1);
        }
        let at = old.len();
        self.locate(found.old + from, at - from, add, edits);
    }

    /// Appends edits for `length` bytes at `at`, one for each stretch they are in.
    fn locate(&self, at: usize, length: usize, what: impl Fn(Source, u64) -> What, edits: &mut Vec<Edit>) {
        let (mut skip, mut left) = (at as u64, length as u64);
        for stretch in &self.stretches {
            if left == 0 {
                break;
            }
            if skip >= stretch.length {
                skip -= stretch.length;
                continue;
            }
            let part = left.min(stretch.length - skip);
            push(edits, Edit { what: what(stretch.source, stretch.offset + skip), length: part });
            left -= part;
            skip = 0;
        }
    }
}

/// About how long these bytes are when they are compressed.
fn roughly(bytes: &[u8]) -> Result<usize, DeltaError> {
    Ok(zstd::bulk::compress(bytes, ROUGHLY).map_err(PackError::Compress)?.len())
}
