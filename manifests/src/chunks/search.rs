//! Finds chunks among the block hashes of a host's slots.

use crate::name::Slot;

use super::format::*;

/// What a slot is to the update that searches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// Not written by this update: chunks may come from anywhere in it.
    Source,
    /// The slot that is being written, front to back: a chunk may stay where it is, or come from further back than where it
    /// goes to, because that part still holds what it held.
    Destination,
}

/// Where a chunk was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The slot that holds it.
    pub slot: Slot,
    /// Its first block there.
    pub block: u64,
    /// It is where it has to be already.
    pub in_place: bool,
}

/// How many lengths are looked for at most where a block ends chunks of many lengths, the shortest first. Each costs a hash wherever a
/// slot holds that block. A publisher's chunks that may end in zeros have 32 lengths.
const MOST_LENGTHS: usize = 32;

/// A search for all chunks of an index. Takes at most 44 bytes of memory a chunk.
#[derive(Debug)]
pub struct Search<'a> {
    index: &'a Index,
    /// The numbers of all chunks: by last block, length and id, and those of one id in the image's order.
    sorted: Vec<u32>,
    /// For each run of chunks with one id, where it begins in `sorted`: how many of it need no place any more, from the first on.
    placed: Vec<u32>,
    /// In the order of `sorted`.
    kinds: Vec<Kind>,
    found: Vec<Option<Found>>,
    /// How often blocks were hashed.
    #[cfg(test)]
    pub(super) hashed: usize,
}

/// The chunks that one block ends and that have one length.
#[derive(Debug)]
struct Kind {
    last: [u8; 4],
    blocks: u8,
    /// Which of `sorted` they are.
    start: u32,
    end: u32,
    /// How many of them were not found yet.
    missing: u32,
}

impl<'a> Search<'a> {
    /// A search that has found nothing yet.
    pub fn new(index: &'a Index) -> Self {
        let chunk = |number: &u32| &index.chunks[*number as usize];
        let mut sorted: Vec<u32> = (0..).take(index.chunks.len()).collect();
        sorted.sort_unstable_by_key(|number| {
            let Chunk { start, blocks, last, id } = *chunk(number);
            (last, blocks, id, start)
        });
        let kinds = kinds(sorted.iter().map(chunk));
        let (placed, found) = (vec![0; sorted.len()], vec![None; sorted.len()]);
        Self {
            index,
            sorted,
            placed,
            kinds,
            found,
            #[cfg(test)]
            hashed: 0,
        }
    }

    /// Starts with a slot: the hashes of its blocks follow, from block 0 on.
    pub fn scan(&mut self, slot: Slot, holding: Holding) -> Scan<'_, 'a> {
        Scan { search: self, slot, holding, next: 0, recent: vec![[0; 32]; RING] }
    }

    /// Where each chunk of the index is, in the index's order.
    pub fn finish(self) -> Vec<Option<Found>> {
        self.found
    }

    /// Takes in where a chunk of a kind is.
    fn place(&mut self, kind: usize, number: usize, at: Found) {
        if self.found[number].replace(at).is_none() {
            self.kinds[kind].missing -= 1;
        }
    }
}

/// The kinds of chunks that come sorted.
fn kinds<'c>(sorted: impl Iterator<Item = &'c Chunk>) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    let mut lengths = 0;
    for (at, chunk) in (0..).zip(sorted) {
        match kinds.last_mut() {
            Some(kind) if (kind.last, kind.blocks) == (chunk.last, chunk.blocks) => {
                (kind.end, kind.missing) = (at + 1, kind.missing + 1);
            }
            before => {
                lengths = if before.is_some_and(|kind| kind.last == chunk.last) { lengths + 1 } else { 1 };
                if lengths <= MOST_LENGTHS {
                    let (last, blocks) = (chunk.last, chunk.blocks);
                    kinds.push(Kind { last, blocks, start: at, end: at + 1, missing: 1 });
                }
            }
        }
    }
    kinds
}

const RING: usize = MAX_CHUNK_BLOCKS + 1;

/// A slot being searched.
#[derive(Debug)]
pub struct Scan<'s, 'a> {
    search: &'s mut Search<'a>,
    slot: Slot,
    holding: Holding,
    next: u64,
    recent: Vec<Leaf>,
}

impl Scan<'_, '_> {
    /// Takes the hash of the next block.
    pub fn push(&mut self, leaf: &Leaf) {
        self.recent[self.next as usize % RING] = *leaf;
        self.next += 1;
        let key = [leaf[0], leaf[1], leaf[2], leaf[3]];
        let first = self.search.kinds.partition_point(|kind| kind.last < key);
        for kind in first..self.search.kinds.len() {
            if self.search.kinds[kind].last != key {
                break;
            }
            self.consider(kind);
        }
    }

    /// Sees whether the last blocks are chunks of a kind.
    fn consider(&mut self, kind: usize) {
        let Kind { last, blocks, start, end, missing } = self.search.kinds[kind];
        let Some(block) = self.next.checked_sub(u64::from(blocks)) else { return };
        let here = self.in_place(block).filter(|number| {
            let chunk = &self.search.index.chunks[*number];
            let is_there = self.search.found[*number].is_some_and(|found| found.in_place);
            (chunk.last, chunk.blocks) == (last, blocks) && !is_there
        });
        if missing == 0 && here.is_none() {
            return;
        }
        let id = self.id(block);
        let (slot, is_source) = (self.slot, self.holding == Holding::Source);
        let search = &mut *self.search;
        let chunks = &search.index.chunks;
        if let Some(number) = here.filter(|number| chunks[*number].id == id) {
            search.place(kind, number, Found { slot, block, in_place: true });
        }
        // What was placed once is passed over from then on, so that a block that many chunks end with is no work for each.
        let (start, end) = (start as usize, end as usize);
        let first =
            start + search.sorted[start..end].partition_point(|number| chunks[*number as usize].id < id);
        while let Some(placed) = search.placed[first..end].first() {
            let Some(&number) = search.sorted[first..end].get(*placed as usize) else { break };
            let (number, chunk) = (number as usize, &chunks[number as usize]);
            if chunk.id != id || !(is_source || block >= chunk.start) {
                break;
            }
            search.placed[first] += 1;
            if search.found[number].is_none() {
                search.place(kind, number, Found { slot, block, in_place: false });
            }
        }
    }

    /// The chunk that begins at a block of the image, where what is at that block of the slot may stay.
    fn in_place(&self, block: u64) -> Option<usize> {
        let is_written = self.holding == Holding::Destination;
        let chunks = is_written.then_some(&self.search.index.chunks)?;
        chunks.binary_search_by_key(&block, |chunk| chunk.start).ok()
    }

    fn id(&mut self, from: u64) -> [u8; 8] {
        #[cfg(test)]
        {
            self.search.hashed += 1;
        }
        id_of((from..self.next).map(|block| &self.recent[block as usize % RING]))
    }
}
