//! Pairs new files that no path leads from with old ones that are gone, by what they have in common.

use std::collections::{BTreeMap, HashMap};

use upright_manifests::BLOCK_SIZE;
use upright_manifests::digest::Digest;

use super::encode::{DeltaError, Side};
use super::pairing::Candidates;
use super::pieces;
use super::segments::Bytes;
use crate::anchors::anchors;
use crate::erofs::FileRun;
use crate::parallel;

/// The least anchors that two files must have in common; files of some kilobytes have a few.
const LEAST: usize = 2;

/// They must have one in so many of the new file's in common.
const SHARE: usize = 8;

/// The old file that each new one has most in common with, by the new one's digest. Only new ones that no path leads to are looked at, and old
/// ones that are gone, so that this takes as long as there is something that moved.
pub(super) fn pairs<'a>(
    source: Side<'a>,
    target: Side<'_>,
    old: &Candidates<'a>,
    new: &Candidates<'_>,
) -> Result<HashMap<Digest, &'a FileRun>, DeltaError> {
    let has_blocks = |file: &FileRun| file.size >= BLOCK_SIZE;
    let is_orphan =
        |file: &&FileRun| has_blocks(file) && old.same(file).is_none() && old.of_path(file).is_none();
    let orphans: Vec<_> = target.layout.files.iter().filter(is_orphan).collect();
    let is_gone = |file: &&FileRun| has_blocks(file) && new.same(file).is_none();
    let gone: Vec<_> = source.layout.files.iter().filter(is_gone).collect();
    if orphans.is_empty() || gone.is_empty() {
        return Ok(HashMap::new());
    }
    let read = |side: Side<'_>, files: &[&FileRun]| {
        parallel::map(files, |file| {
            let run = pieces::run_of(file);
            let bytes = Bytes::File(side.image).read(run.start * BLOCK_SIZE, run.blocks * BLOCK_SIZE)?;
            Ok::<_, DeltaError>(anchors(&bytes))
        })
    };
    let mut wanted: HashMap<u64, Vec<usize>> = HashMap::new();
    let of_orphans = read(target, &orphans)?;
    for (number, anchors) in of_orphans.iter().enumerate() {
        for (anchor, _) in anchors {
            let numbers = wanted.entry(*anchor).or_default();
            if numbers.last() != Some(&number) {
                numbers.push(number);
            }
        }
    }
    // How much the best old file of each has in common with it.
    let mut best: Vec<Option<(usize, &FileRun)>> = vec![None; orphans.len()];
    for (file, mut anchors) in gone.iter().zip(read(source, &gone)?) {
        anchors.sort_unstable();
        anchors.dedup_by_key(|(anchor, _)| *anchor);
        let mut common: BTreeMap<usize, usize> = BTreeMap::new();
        for number in anchors.iter().filter_map(|(anchor, _)| wanted.get(anchor)).flatten() {
            *common.entry(*number).or_default() += 1;
        }
        for (number, count) in common {
            let enough = LEAST.max(of_orphans[number].len() / SHARE);
            if count >= enough && best[number].is_none_or(|(most, _)| count > most) {
                best[number] = Some((count, file));
            }
        }
    }
    let found = orphans.iter().zip(best).filter_map(|(orphan, best)| Some((orphan.sha256, best?.1)));
    Ok(found.collect())
}
