//! The content of a disk after a power cut.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::event::{SECTOR, Write};

/// Bytes by their offset; beyond their end there are zeros.
pub trait Content {
    /// Fills `buffer` from `offset`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Whether there may be anything but zeros in these bytes.
    fn holds(&self, _bytes: Range<u64>) -> io::Result<bool> {
        Ok(true)
    }
}

impl Content for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match FileExt::read_at(self, &mut buffer[filled..], offset + filled as u64)? {
                0 => break,
                length => filled += length,
            }
        }
        buffer[filled..].fill(0);
        Ok(())
    }

    fn holds(&self, bytes: Range<u64>) -> io::Result<bool> {
        match seek(self, SeekFrom::Data(bytes.start)) {
            Ok(data) => Ok(data < bytes.end),
            Err(Errno::NXIO) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Content for Vec<u8> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let there = &self[start..self.len().min(start + buffer.len())];
        buffer[..there.len()].copy_from_slice(there);
        buffer[there.len()..].fill(0);
        Ok(())
    }
}

/// A disk, and what was written to it.
pub struct Disk<'a> {
    base: &'a dyn Content,
    written: &'a dyn Content,
    /// The sectors that were written and are on stable storage, each with the number of its content.
    there: BTreeMap<u64, u64>,
}

impl<'a> Disk<'a> {
    /// A disk that held `base`; the content of writes is in `written`, by its number.
    pub fn new(base: &'a dyn Content, written: &'a dyn Content) -> Self {
        Self { base, written, there: BTreeMap::new() }
    }

    /// Lets a write reach stable storage.
    pub fn settle(&mut self, write: &Write) {
        let Write { sector, count, content } = *write;
        self.there.extend((0..count).map(|index| (sector + index, content + index)));
    }

    /// The disk where, beside what is on stable storage, these sectors got through.
    pub fn view<'v>(&'v self, through: &'v BTreeMap<u64, u64>) -> View<'v> {
        View { disk: self, through }
    }

    /// What is in a sector on stable storage.
    pub(super) fn sector(&self, sector: u64) -> io::Result<[u8; SECTOR as usize]> {
        let mut bytes = [0; SECTOR as usize];
        match self.there.get(&sector) {
            Some(content) => self.written.read_at(&mut bytes, content * SECTOR)?,
            None => self.base.read_at(&mut bytes, sector * SECTOR)?,
        }
        Ok(bytes)
    }

    /// What was written under this number.
    pub(super) fn written(&self, content: u64) -> io::Result<[u8; SECTOR as usize]> {
        let mut bytes = [0; SECTOR as usize];
        self.written.read_at(&mut bytes, content * SECTOR)?;
        Ok(bytes)
    }

    /// The number of the content of a sector on stable storage; none if it was never written.
    pub(super) fn content_of(&self, sector: u64) -> Option<u64> {
        self.there.get(&sector).copied()
    }
}

/// A disk after a power cut.
#[derive(Clone, Copy)]
pub struct View<'v> {
    disk: &'v Disk<'v>,
    through: &'v BTreeMap<u64, u64>,
}

impl View<'_> {
    /// The sectors that differ from what was there before the first event, and their content.
    pub(super) fn changed(&self) -> impl Iterator<Item = (u64, io::Result<[u8; SECTOR as usize]>)> {
        let settled = self.disk.there.iter().filter(|(sector, _)| !self.through.contains_key(sector));
        settled.chain(self.through.iter()).map(|(sector, content)| (*sector, self.disk.written(*content)))
    }
}

impl Content for View<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.base.read_at(buffer, offset)?;
        let end = offset + buffer.len() as u64;
        let sectors = offset / SECTOR..end.div_ceil(SECTOR);
        let settled = self.disk.there.range(sectors.clone());
        for (sector, content) in settled.chain(self.through.range(sectors)) {
            let bytes = self.disk.written(*content)?;
            let start = sector * SECTOR;
            let (from, to) = (offset.max(start), end.min(start + SECTOR));
            buffer[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
        }
        Ok(())
    }

    fn holds(&self, bytes: Range<u64>) -> io::Result<bool> {
        let sectors = bytes.start / SECTOR..bytes.end.div_ceil(SECTOR);
        let changed =
            [&self.disk.there, self.through].iter().any(|map| map.range(sectors.clone()).next().is_some());
        Ok(changed || self.disk.base.holds(bytes)?)
    }
}

/// A part of something, such as a partition of a disk.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    whole: &'a dyn Content,
    offset: u64,
}

impl<'a> Part<'a> {
    /// `whole` from `offset` on.
    pub(super) fn new(whole: &'a dyn Content, offset: u64) -> Self {
        Self { whole, offset }
    }
}

impl Content for Part<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.whole.read_at(buffer, self.offset + offset)
    }

    fn holds(&self, bytes: Range<u64>) -> io::Result<bool> {
        self.whole.holds(self.offset + bytes.start..self.offset + bytes.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_got_through_lies_over_what_was_flushed_over_what_was_there() {
        let base = vec![0; 4 * SECTOR as usize];
        let written: Vec<u8> = (1..=3).flat_map(|byte| [byte; SECTOR as usize]).collect();
        let mut disk = Disk::new(&base, &written);
        disk.settle(&Write { sector: 1, count: 2, content: 0 });
        let through = [(2, 2)].into();
        let view = disk.view(&through);
        let mut bytes = [9; 4 * SECTOR as usize];
        view.read_at(&mut bytes, SECTOR / 2).unwrap();
        let at = |half: usize| bytes[half * SECTOR as usize / 2];
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(at), [0, 1, 1, 3, 3, 0, 0, 0]);
        assert_eq!(view.changed().count(), 2);
    }
}
