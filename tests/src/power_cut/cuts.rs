//! Every state that a power cut may leave.
//!
//! What was written before a flush is there. Of what was written since, a disk may have stored any of it, in any order, and of
//! a write of several sectors any of those. A [`Cut`] therefore names, for the sectors written since the last flush, which of
//! them got through, and from which write.

use std::collections::BTreeMap;
use std::ops::Range;

use super::event::{Event, Write};
use super::random::Random;

/// How much of what may be is looked at.
#[derive(Debug, Clone)]
pub struct Effort {
    /// Between two flushes with at most so many writes, every subset of them is a cut of its own.
    pub all_orders: u32,
    /// How many subsets are drawn where there are more.
    pub orders: u32,
    /// Sectors whose writes decide about a boot: where there are more writes, each of these is lost alone, and alone gets through.
    pub decisive: Range<u64>,
    /// A write of at most so many sectors is torn at every one of them.
    pub all_tears: u64,
    /// How many tears are drawn where there are more.
    pub tears: u32,
    /// What decides what is drawn.
    pub seed: u64,
}

/// What a power cut left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The event that was under way.
    pub at: usize,
    /// How many writes were on stable storage by then, as [`Step::Settled`] tells of them.
    pub settled: usize,
    /// The sectors of later writes that got through: each with the number of its content.
    pub through: BTreeMap<u64, u64>,
}

/// A step of the enumeration.
#[derive(Debug)]
pub enum Step<'c> {
    /// A write reaches stable storage in all cuts that follow.
    Settled(Write),
    /// A cut. Several may leave the same.
    Cut(&'c Cut),
}

