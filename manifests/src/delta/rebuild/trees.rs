//! Blocks of a deflate stream (RFC 1951) with Huffman trees as gzip and zlib build them.
//!
//! Which of many optimal trees comes out depends on how ties are broken; the order here is theirs.

/// Symbols in a block at most.
const MOST_SYMBOLS: usize = (32 << 10) - 1;
const LITERALS: usize = 286;
const DISTANCES: usize = 30;
const END: usize = 256;
const LENGTH_EXTRA: [u8; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCE_EXTRA: [u8; DISTANCES] =
    [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];
/// Code lengths are told in this order.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const REPEAT: u8 = 16;
const ZEROS: u8 = 17;
const MANY_ZEROS: u8 = 18;

/// A byte, or a repetition of 3 to 258 bytes from 1 to 32768 bytes before.
#[derive(Debug, Clone, Copy)]
pub(super) enum Symbol {
    Literal(u8),
    Match { distance: usize, length: usize },
}

/// A block in the making, and the stream before it.
pub(super) struct Block {
    symbols: Vec<Symbol>,
    matches: usize,
    literals: Counts<LITERALS>,
    distances: Counts<DISTANCES>,
    out: Bits,
}

type Counts<const N: usize> = [u32; N];

impl Default for Block {
    fn default() -> Self {
        let mut block = Self {
            symbols: Vec::new(),
            matches: 0,
            literals: [0; LITERALS],
            distances: [0; DISTANCES],
            out: Bits::default(),
        };
        block.clear();
        block
    }
}

impl Block {
    /// Adds a symbol; gives whether the block is full.
    pub(super) fn push(&mut self, symbol: Symbol) -> bool {
        match symbol {
            Symbol::Literal(byte) => self.literals[usize::from(byte)] += 1,
            Symbol::Match { distance, length } => {
                self.literals[END + 1 + length_code(length).0] += 1;
                self.distances[distance_code(distance).0] += 1;
                self.matches += 1;
            }
        }
        self.symbols.push(symbol);
        self.symbols.len() == MOST_SYMBOLS
    }

    pub(super) fn symbols(&self) -> usize {
        self.symbols.len()
    }

    pub(super) fn matches(&self) -> usize {
        self.matches
    }

    /// An upper bound of the block's length in bytes, as gzip estimates it.
    pub(super) fn most_bytes(&self) -> usize {
        let extra = self.distances.iter().zip(DISTANCE_EXTRA);
        let extra: usize = extra.map(|(count, extra)| *count as usize * (5 + usize::from(extra))).sum();
        (self.symbols.len() * 8 + extra) / 8
    }

    /// Ends the block, in the shortest of the three ways. It stands for `length` bytes, which are `stored` if they are
    /// still at hand.
    pub(super) fn end(&mut self, length: usize, stored: Option<&[u8]>, last: bool) {
        let literals = Tree::new(&self.literals, 15);
        let distances = Tree::new(&self.distances, 15);
        let told = told(&literals, &distances);
        let mut counts = [0; 19];
        told.iter().for_each(|(code, _)| counts[usize::from(*code)] += 1);
        let lengths = Tree::new(&counts, 7);
        let most = (3..19).rev().find(|at| lengths.length(ORDER[*at]) != 0).unwrap_or(2);
        let table = 3 * (most + 1) + 14 + lengths.bits(&counts, told_extra);
        let body = literals.bits(&self.literals, literal_extra)
            + distances.bits(&self.distances, |code| DISTANCE_EXTRA[code]);
        let fixed = (Tree::fixed_literals(), Tree::fixed_distances());
        let fixed_body = fixed.0.bits(&self.literals, literal_extra)
            + fixed.1.bits(&self.distances, |code| DISTANCE_EXTRA[code]);
        let (dynamic_bytes, fixed_bytes) = ((table + body + 3).div_ceil(8), (fixed_body + 3).div_ceil(8));
        let kind = |kind: u32| kind << 1 | u32::from(last);
        match stored {
            Some(bytes) if length + 4 <= dynamic_bytes.min(fixed_bytes) => {
                self.out.put(kind(0), 3);
                self.out.stored(bytes);
            }
            _ if fixed_bytes <= dynamic_bytes => {
                self.out.put(kind(1), 3);
                self.body(&fixed.0, &fixed.1);
            }
            _ => {
                self.out.put(kind(2), 3);
                self.out.put((literals.count() - 257) as u32, 5);
                self.out.put((distances.count() - 1) as u32, 5);
                self.out.put((most + 1 - 4) as u32, 4);
                for at in &ORDER[..=most] {
                    self.out.put(u32::from(lengths.length(*at)), 3);
                }
                for (code, extra) in told {
                    lengths.put(usize::from(code), &mut self.out);
                    self.out.put(u32::from(extra), told_extra(usize::from(code)));
                }
                self.body(&literals, &distances);
            }
        }
        self.clear();
    }

    /// The whole stream.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.out.align();
        self.out.bytes
    }

    fn body(&mut self, literals: &Tree, distances: &Tree) {
        for symbol in &self.symbols {
            match *symbol {
                Symbol::Literal(byte) => literals.put(usize::from(byte), &mut self.out),
                Symbol::Match { distance, length } => {
                    let (code, rest) = length_code(length);
                    literals.put(END + 1 + code, &mut self.out);
                    self.out.put(rest, LENGTH_EXTRA[code]);
                    let (code, rest) = distance_code(distance);
                    distances.put(code, &mut self.out);
                    self.out.put(rest, DISTANCE_EXTRA[code]);
                }
            }
        }
        literals.put(END, &mut self.out);
    }

    fn clear(&mut self) {
        self.symbols.clear();
        self.matches = 0;
        self.literals = [0; LITERALS];
        self.literals[END] = 1;
        self.distances = [0; DISTANCES];
    }
}

