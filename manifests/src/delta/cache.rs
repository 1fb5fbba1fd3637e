//! Reads any bytes of the sources through whole aligned pages, as block devices want it.

use std::collections::HashMap;

use super::apply::{SegmentError, Sources};
use super::format::{Head, Source};
use crate::aligned::AlignedBuffer;

/// Bytes read at once. Small files are made from neighbours of each other, and a read costs more than what it reads. The C library maps
/// so much for itself, so what is given up is given back.
const PAGE: u64 = 128 << 10;
/// What the cache takes in any case, in bytes.
pub(super) const CACHE_BYTES: u32 = 24 * PAGE as u32;
/// What it takes where there is room, in bytes: more hardly saves reads.
const MOST_BYTES: u64 = 8 << 20;

/// Recently read pages of all sources; the one that has not been used for longest goes first.
pub(super) struct Cache<'s> {
    sources: &'s dyn Sources,
    sizes: [u64; Source::ALL.len()],
    pages: Vec<Page>,
    /// Where in `pages` a page is.
    places: HashMap<Key, usize>,
    /// The place of the page that was used last.
    last: usize,
    /// How many pages there may be.
    most: usize,
    /// How often another page than the last one was used.
    uses: u64,
}

type Key = (u8, u64);

struct Page {
    /// None if it holds nothing.
    key: Option<Key>,
    /// When it was used last.
    used: u64,
    bytes: AlignedBuffer,
    length: usize,
}

impl<'s> Cache<'s> {
    pub(super) fn new(head: &Head, sources: &'s dyn Sources) -> Self {
        Self::of(Source::ALL.map(|source| head.input(source).map_or(0, |input| input.size)), sources)
    }

    fn of(sizes: [u64; Source::ALL.len()], sources: &'s dyn Sources) -> Self {
        let (pages, places) = (Vec::new(), HashMap::new());
        let most = (u64::from(CACHE_BYTES) / PAGE) as usize;
        Self { sources, sizes, pages, places, last: 0, most, uses: 0 }
    }

    pub(super) fn size(&self, source: Source) -> u64 {
        self.sizes[usize::from(source.id())]
    }

    /// From here on it takes `spare` bytes more than [`CACHE_BYTES`] at most.
    pub(super) fn limit(&mut self, spare: u64) {
        self.most = (spare.saturating_add(u64::from(CACHE_BYTES)).min(MOST_BYTES) / PAGE) as usize;
        if self.pages.len() > self.most {
            self.pages.sort_unstable_by_key(|page| std::cmp::Reverse(page.used));
            self.pages.truncate(self.most);
            self.last = 0;
            let keys = self.pages.iter().enumerate();
            self.places = keys.filter_map(|(place, page)| Some((page.key?, place))).collect();
        }
    }

    /// Forgets what was read of a source that is being written.
    pub(super) fn forget(&mut self, source: Source) {
        for page in &mut self.pages {
            if page.key.is_some_and(|(held, _)| held == source.id()) {
                self.places.retain(|key, _| Some(*key) != page.key);
                (page.key, page.used) = (None, 0);
            }
        }
    }

    /// The longest run of bytes at `offset` that is at hand after at most one read, at most `limit` of them. The caller has
    /// checked that `offset` is inside of the source.
    pub(super) fn some(&mut self, source: Source, offset: u64, limit: usize) -> Result<&[u8], SegmentError> {
        let key = (source.id(), offset / PAGE);
        if self.pages.get(self.last).is_none_or(|page| page.key != Some(key)) {
            self.last = match self.places.get(&key) {
                Some(place) => *place,
                None => self.read(source, key)?,
            };
            self.uses += 1;
        }
        let uses = self.uses;
        let bytes = self.pages.get_mut(self.last).map(|page| {
            page.used = uses;
            &page.bytes[..page.length]
        });
        let bytes = bytes.and_then(|bytes| bytes.get((offset % PAGE) as usize..)).unwrap_or_default();
        Ok(&bytes[..bytes.len().min(limit)])
    }

    /// Reads a page; gives its place.
    fn read(&mut self, source: Source, key: Key) -> Result<usize, SegmentError> {
        let place = self.free();
        let start = key.1 * PAGE;
        let length = PAGE.min(self.size(source).saturating_sub(start));
        let Page { key: held, bytes, length: filled, .. } = &mut self.pages[place];
        if let Some(held) = held.take() {
            self.places.remove(&held);
        }
        *filled = length as usize;
        self.sources.read_at(source, start, &mut bytes[..*filled]).map_err(|error| SegmentError::Read {
            from: source,
            offset: start,
            error,
        })?;
        *held = Some(key);
        self.places.insert(key, place);
        Ok(place)
    }

    /// The place of a new page, or of the one that has not been used for longest.
    fn free(&mut self) -> usize {
        let oldest = self.pages.iter().enumerate().min_by_key(|(_, page)| page.used);
        match oldest {
            Some((place, page)) if page.key.is_none() || self.pages.len() >= self.most => place,
            _ => {
                self.pages.push(Page {
                    key: None,
                    used: 0,
                    bytes: AlignedBuffer::new(PAGE as usize),
                    length: 0,
                });
                self.pages.len() - 1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io;

    use super::*;

    /// A source of which each page holds its number, and that remembers what was read of it.
    struct Numbered(RefCell<Vec<u64>>);

    impl Sources for Numbered {
        fn read_at(&self, _: Source, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
            self.0.borrow_mut().push(offset / PAGE);
            buffer.fill((offset / PAGE) as u8);
            Ok(())
        }
    }

    fn read(cache: &mut Cache<'_>, pages: impl IntoIterator<Item = u64>) {
        for page in pages {
            let offset = page * PAGE + 5;
            assert_eq!(cache.some(Source::Base, offset, 3).unwrap(), [page as u8; 3]);
        }
    }

    const SIZES: [u64; Source::ALL.len()] = [1 << 30; Source::ALL.len()];

    #[test]
    fn the_page_that_was_not_used_for_longest_is_read_again() {
        let sources = Numbered(RefCell::default());
        let mut cache = Cache::of(SIZES, &sources);
        read(&mut cache, (0..24).chain([0, 24, 0, 2, 1]));
        assert_eq!(sources.0.borrow()[24..], [24, 1]);
    }

    #[test]
    fn a_limit_gives_pages_up_and_back() {
        let sources = Numbered(RefCell::default());
        let mut cache = Cache::of(SIZES, &sources);
        cache.limit(10 << 20);
        read(&mut cache, (0..60).chain(0..60));
        assert_eq!(sources.0.borrow().len(), 60);
        cache.limit(0);
        assert_eq!(cache.pages.len(), 24);
        read(&mut cache, (36..60).chain([0]));
        assert_eq!(sources.0.borrow()[60..], [0]);
        cache.limit(u64::MAX);
        read(&mut cache, 60..1000);
        assert_eq!(cache.pages.iter().map(|page| page.length as u64).sum::<u64>(), MOST_BYTES);
    }

    #[test]
    fn what_is_forgotten_is_read_again_and_nothing_else() {
        let sources = Numbered(RefCell::default());
        let mut cache = Cache::of(SIZES, &sources);
        read(&mut cache, 0..3);
        cache.some(Source::Root, 0, 1).unwrap();
        cache.forget(Source::Root);
        read(&mut cache, 0..3);
        cache.some(Source::Root, 0, 1).unwrap();
        assert_eq!(*sources.0.borrow(), [0, 1, 2, 0, 0]);
    }
}
