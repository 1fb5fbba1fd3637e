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

/// A search for all chunks of an index. Takes 8 + 32 bytes of memory a chunk.
#[derive(Debug)]
pub struct Search<'a> {
    index: &'a Index,
    /// Last block's hash and number of each chunk, sorted.
    by_last: Vec<([u8; 4], u32)>,
    found: Vec<Option<Found>>,
}

impl<'a> Search<'a> {
    /// A search that has found nothing yet.
    pub fn new(index: &'a Index) -> Self {
        let mut by_last: Vec<_> = index.chunks.iter().zip(0..).map(|(chunk, n)| (chunk.last, n)).collect();
        by_last.sort_unstable();
        Self { index, by_last, found: vec![None; index.chunks.len()] }
    }

    /// Starts with a slot: the hashes of its blocks follow, from block 0 on.
    pub fn scan(&mut self, slot: Slot, holding: Holding) -> Scan<'_, 'a> {
        Scan { search: self, slot, holding, next: 0, recent: vec![[0; 32]; RING] }
    }

    /// Where each chunk of the index is, in the index's order.
    pub fn finish(self) -> Vec<Option<Found>> {
        self.found
    }
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
        let first = self.search.by_last.partition_point(|(last, _)| *last < key);
        for at in first..self.search.by_last.len() {
            let (last, number) = self.search.by_last[at];
            if last != key {
                break;
            }
            self.consider(number as usize);
        }
    }

    fn consider(&mut self, number: usize) {
        let chunk = &self.search.index.chunks[number];
        let Some(block) = self.next.checked_sub(u64::from(chunk.blocks)) else { return };
        let in_place = self.holding == Holding::Destination && block == chunk.start;
        let usable = self.holding == Holding::Source || block >= chunk.start;
        let better = match self.search.found[number] {
            None => true,
            Some(found) => in_place && !found.in_place,
        };
        if usable && better && self.id(block) == chunk.id {
            self.search.found[number] = Some(Found { slot: self.slot, block, in_place });
        }
    }

    fn id(&self, from: u64) -> [u8; 8] {
        id_of((from..self.next).map(|block| &self.recent[block as usize % RING]))
    }
}
