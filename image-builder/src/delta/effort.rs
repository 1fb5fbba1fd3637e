//! What all rebuilds of a delta may take of a host's CPU together. Those that save most bytes for their time are made.

use std::cmp::Reverse;
use std::sync::Arc;

use upright_manifests::delta::{Rebuild, Recipe};

use super::edit::{Edit, Rebuilt, What, push};
use super::file::Made;

/// CPU time in nanoseconds, as [`estimate`] has it: a third of what an update with a new kernel may take
/// (docs/design/0007-deltas-look-inside.md).
pub(super) const MOST: u64 = 1_600_000_000;

/// A byte of a document, at gzip's highest level as Debian has it; lower ones take about as long.
const GZIP: u64 = 22;

/// How long a rebuild takes, in nanoseconds. Measured on an AMD EPYC, per byte of content; other machines differ alike.
fn estimate(rebuild: &Rebuild) -> u64 {
    let each = match rebuild.recipe {
        Recipe::Deflate(_) => GZIP,
        Recipe::Lz4(_) => 17,
        Recipe::Zstd(zstd) if zstd.level < 5 => 6,
        Recipe::Zstd(_) => 18,
    };
    rebuild.plain.saturating_mul(each)
}

/// Brings along what would have to be made beyond `most` nanoseconds of CPU time.
pub(super) fn bound(made: &mut [Made], most: u64) {
    let edits = made.iter().flat_map(|made| &made.edits);
    let mut rebuilds: Vec<&Arc<Rebuilt>> = edits.filter_map(rebuilt).collect();
    // A stable sort: equal ones stay in the order of the image, so that equal arguments give equal bytes.
    rebuilds.sort_by_key(|rebuilt| {
        Reverse(u128::from(rebuilt.saves) * 1_000_000 / u128::from(estimate(&rebuilt.rebuild).max(1)))
    });
    let mut taken = 0u64;
    let mut dropped = Vec::new();
    for rebuilt in rebuilds {
        match taken.saturating_add(estimate(&rebuilt.rebuild)) {
            sum if sum <= most => taken = sum,
            _ => dropped.push(Arc::as_ptr(rebuilt)),
        }
    }
    dropped.sort_unstable();
    for Made { edits, .. } in made {
        let is_dropped = |edit: &Edit| {
            rebuilt(edit).is_some_and(|rebuilt| dropped.binary_search(&Arc::as_ptr(rebuilt)).is_ok())
        };
        if edits.iter().any(is_dropped) {
            for mut edit in std::mem::take(edits) {
                if is_dropped(&edit) {
                    edit.what = What::Literal;
                }
                push(edits, edit);
            }
        }
    }
}

fn rebuilt(edit: &Edit) -> Option<&Arc<Rebuilt>> {
    match &edit.what {
        What::Rebuild(rebuilt) => Some(rebuilt),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    /// A deflate stream whose content is of that length.
    fn rebuild(plain: u64, length: u64, saves: u64) -> Edit {
        let rebuild = Rebuild { recipe: Recipe::Deflate(9), plain, length, parts: Vec::new() };
        let (edits, literal, difference) = Default::default();
        Edit { what: What::Rebuild(Arc::new(Rebuilt { rebuild, edits, literal, difference, saves })), length }
    }

    fn pieces() -> Vec<Made> {
        let header = || Edit { what: What::Literal, length: 10 };
        let first =
            vec![header(), rebuild(3 * MB, MB, 900_000), header(), rebuild(3 * MB, MB, 800_000), header()];
        vec![Made { edits: first, late: false }, Made { edits: vec![rebuild(MB, MB, 990_000)], late: false }]
    }

    fn rebuilds(made: &[Made]) -> Vec<usize> {
        made.iter().map(|made| made.edits.iter().filter_map(rebuilt).count()).collect()
    }

    #[test]
    fn what_saves_least_for_its_time_is_brought_along() {
        let mut made = pieces();
        bound(&mut made, 4 * MB * GZIP);
        assert_eq!(rebuilds(&made), [1, 1]);
        // The header, the stream and the header are one run of bytes now.
        assert_eq!(made[0].edits.len(), 3);
        assert_eq!(made[0].edits[2], Edit { what: What::Literal, length: MB + 20 });
        assert_eq!(made[0].edits.iter().map(|edit| edit.length).sum::<u64>(), 2 * MB + 30);
    }

    #[test]
    fn all_are_made_where_there_is_time_and_none_where_there_is_none() {
        for (most, left) in [(7 * MB * GZIP, [2, 1]), (0, [0, 0])] {
            let mut made = pieces();
            bound(&mut made, most);
            assert_eq!(rebuilds(&made), left);
        }
    }
}
