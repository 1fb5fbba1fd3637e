//! cpio archives in the "new ASCII" format, as initrds are (the kernel's `driver-api/early-userspace/buffer-format.rst`).

use std::ops::Range;

const MAGIC: &[u8] = b"070701";
const HEADER: usize = 110;
const SIZE: Range<usize> = 54..62;
const NAME_SIZE: Range<usize> = 94..102;

/// A file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Entry {
    /// Its path, without a slash in front.
    pub(in super::super) path: String,
    /// Where its content is; never empty.
    pub(in super::super) content: Range<usize>,
}

/// The files of an archive that have content, up to where it is damaged or ends.
pub(in super::super) fn entries(archive: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut at = 0;
    while let Some((entry, next)) = entry(archive, at) {
        entries.extend(Some(entry).filter(|entry| !entry.content.is_empty()));
        at = next;
    }
    entries
}

fn entry(archive: &[u8], at: usize) -> Option<(Entry, usize)> {
    let header = archive.get(at..at.checked_add(HEADER)?)?;
    let number =
        |range: Range<usize>| usize::from_str_radix(std::str::from_utf8(header.get(range)?).ok()?, 16).ok();
    if !header.starts_with(MAGIC) {
        return None;
    }
    let name_end = at + HEADER + number(NAME_SIZE)?;
    let name = archive.get(at + HEADER..name_end.checked_sub(1)?)?;
    let start = name_end.next_multiple_of(4);
    let end = start.checked_add(number(SIZE)?)?;
    archive.get(start..end)?;
    let path = String::from_utf8_lossy(name).trim_start_matches("./").trim_start_matches('/').to_owned();
    Some((Entry { path, content: start..end }, end.next_multiple_of(4)))
}
