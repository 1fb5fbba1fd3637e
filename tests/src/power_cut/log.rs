//! Reads what QEMU's `blklogwrites` records: the format of Linux' dm-log-writes (`drivers/md/dm-log-writes.c`).
//!
//! ```text
//! sector 0    magic u64, version u64 (1), entries u64, sector size u32
//! then, for each entry, a sector of
//!             first sector u64, sectors u64, flags u64, length of a mark's data u64
//!             and as many sectors of data, unless it is a discard
//! ```
//!
//! The superblock's count of entries lags until the next flush, so the file is read to its end.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::disk::Content;
use super::event::{Event, SECTOR, Write};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;

const FLUSH: u64 = 1 << 0;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;

/// A log.
pub(super) struct Log {
    /// The content of a write is in here, at sector [`Write::content`].
    pub(super) file: File,
    /// What happened.
    pub(super) events: Vec<Event>,
    /// Where in the file each of them is, in sectors.
    at: Vec<u64>,
}

impl Log {
    /// Reads a log. A write that is to go to stable storage at once (FUA) is taken for an ordinary one, which leaves more that may get
    /// lost.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let (at, events) =
            parse(&file).with_context(|| format!("reading {}", path.display()))?.into_iter().unzip();
        Ok(Self { file, events, at })
    }

    /// How many events there were when the file had so many bytes.
    pub(super) fn events_in(&self, bytes: u64) -> usize {
        self.at.partition_point(|at| at * SECTOR < bytes)
    }
}

fn parse(file: &File) -> Result<Vec<(u64, Event)>> {
    let sectors = file.metadata()?.len().div_ceil(SECTOR);
    let start = words(file, 0)?;
    ensure!((start[0], start[1]) == (MAGIC, VERSION), "it is not a log of writes");
    ensure!(start[3] & 0xffff_ffff == SECTOR, "its sectors do not have {SECTOR} bytes");
    let (mut events, mut at, mut entries) = (Vec::new(), 1, 0);
    while at < sectors {
        let [sector, count, flags, _] = words(file, at)?;
        let entry = at;
        at += 1;
        ensure!(flags & MARK == 0 && flags <= FLUSH | FUA | DISCARD, "entry with flags {flags:#x}");
        if count == 0 && flags == 0 {
            break;
        }
        entries += 1;
        if flags & FLUSH != 0 {
            events.push((entry, Event::Flush));
        }
        // What a discarded sector holds is anybody's guess; no file system here relies on it.
        if count > 0 && flags & DISCARD == 0 {
            events.push((entry, Event::Write(Write { sector, count, content: at })));
            at += count;
        }
    }
    ensure!(entries >= start[2], "it ends after {entries} of {} entries", start[2]);
    Ok(events)
}

/// The first four numbers of a sector; a file that ends within it goes on with zeros.
fn words(file: &File, sector: u64) -> Result<[u64; 4]> {
    let mut bytes = [0; 32];
    Content::read_at(file, &mut bytes, sector * SECTOR)?;
    let (words, _) = bytes.as_chunks();
    Ok([0, 1, 2, 3].map(|index| u64::from_le_bytes(words[index])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(words: &[u64]) -> Vec<u8> {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.resize(SECTOR as usize, 0);
        bytes
    }

    #[test]
    fn a_log_is_read_to_its_end_and_not_to_its_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = [
            sector(&[MAGIC, VERSION, 1, SECTOR]),
            sector(&[8, 2, 0, 0]),
            vec![7; 2 * SECTOR as usize],
            sector(&[0, 0, FLUSH, 0]),
            sector(&[64, 8, DISCARD, 0]),
            sector(&[9, 1, FUA, 0]),
            vec![8; SECTOR as usize],
        ]
        .concat();
        std::fs::write(&path, &log).unwrap();
        let first = Event::Write(Write { sector: 8, count: 2, content: 2 });
        let second = Event::Write(Write { sector: 9, count: 1, content: 7 });
        let read = Log::read(&path).unwrap();
        assert_eq!(read.events, [first, Event::Flush, second]);
        let counts = [0, 1, 4, 5, 6, 7, 99].map(|sectors| read.events_in(sectors * SECTOR));
        assert_eq!(counts, [0, 0, 1, 2, 2, 3, 3]);
        std::fs::write(&path, &log[8..]).unwrap();
        assert!(Log::read(&path).is_err());
        // Its own count says that there is more.
        std::fs::write(&path, [&sector(&[MAGIC, VERSION, 5, SECTOR]), &log[SECTOR as usize..]].concat())
            .unwrap();
        assert!(Log::read(&path).is_err());
    }
}