/// The code of a match's length, and what its extra bits say.
fn length_code(length: usize) -> (usize, u32) {
    let rest = length - 3;
    match rest {
        0..8 => (rest, 0),
        255 => (28, 0),
        _ => {
            let extra = rest.ilog2() as usize - 2;
            (4 * extra + (rest >> extra), (rest & ((1 << extra) - 1)) as u32)
        }
    }
}

/// The code of a match's distance, and what its extra bits say.
fn distance_code(distance: usize) -> (usize, u32) {
    let rest = distance - 1;
    if rest < 4 {
        return (rest, 0);
    }
    let extra = rest.ilog2() as usize - 1;
    (2 * extra + (rest >> extra), (rest & ((1 << extra) - 1)) as u32)
}

fn literal_extra(code: usize) -> u8 {
    code.checked_sub(END + 1).map_or(0, |code| LENGTH_EXTRA[code])
}

fn told_extra(code: usize) -> u8 {
    match code as u8 {
        REPEAT => 2,
        ZEROS => 3,
        MANY_ZEROS => 7,
        _ => 0,
    }
}

/// The code lengths of both trees as codes and what their extra bits say. A run never spans both.
fn told(literals: &Tree, distances: &Tree) -> Vec<(u8, u8)> {
    let mut told = Vec::new();
    for tree in [literals, distances] {
        let (mut before, mut count, mut most, mut least) = (None, 0u8, 7, 4);
        if tree.length(0) == 0 {
            (most, least) = (138, 3);
        }
        for at in 0..tree.count() {
            let length = tree.length(at);
            let next = (at + 1 < tree.count()).then(|| tree.length(at + 1));
            count += 1;
            if count < most && next == Some(length) {
                continue;
            }
            match (count, length) {
                _ if count < least => told.extend(std::iter::repeat_n((length, 0), usize::from(count))),
                (_, 1..) => {
                    if before != Some(length) {
                        told.push((length, 0));
                        count -= 1;
                    }
                    told.push((REPEAT, count - 3));
                }
                (..=10, 0) => told.push((ZEROS, count - 3)),
                _ => told.push((MANY_ZEROS, count - 11)),
            }
            count = 0;
            before = Some(length);
            (most, least) = match next {
                Some(0) => (138, 3),
                Some(next) if next == length => (6, 3),
                _ => (7, 4),
            };
        }
    }
    told
}

/// A Huffman code.
struct Tree {
    /// Length and bits of each code, up to the last one that is used.
    codes: Vec<(u8, u16)>,
}

impl Tree {
    /// The code for symbols that occur so often, no longer than `longest` bits.
    fn new(counts: &[u32], longest: u8) -> Self {
        let mut lengths = super::huffman::lengths(counts, longest);
        let used = lengths.iter().rposition(|length| *length != 0).map_or(0, |last| last + 1);
        lengths.truncate(used);
        Self::of(&lengths)
    }

    fn fixed_literals() -> Self {
        let lengths = [[8; 144].as_slice(), &[9; 112], &[7; 24], &[8; 8]].concat();
        Self::of(&lengths)
    }

    fn fixed_distances() -> Self {
        Self::of(&[5; DISTANCES])
    }

    /// The canonical code of these lengths.
    fn of(lengths: &[u8]) -> Self {
        let mut next = [0u16; 17];
        for length in lengths.iter().filter(|length| **length != 0) {
            next[usize::from(*length) + 1] += 1;
        }
        for bits in 1..16 {
            next[bits] = (next[bits] + next[bits - 1]) << 1;
        }
        let code = |length: &u8| {
            let bits = next[usize::from(*length)];
            if *length == 0 {
                return (0, 0);
            }
            next[usize::from(*length)] += 1;
            (*length, bits.reverse_bits() >> (16 - length))
        };
        Self { codes: lengths.iter().map(code).collect() }
    }

    fn count(&self) -> usize {
        self.codes.len()
    }

    fn length(&self, symbol: usize) -> u8 {
        self.codes.get(symbol).map_or(0, |code| code.0)
    }

    /// How many bits the symbols take that occur so often.
    fn bits(&self, counts: &[u32], extra: impl Fn(usize) -> u8) -> usize {
        let bits = |(symbol, count): (usize, &u32)| match count {
            0 => 0,
            _ => *count as usize * usize::from(self.length(symbol) + extra(symbol)),
        };
        counts.iter().enumerate().map(bits).sum()
    }

    fn put(&self, symbol: usize, out: &mut Bits) {
        if let Some((length, bits)) = self.codes.get(symbol) {
            out.put(u32::from(*bits), *length);
        }
    }
}

/// Bits, the lowest first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    held: u64,
    count: u8,
}

impl Bits {
    fn put(&mut self, bits: u32, count: u8) {
        self.held |= u64::from(bits) << self.count;
        self.count += count;
        while self.count >= 8 {
            self.bytes.push(self.held as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    fn align(&mut self) {
        self.put(0, (8 - self.count % 8) % 8);
    }

    fn stored(&mut self, bytes: &[u8]) {
        self.align();
        let length = bytes.len() as u16;
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend((!length).to_le_bytes());
        self.bytes.extend(bytes);
    }
}
