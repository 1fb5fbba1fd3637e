//! Reads any bytes of the sources through whole aligned pages, as block devices want it.

use super::apply::{SegmentError, Sources};
use super::format::{Head, Source};

/// Bytes read at once.
const PAGE: u64 = 32 << 10;
const PAGES: usize = 96;
/// What the cache takes, in bytes.
pub(super) const CACHE_BYTES: u32 = PAGE as u32 * PAGES as u32;

/// Recently read pages of all sources, direct-mapped.
pub(super) struct Cache<'s> {
    sources: &'s dyn Sources,
    sizes: [u64; Source::ALL.len()],
    pages: Vec<Page>,
}

struct Page {
    key: Option<(Source, u64)>,
    bytes: Vec<u8>,
}

impl<'s> Cache<'s> {
    pub(super) fn new(head: &Head, sources: &'s dyn Sources) -> Self {
        let sizes = Source::ALL.map(|source| head.input(source).map_or(0, |input| input.size));
        let pages = (0..PAGES).map(|_| Page { key: None, bytes: Vec::new() }).collect();
        Self { sources, sizes, pages }
    }

    pub(super) fn size(&self, source: Source) -> u64 {
        self.sizes[usize::from(source.id())]
    }

    /// Forgets what was read of a source that is being written.
    pub(super) fn forget(&mut self, source: Source) {
        for page in &mut self.pages {
            if page.key.is_some_and(|(held, _)| held == source) {
                page.key = None;
            }
        }
    }

    /// The longest run of bytes at `offset` that is at hand after at most one read, at most `limit` of them. The caller has
    /// checked that `offset` is inside of the source.
    pub(super) fn some(&mut self, source: Source, offset: u64, limit: usize) -> Result<&[u8], SegmentError> {
        let number = offset / PAGE;
        let size = self.size(source);
        let page = &mut self.pages[number as usize % PAGES];
        if page.key != Some((source, number)) {
            page.key = None;
            let start = number * PAGE;
            page.bytes.resize(PAGE.min(size.saturating_sub(start)) as usize, 0);
            self.sources.read_at(source, start, &mut page.bytes).map_err(|error| SegmentError::Read {
                from: source,
                offset: start,
                error,
            })?;
            page.key = Some((source, number));
        }
        let bytes = page.bytes.get((offset % PAGE) as usize..).unwrap_or_default();
        Ok(&bytes[..bytes.len().min(limit)])
    }
}
