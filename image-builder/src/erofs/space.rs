//! Allocation of runs in a line of units, blocks or slots; knows nothing of what they are for.

use std::collections::{BTreeMap, BTreeSet};

/// The free runs of a line of units.
pub(super) struct Space {
    by_start: BTreeMap<u64, u64>,
    by_length: BTreeSet<(u64, u64)>,
    /// A run of up to so many units must not cross a multiple of it, and a longer one must start at one.
    page: u64,
}

/// What is to be placed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    /// How many units it takes, at least one.
    pub(super) length: u64,
    /// Where it, or what it replaces, was before.
    pub(super) old: Option<Old>,
}

/// A place in the line that is followed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Old {
    pub(super) start: u64,
    pub(super) length: u64,
    /// Whether the same thing was there: then it goes before what only replaces something.
    pub(super) same: bool,
}

impl Space {
    /// The free units from `start` to before `end`.
    pub(super) fn new(start: u64, end: u64, page: u64) -> Self {
        let mut space = Self { by_start: BTreeMap::new(), by_length: BTreeSet::new(), page };
        space.release(start, end.saturating_sub(start));
        space
    }

    /// Takes a run if all of it is free and it may be there.
    pub(super) fn take(&mut self, start: u64, length: u64) -> bool {
        let Some((&free_start, &free)) = self.by_start.range(..=start).next_back() else {
            return false;
        };
        let offset = start - free_start;
        if length == 0 || offset > free || free - offset < length || self.align(start, length) != start {
            return false;
        }
        self.by_start.remove(&free_start);
        self.by_length.remove(&(free, free_start));
        self.release(free_start, offset);
        self.release(start + length, free - offset - length);
        true
    }

    /// Takes the first place in the shortest free run that has one.
    pub(super) fn allocate(&mut self, length: u64) -> Option<u64> {
        let fits = |&&(free, start): &&(u64, u64)| self.align(start, length) - start <= free - length;
        let &(_, start) = self.by_length.range((length, 0)..).find(fits)?;
        let start = self.align(start, length);
        self.take(start, length).then_some(start)
    }

    /// Places everything, in an order that keeps most of it where it was: what has not changed; what replaces
    /// something at least as long; what is longer than what it replaces, if there is room behind it; then the rest.
    /// None if it does not fit.
    pub(super) fn place(&mut self, wants: &[Want]) -> Option<Vec<u64>> {
        let mut starts = vec![None; wants.len()];
        let stages: [fn(&Old, u64) -> bool; 3] = [
            |old, _| old.same,
            |old, length| !old.same && length <= old.length,
            |old, length| !old.same && length > old.length,
        ];
        for stage in stages {
            for (start, want) in starts.iter_mut().zip(wants) {
                let old = want.old.filter(|old| stage(old, want.length));
                *start = start.or(old.map(|old| old.start).filter(|&at| self.take(at, want.length)));
            }
        }
        starts
            .into_iter()
            .zip(wants)
            .map(|(start, want)| start.or_else(|| self.allocate(want.length)))
            .collect()
    }

    /// The first unit at or behind `start` from which a run of `length` may go.
    fn align(&self, start: u64, length: u64) -> u64 {
        let into = start % self.page;
        let crosses = if length > self.page { into > 0 } else { into + length > self.page };
        if crosses { start - into + self.page } else { start }
    }

    fn release(&mut self, start: u64, length: u64) {
        if length > 0 {
            self.by_start.insert(start, length);
            self.by_length.insert((length, start));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No boundary that anything could cross.
    const ANYWHERE: u64 = u64::MAX;

    fn new(length: u64) -> Want {
        Want { length, old: None }
    }

    fn old(length: u64, start: u64, was: u64, same: bool) -> Want {
        Want { length, old: Some(Old { start, length: was, same }) }
    }

    #[test]
    fn what_has_not_changed_stays_even_where_an_earlier_one_would_fit() {
        let mut space = Space::new(0, 100, ANYWHERE);
        let wants =
            [new(2), old(6, 10, 5, false), old(5, 10, 5, true), old(3, 20, 4, false), old(2, 23, 2, true)];
        // The second loses its place to the third, the fourth takes the old place that it fits into.
        assert_eq!(space.place(&wants), Some(vec![15, 0, 10, 20, 23]));
    }

    #[test]
    fn a_growing_run_takes_the_room_behind_it_after_shrinking_ones_had_their_choice() {
        let mut space = Space::new(0, 30, ANYWHERE);
        assert_eq!(space.place(&[old(6, 10, 5, false), old(1, 16, 2, false)]), Some(vec![10, 16]));
        let mut space = Space::new(0, 30, ANYWHERE);
        assert_eq!(space.place(&[old(7, 10, 5, false), old(1, 16, 2, false)]), Some(vec![17, 16]));
    }

    #[test]
    fn the_shortest_hole_that_fits_is_filled() {
        let mut space = Space::new(0, 100, ANYWHERE);
        assert!(space.take(8, 2) && space.take(13, 2));
        assert_eq!(space.allocate(3), Some(10));
        assert_eq!(space.allocate(4), Some(0));
        assert_eq!(space.allocate(5), Some(15));
        assert_eq!(space.allocate(81), None);
    }

    #[test]
    fn runs_do_not_cross_pages_and_longer_ones_start_at_one() {
        let mut space = Space::new(1, 1000, 8);
        assert!(!space.take(6, 3) && !space.take(1, 9));
        assert_eq!(space.place(&[new(5), new(3), new(9), new(8), new(2)]), Some(vec![1, 8, 16, 32, 6]));
    }

    #[test]
    fn taken_and_outside_runs_are_not_taken_again() {
        let mut space = Space::new(5, 10, ANYWHERE);
        assert!(space.take(6, 2));
        for (start, length) in [(4, 1), (7, 1), (5, 2), (9, 2), (10, 1), (5, 0), (u64::MAX, u64::MAX)] {
            assert!(!space.take(start, length), "{start} {length}");
        }
    }
}