/// Hands every cut to `visit`, in the order of the events.
pub fn cuts<E>(
    events: &[Event],
    effort: Effort,
    visit: impl FnMut(Step<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let (pending, so_far) = (Vec::new(), BTreeMap::new());
    let mut cutter = Cutter { random: Random::new(effort.seed), effort, pending, so_far, settled: 0, visit };
    cutter.cut(0, BTreeMap::new())?;
    for (at, event) in events.iter().enumerate() {
        match *event {
            Event::Write(write) => cutter.write(at, write)?,
            Event::Sync { sector, count } => cutter.sync(at, sector..sector + count)?,
            Event::Flush => cutter.sync(at, 0..u64::MAX)?,
        }
    }
    cutter.orders(events.len())
}

struct Cutter<V> {
    effort: Effort,
    random: Random,
    /// What may still get lost.
    pending: Vec<Write>,
    /// The same, all of it there.
    so_far: BTreeMap<u64, u64>,
    settled: usize,
    visit: V,
}

impl<E, V: FnMut(Step<'_>) -> Result<(), E>> Cutter<V> {
    fn cut(&mut self, at: usize, through: BTreeMap<u64, u64>) -> Result<(), E> {
        (self.visit)(Step::Cut(&Cut { at, settled: self.settled, through }))
    }

    fn write(&mut self, at: usize, write: Write) -> Result<(), E> {
        for torn in tears(&write, &self.effort, &mut self.random) {
            let mut through = self.so_far.clone();
            through.extend(&torn);
            self.cut(at, through)?;
            // Nor need what came before it be there.
            let mut through = BTreeMap::new();
            for earlier in &self.pending {
                through.extend(sectors(earlier).filter(|_| self.random.below(2) == 1));
            }
            if !self.pending.is_empty() {
                through.extend(&torn);
                self.cut(at, through)?;
            }
        }
        self.pending.push(write);
        self.so_far.extend(sectors(&write));
        self.cut(at + 1, self.so_far.clone())
    }

    fn orders(&mut self, at: usize) -> Result<(), E> {
        for chosen in orders(&self.pending, &self.effort, &mut self.random) {
            let through = self.pending.iter().zip(&chosen).filter(|(_, chosen)| **chosen);
            let through = through.flat_map(|(write, _)| sectors(write)).collect();
            self.cut(at, through)?;
        }
        Ok(())
    }

    fn sync(&mut self, at: usize, synced: Range<u64>) -> Result<(), E> {
        self.orders(at)?;
        for write in std::mem::take(&mut self.pending) {
            for (part, is_synced) in split(write, &synced) {
                match is_synced {
                    false => self.pending.push(part),
                    true => {
                        self.settled += 1;
                        (self.visit)(Step::Settled(part))?;
                    }
                }
            }
        }
        // What a sync leaves out is as much of earlier writes as got through.
        self.so_far.clear();
        for rest in std::mem::take(&mut self.pending) {
            self.cut(at + 1, self.so_far.clone())?;
            self.so_far.extend(sectors(&rest));
            self.pending.push(rest);
        }
        match self.pending.is_empty() {
            true => Ok(()),
            false => self.cut(at + 1, self.so_far.clone()),
        }
    }
}

/// A write in up to three parts: before, within and after the sectors that are synced.
fn split(write: Write, synced: &Range<u64>) -> impl Iterator<Item = (Write, bool)> + use<> {
    let end = write.sector + write.count;
    let (from, to) = (synced.start.clamp(write.sector, end), synced.end.clamp(write.sector, end));
    let parts = [(write.sector..from, false), (from..to, true), (to..end, false)];
    parts.into_iter().filter(|(part, _)| !part.is_empty()).map(move |(part, is_synced)| {
        let content = write.content + (part.start - write.sector);
        (Write { sector: part.start, count: part.end - part.start, content }, is_synced)
    })
}

fn sectors(write: &Write) -> impl Iterator<Item = (u64, u64)> + use<> {
    let Write { sector, count, content } = *write;
    (0..count).map(move |index| (sector + index, content + index))
}

/// What a write may leave that was cut off in its middle.
fn tears(write: &Write, effort: &Effort, random: &mut Random) -> Vec<BTreeMap<u64, u64>> {
    let part = |range: Range<u64>| -> BTreeMap<u64, u64> {
        sectors(write).skip(range.start as usize).take((range.end - range.start) as usize).collect()
    };
    let count = write.count;
    if count < 2 {
        return Vec::new();
    }
    if count <= effort.all_tears {
        return (1..count).flat_map(|at| [part(0..at), part(at..count)]).collect();
    }
    let mut tears = vec![part(0..1), part(1..count), part(0..count - 1), part(count - 1..count)];
    for _ in 0..effort.tears {
        let at = 1 + random.below(count - 1);
        tears.push(part(0..at));
        tears.push(sectors(write).filter(|_| random.below(2) == 1).collect());
    }
    tears
}

/// Which writes of an epoch get through when the disk takes them in an order of its own; prefixes are not among them.
fn orders(pending: &[Write], effort: &Effort, random: &mut Random) -> Vec<Vec<bool>> {
    let writes = pending.len();
    if writes < 2 {
        return Vec::new();
    }
    if writes <= effort.all_orders as usize {
        let bits = |set: u32| (0..writes).map(|bit| set >> bit & 1 == 1).collect();
        let is_prefix = |set: &u32| (set + 1).is_power_of_two();
        return (1..1_u32 << writes).filter(|set| !is_prefix(set)).map(bits).collect();
    }
    let only = |index: usize, chosen: bool| (0..writes).map(|other| (other == index) == chosen).collect();
    // The last write alone, and all but one early write: what an order that is taken for granted would forbid.
    let mut orders = vec![only(writes - 1, true), only(0, false), only(writes / 2, false)];
    for (index, write) in pending.iter().enumerate() {
        if effort.decisive.contains(&write.sector) {
            orders.extend([only(index, true), only(index, false)]);
        }
    }
    orders.extend((0..effort.orders).map(|_| (0..writes).map(|_| random.below(2) == 1).collect()));
    orders
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const EFFORT: Effort =
        Effort { all_orders: 4, orders: 20, decisive: 1..3, all_tears: 4, tears: 6, seed: 1 };

    fn write(sector: u64, count: u64, content: u64) -> Event {
        Event::Write(Write { sector, count, content })
    }

    /// All cuts, and how many writes were settled.
    fn all(events: &[Event]) -> Vec<Cut> {
        let mut found = Vec::new();
        cuts(events, EFFORT, |step| {
            if let Step::Cut(cut) = step {
                found.push(cut.clone());
            }
            Ok::<_, ()>(())
        })
        .unwrap();
        found
    }

    /// Which sectors got through in the cuts with so many settled writes.
    fn sectors_after(settled: usize, cuts: &[Cut]) -> BTreeSet<Vec<u64>> {
        let cuts = cuts.iter().filter(|cut| cut.settled == settled);
        cuts.map(|cut| cut.through.keys().copied().collect()).collect()
    }

    #[test]
    fn every_subset_of_few_writes_is_a_cut_and_none_reaches_beyond_a_flush() {
        let events = [write(1, 1, 10), write(2, 1, 11), write(3, 1, 12), Event::Flush, write(1, 1, 13)];
        let found = all(&events);
        assert_eq!(sectors_after(0, &found).len(), 8);
        let after: Vec<_> = found.iter().filter(|cut| cut.settled == 3).map(|cut| &cut.through).collect();
        assert_eq!(after, [&[(1, 13)].into()]);
    }

    #[test]
    fn what_a_sync_leaves_out_may_get_lost_much_later() {
        let events = [write(1, 3, 10), Event::Sync { sector: 2, count: 1 }, write(9, 1, 20)];
        let last = sectors_after(1, &all(&events));
        let expected = [&[1, 3, 9][..], &[1], &[3], &[9], &[1, 3], &[1, 9], &[3, 9]];
        assert!(expected.iter().all(|through| last.contains(*through)), "{last:?}");
        assert!(!last.iter().any(|through| through.contains(&2)));
    }

    #[test]
    fn a_write_is_torn_at_every_sector_and_a_later_one_wins() {
        let found = all(&[write(5, 3, 0), write(5, 1, 3)]);
        let has =
            |through: &[(u64, u64)]| found.iter().any(|cut| cut.through == through.iter().copied().collect());
        for through in
            [&[(5, 0)][..], &[(5, 0), (6, 1)], &[(6, 1), (7, 2)], &[(7, 2)], &[(5, 3), (6, 1), (7, 2)]]
        {
            assert!(has(through), "{through:?}");
        }
        assert!(has(&[(5, 3)]), "the second without the first");
    }

    #[test]
    fn of_many_writes_some_orders_are_drawn_and_always_the_same() {
        let events: Vec<Event> = (0..40).map(|at| write(at, 100, at * 100)).collect();
        let found = all(&events);
        assert!(found == all(&events));
        let torn = 4 + 2 * 6;
        // Of the first write, nothing came before it.
        assert_eq!(found.len(), 1 + torn + 39 * 2 * torn + 40 + 3 + 2 * 2 + 20);
        let alone = |sector: u64| {
            found.iter().any(|cut| cut.at == 40 && cut.through.keys().copied().eq(sector..sector + 100))
        };
        assert!(alone(1) && !alone(20));
    }
}
