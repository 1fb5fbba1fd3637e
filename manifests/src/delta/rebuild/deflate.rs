//! deflate streams (RFC 1951) as GNU gzip makes them: how it looks for matches and where it ends blocks.
//!
//! gzip's choices follow from a window of 64 KiB that it slides by half, what is left behind the end of its input in there
//! included, so the window is kept just as it keeps it. The trees are made by [`super::trees`].

use super::trees::{Block, Symbol};

const WINDOW: usize = 32 << 10;
const MIN_MATCH: usize = 3;
const MAX_MATCH: usize = 258;
/// What must be ahead while more can be had.
const MIN_AHEAD: usize = MAX_MATCH + MIN_MATCH + 1;
const MAX_DISTANCE: usize = WINDOW - MIN_AHEAD;
/// A match of three bytes that is further away costs more than the bytes.
const TOO_FAR: usize = 4096;
const HASH_MASK: usize = (1 << 15) - 1;

/// The least length of a chain for which rare bytes are looked for, and at how many offsets.
const PATIENT: usize = 1024;
const OFFSETS: usize = 12;

/// The memory it takes beside its input and output: the window and where its content is, and the symbols of a block.
pub(super) const MEMORY: u64 = 2 << 20;
/// How often it is looked at whether a block should end.
const LOOK: usize = 4096;

/// The least and the highest level of gzip whose search is known here.
pub(super) const LEVELS: std::ops::RangeInclusive<u8> = 4..=9;

/// How hard a level searches.
struct Effort {
    /// Matches of this length are good enough to search less for a better one.
    good: usize,
    /// Matches of this length are taken without a look at the next byte.
    lazy: usize,
    /// Matches of this length end a search.
    nice: usize,
    /// Places looked at.
    chain: usize,
}

impl Effort {
    fn of(level: u8) -> Self {
        let (good, lazy, nice, chain) = match level {
            ..=4 => (4, 4, 16, 16),
            5 => (8, 16, 32, 32),
            6 => (8, 16, 128, 128),
            7 => (8, 32, 128, 256),
            8 => (32, 128, 258, 1024),
            _ => (32, 258, 258, 4096),
        };
        Self { good, lazy, nice, chain }
    }
}

/// The deflate stream of `plain` at one of the [`LEVELS`].
pub(super) fn deflate(plain: &[u8], level: u8) -> Vec<u8> {
    let mut search = Search::new(plain, Effort::of(level));
    let mut block = Block::default();
    // Whether the byte before waits for what the search finds here.
    let mut waiting = false;
    let mut found = Found { length: MIN_MATCH - 1, start: 0 };
    while search.ahead > 0 {
        let last = found;
        found.length = MIN_MATCH - 1;
        if let Some(head) = search.insert()
            && last.length < search.effort.lazy
        {
            found = search.longest(head, last);
        }
        let mut full = false;
        if last.length >= MIN_MATCH && found.length <= last.length {
            let distance = search.at - 1 - last.start;
            full = block.push(Symbol::Match { distance, length: last.length });
            full |= search.should_end(&block);
            search.skip(last.length);
            (waiting, found.length) = (false, MIN_MATCH - 1);
            if full {
                search.end_block(&mut block, false);
            }
        } else {
            if waiting {
                full = block.push(Symbol::Literal(search.window[search.at - 1]));
                full |= search.should_end(&block);
            }
            if full {
                search.end_block(&mut block, false);
            }
            waiting = true;
            search.at += 1;
            search.ahead -= 1;
        }
        search.fill(&mut found.start);
    }
    if waiting {
        block.push(Symbol::Literal(search.window[search.at - 1]));
    }
    search.end_block(&mut block, true);
    block.into_bytes()
}

#[derive(Clone, Copy)]
struct Found {
    length: usize,
    start: usize,
}

/// gzip's window and what it finds matches with.
struct Search<'a> {
    effort: Effort,
    input: &'a [u8],
    window: Vec<u8>,
    heads: Vec<u16>,
    previous: Box<[u16; WINDOW]>,
    /// Numbers the places of each hash, the latest having the highest number; only differences count, and they wrap.
    ordinals: Box<[u16; WINDOW]>,
    hash: usize,
    at: usize,
    ahead: usize,
    block_start: isize,
    ended: bool,
}

