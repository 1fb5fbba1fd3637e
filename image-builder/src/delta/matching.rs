//! Describes new bytes in terms of old ones.
//!
//! In the manner of bsdiff, a match may have errors: code that moved differs in the addresses it holds, and the difference
//! compresses far better than the code. Unlike there, candidates come from a table of hashes and not from a suffix array: time is
//! linear in both lengths whatever the content, and memory is bounded.

/// A stretch of the new bytes that resembles the old ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) new: usize,
    pub(super) old: usize,
    pub(super) length: usize,
}

/// Bytes that must be equal for a match to be found.
const SEED: usize = 8;
/// The most places of the old bytes that are remembered; more are thinned out evenly.
const MOST_PLACES: usize = 24 << 20;
/// Places looked at for each seed, those nearest to where the match is expected.
const TRIES: usize = 32;
/// A match that starts a new line must explain this many bytes more than the line before does.
const WORTH: usize = 8;

/// The matches between `old` and `new`, ascending and disjoint in the new bytes; what is between them is new.
pub(super) fn matches(old: &[u8], new: &[u8]) -> Vec<Match> {
    let mut scan = Scan { old, new, line: 0, from: 0, found: Vec::new() };
    if old.is_empty() {
        return scan.found;
    }
    let table = Table::new(old);
    let mut at = 0;
    loop {
        at += scan.equal(at);
        if at >= new.len() {
            break;
        }
        match table.longest(new, at, at.saturating_add_signed(scan.line)) {
            Some(seed) if seed.length > scan.on_line(at, seed.length) + WORTH => {
                scan.turn(seed);
                at += seed.length;
            }
            _ => at += 1,
        }
    }
    scan.close(new.len(), scan.line, 0);
    scan.found
}

/// The line being followed (old minus new position), from a position in the new bytes on.
struct Scan<'a> {
    old: &'a [u8],
    new: &'a [u8],
    line: isize,
    from: usize,
    found: Vec<Match>,
}

impl Scan<'_> {
    /// How many bytes at `at` are equal on the line.
    fn equal(&self, at: usize) -> usize {
        let old = at.checked_add_signed(self.line).and_then(|old| self.old.get(old..));
        old.map_or(0, |old| common(old, &self.new[at..]))
    }

    fn same(&self, at: usize, line: isize) -> bool {
        let old = at.checked_add_signed(line).and_then(|old| self.old.get(old));
        old.is_some_and(|old| *old == self.new[at])
    }

    /// How many of `length` bytes at `at` are equal on the line.
    fn on_line(&self, at: usize, length: usize) -> usize {
        (at..at + length).filter(|at| self.same(*at, self.line)).count()
    }

    /// Leaves the line for that of `seed`, where the two meet best.
    fn turn(&mut self, seed: Match) {
        let line = seed.old as isize - seed.new as isize;
        let back = self.reach_back(seed.new, line);
        let back = self.close(seed.new, line, back);
        self.from = seed.new - back;
        self.line = line;
    }

    /// How far before `at` it pays to be on `line` already.
    fn reach_back(&self, at: usize, line: isize) -> usize {
        let (mut score, mut best, mut reach) = (0isize, 0, 0);
        for (count, at) in (1..).zip((self.from..at).rev()) {
            score += if self.same(at, line) { 1 } else { -1 };
            if score > best {
                (best, reach) = (score, count);
            }
            if score < best - PATIENCE {
                break;
            }
        }
        reach
    }

    /// Ends the line at or before `end`, where the line `next` reaches back `claimed` bytes; gives how many of these
    /// it may keep.
    fn close(&mut self, end: usize, next: isize, claimed: usize) -> usize {
        let (mut score, mut best, mut reach) = (0isize, 0, 0);
        for (count, at) in (1..).zip(self.from..end) {
            score += if self.same(at, self.line) { 1 } else { -1 };
            if score > best {
                (best, reach) = (score, count);
            }
        }
        let meeting = (self.from + reach).max(end - claimed);
        let split = self.split(end - claimed, meeting, next);
        let length = reach.min(split - self.from);
        if let (Some(old), true) = (self.from.checked_add_signed(self.line), length > 0) {
            self.found.push(Match { new: self.from, old, length });
        }
        end - split
    }

    /// Where between `first` and `last` the line is best left for `next`.
    fn split(&self, first: usize, last: usize, next: isize) -> usize {
        let (mut score, mut best, mut split) = (0isize, 0, first);
        for at in first..last {
            score += isize::from(self.same(at, self.line)) - isize::from(self.same(at, next));
            if score > best {
                (best, split) = (score, at + 1);
            }
        }
        split
    }
}

/// How much worse a backward match may get before it is given up.
const PATIENCE: isize = 256;

/// Length of the common start.
pub(super) fn common(a: &[u8], b: &[u8]) -> usize {
    let (a8, _) = a.as_chunks::<8>();
    let (b8, _) = b.as_chunks::<8>();
    let words = a8.iter().zip(b8).take_while(|(a, b)| a == b).count() * 8;
    words + a[words..].iter().zip(&b[words..]).take_while(|(a, b)| a == b).count()
}

/// Places of the old bytes by the hash of what starts there.
struct Table<'a> {
    old: &'a [u8],
    shift: u32,
    /// Where each hash's places start in `places`.
    starts: Vec<u32>,
    places: Vec<u32>,
}

impl<'a> Table<'a> {
    fn new(old: &'a [u8]) -> Self {
        let stride = old.len().div_ceil(MOST_PLACES).max(1);
        let bits = (old.len() / stride).max(256).ilog2().min(22);
        let shift = 64 - bits;
        let mut starts = vec![0u32; (1 << bits) + 1];
        let seeds = || {
            let mut before = None;
            let last = (old.len() + 1).saturating_sub(SEED);
            (0..last).step_by(stride).filter_map(move |at| {
                let seed = seed(old, at);
                // A run of equal bytes is remembered by its start alone.
                (before.replace(seed) != Some(seed)).then(|| ((seed >> shift) as usize, at as u32))
            })
        };
        seeds().for_each(|(hash, _)| starts[hash + 1] += 1);
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let mut next = starts.clone();
        let mut places = vec![0; sum as usize];
        for (hash, at) in seeds() {
            places[next[hash] as usize] = at;
            next[hash] += 1;
        }
        Self { old, shift, starts, places }
    }

    /// The longest match for what starts at `at` in `new`, among places near `expected`.
    fn longest(&self, new: &[u8], at: usize, expected: usize) -> Option<Match> {
        let wanted = new.get(at..).filter(|rest| rest.len() >= SEED)?;
        let hash = (seed(new, at) >> self.shift) as usize;
        let places = &self.places[self.starts[hash] as usize..self.starts[hash + 1] as usize];
        let middle = places.partition_point(|place| (*place as usize) < expected);
        let first = middle.saturating_sub(TRIES / 2).min(places.len().saturating_sub(TRIES));
        let mut best: Option<Match> = None;
        for &place in places[first..].iter().take(TRIES) {
            let old = place as usize;
            let length = common(&self.old[old..], wanted);
            let distance = |old: usize| old.abs_diff(expected);
            let better = best.is_none_or(|best| (length, distance(best.old)) > (best.length, distance(old)));
            if length >= SEED && better {
                best = Some(Match { new: at, old, length });
            }
        }
        best
    }
}

/// A hash of [`SEED`] bytes, its high bits the best; zero past the end.
fn seed(bytes: &[u8], at: usize) -> u64 {
    let Some(start) = bytes.get(at..).and_then(<[u8]>::first_chunk::<SEED>) else { return 0 };
    let mixed = u64::from_le_bytes(*start).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}