impl<'a> Search<'a> {
    fn new(input: &'a [u8], effort: Effort) -> Self {
        let (window, heads) = (vec![0; 2 * WINDOW + MAX_MATCH], vec![0; 1 << 15]);
        let (previous, ordinals) = (Box::new([0; WINDOW]), Box::new([0; WINDOW]));
        let (hash, at, ahead, block_start, ended) = (0, 0, 0, 0, false);
        let mut search =
            Self { effort, input, window, heads, previous, ordinals, hash, at, ahead, block_start, ended };
        search.read(2 * WINDOW);
        search.fill(&mut 0);
        search.hash = (usize::from(search.window[0]) << 5) ^ usize::from(search.window[1]);
        search
    }

    /// Takes up to `room` bytes of the input.
    fn read(&mut self, room: usize) {
        let (taken, rest) = self.input.split_at(room.min(self.input.len()));
        self.input = rest;
        let end = self.at + self.ahead;
        self.window[end..end + taken.len()].copy_from_slice(taken);
        self.ahead += taken.len();
        if taken.is_empty() {
            self.ended = true;
            let rest = &mut self.window[end..];
            let cleared = rest.len().min(MIN_MATCH - 1);
            rest[..cleared].fill(0);
        }
    }

    /// Makes sure that enough is ahead; a match that starts at `found` moves with the window.
    fn fill(&mut self, found: &mut usize) {
        while self.ahead < MIN_AHEAD && !self.ended {
            let room = 2 * WINDOW - self.ahead - self.at;
            if self.at < WINDOW + MAX_DISTANCE {
                self.read(room);
                continue;
            }
            self.window.copy_within(WINDOW..2 * WINDOW, 0);
            *found = found.wrapping_sub(WINDOW);
            self.at -= WINDOW;
            self.block_start -= WINDOW as isize;
            for place in self.heads.iter_mut().chain(self.previous.iter_mut()) {
                *place = place.saturating_sub(WINDOW as u16);
            }
            self.read(room + WINDOW);
        }
    }

    /// Remembers this place; gives the last one of the same hash that a match can start at.
    fn insert(&mut self) -> Option<usize> {
        self.hash = ((self.hash << 5) ^ usize::from(self.window[self.at + 2])) & HASH_MASK;
        let head = self.heads[self.hash];
        self.previous[self.at % WINDOW] = head;
        self.ordinals[self.at % WINDOW] = self.ordinals[usize::from(head) % WINDOW].wrapping_add(1);
        self.heads[self.hash] = self.at as u16;
        let head = usize::from(head);
        (head != 0 && self.at - head <= MAX_DISTANCE && self.at + MIN_AHEAD <= 2 * WINDOW).then_some(head)
    }

    /// Passes the rest of a match of `length` bytes that started at the byte before.
    fn skip(&mut self, length: usize) {
        for _ in 0..length - 2 {
            self.at += 1;
            self.insert();
        }
        self.at += 1;
        self.ahead -= length - 1;
    }

    /// The longest match, if it is longer than the `last` one, from the place `head` on.
    ///
    /// gzip looks at up to `chain` places that have the hash of the bytes here, the latest first. Whatever matches longer than the best
    /// one has the same bytes at each offset up to there, so it is enough to look where the rarest of them are. The ordinals tell
    /// whether gzip would have come that far.
    fn longest(&self, head: usize, last: Found) -> Found {
        let mut best = last;
        let limit = self.at.saturating_sub(MAX_DISTANCE).min(head - 1);
        let Some(scan) = self.ahead_of(self.at) else { return best };
        let mut chain = self.effort.chain;
        if last.length >= self.effort.good {
            chain >>= 2;
        }
        let mut end = End::of(scan, best.length);
        let first = self.ordinals[head % WINDOW];
        let before = |place: usize| usize::from(first.wrapping_sub(self.ordinals[place % WINDOW]));
        let (mut place, mut offset) = self.rarest(scan, best.length, head, head);
        while place > limit + offset {
            let start = place - offset;
            if let Some(there) = self.ahead_of(start)
                && end.is_in(there)
            {
                let length = common(there, scan);
                if length > best.length {
                    if before(start) >= chain {
                        break;
                    }
                    best = Found { length, start };
                    if length >= self.effort.nice {
                        break;
                    }
                    end = End::of(scan, length);
                    let next = usize::from(self.previous[start % WINDOW]);
                    (place, offset) = self.rarest(scan, length, start, next);
                    continue;
                }
            }
            place = usize::from(self.previous[place % WINDOW]);
            if offset == 0 && before(place) >= chain {
                break;
            }
        }
        best.length = best.length.min(self.ahead);
        if best.length == MIN_MATCH && self.at.wrapping_sub(best.start) > TOO_FAR {
            best.length -= 1;
        }
        best
    }

    /// A place that a longer match than `best` bytes has at some offset, `(place, offset)`: of the offsets looked at, the one whose bytes were last seen
    /// longest ago. Matches from `start` on are known, and `next` is the next place to look at for offset 0.
    fn rarest(&self, scan: &[u8; MAX_MATCH], best: usize, start: usize, next: usize) -> (usize, usize) {
        if self.effort.chain < PATIENT {
            return (next, 0);
        }
        // What overlaps this place is not remembered yet.
        let end = (best - 1).min(self.at - start + 1);
        let offsets = end.saturating_sub(OFFSETS).max(1)..end;
        let places = offsets.map(|offset| (usize::from(self.heads[hash(scan, offset)]), offset));
        places.fold((next, 0), |rarest, other| {
            let start = |(place, offset): (usize, usize)| place.saturating_sub(offset);
            if start(other) < start(rarest) { other } else { rarest }
        })
    }

    /// What the longest match at a place would be compared with.
    fn ahead_of(&self, place: usize) -> Option<&[u8; MAX_MATCH]> {
        self.window.get(place..)?.first_chunk()
    }

    /// Whether what the block holds so far compresses so well that it may as well end.
    fn should_end(&self, block: &Block) -> bool {
        block.symbols().is_multiple_of(LOOK)
            && block.matches() < block.symbols() / 2
            && block.most_bytes() < (self.at as isize - self.block_start).unsigned_abs() / 2
    }

    fn end_block(&mut self, block: &mut Block, last: bool) {
        let length = (self.at as isize - self.block_start).unsigned_abs();
        let start = usize::try_from(self.block_start).ok();
        block.end(length, start.map(|start| &self.window[start..self.at]), last);
        self.block_start = self.at as isize;
    }
}

/// The last bytes of what a match longer than the best one would have in common, four at once: nearly all places are told apart by them.
struct End {
    at: usize,
    mask: u32,
    bytes: u32,
}

impl End {
    /// For a best match of `best` bytes, at least two.
    fn of(scan: &[u8; MAX_MATCH], best: usize) -> Self {
        let (at, mask) = if best < 3 { (0, 0x00ff_ffff) } else { (best - 3, u32::MAX) };
        Self { at, mask, bytes: four(scan, at) }
    }

    fn is_in(&self, there: &[u8; MAX_MATCH]) -> bool {
        (four(there, self.at) ^ self.bytes) & self.mask == 0
    }
}

/// Four bytes; none of the last ones are asked for, since a match of full length ends a search.
fn four(bytes: &[u8; MAX_MATCH], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// gzip's hash of three bytes.
fn hash(bytes: &[u8; MAX_MATCH], at: usize) -> usize {
    let byte = |at: usize| bytes.get(at).copied().map_or(0, usize::from);
    (byte(at) << 10 ^ byte(at + 1) << 5 ^ byte(at + 2)) & HASH_MASK
}

/// Length of the common start.
fn common(a: &[u8], b: &[u8]) -> usize {
    let (a8, _) = a.as_chunks::<8>();
    let (b8, _) = b.as_chunks::<8>();
    let words = a8.iter().zip(b8).take_while(|(a, b)| a == b).count() * 8;
    words + a[words..].iter().zip(&b[words..]).take_while(|(a, b)| a == b).count()
}
