//! Tells states apart without reading them whole: a print of each area that is a sum over its sectors.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;

use anyhow::Result;
use upright_manifests::digest::Digest;

use super::disk::Disk;
use super::event::{SECTOR, Write};

/// The print of an area: which sectors differ from what was there before the first event, and what they hold.
pub(super) type Print = u128;

/// The prints of several areas of a disk.
pub(super) struct Prints {
    /// Sectors of each area.
    areas: Vec<Range<u64>>,
    settled: Vec<Print>,
    known: HashMap<(u64, Option<u64>), Print>,
}

impl Prints {
    /// Of areas given in bytes, before the first event.
    pub(super) fn new(areas: &[Range<u64>]) -> Self {
        let sectors = |area: &Range<u64>| area.start / SECTOR..area.end.div_ceil(SECTOR);
        Self {
            areas: areas.iter().map(sectors).collect(),
            settled: vec![0; areas.len()],
            known: HashMap::new(),
        }
    }

    /// Takes in that a write reaches stable storage, before `disk` does.
    pub(super) fn settle(&mut self, disk: &Disk<'_>, write: &Write) -> Result<()> {
        let Write { sector, count, content } = *write;
        let through = (0..count).map(|index| (sector + index, content + index)).collect();
        self.settled = self.with(disk, &through)?;
        Ok(())
    }

    /// The prints if these sectors got through.
    pub(super) fn with(&mut self, disk: &Disk<'_>, through: &BTreeMap<u64, u64>) -> Result<Vec<Print>> {
        let mut prints = self.settled.clone();
        for (sector, content) in through {
            let Some(area) = self.areas.iter().position(|area| area.contains(sector)) else { continue };
            prints[area] ^= self.of(disk, *sector, disk.content_of(*sector))?;
            prints[area] ^= self.of(disk, *sector, Some(*content))?;
        }
        Ok(prints)
    }

    /// The print of a sector that holds this content, or what was there before.
    fn of(&mut self, disk: &Disk<'_>, sector: u64, content: Option<u64>) -> io::Result<Print> {
        if let Some(print) = self.known.get(&(sector, content)) {
            return Ok(*print);
        }
        let bytes = match content {
            Some(content) => disk.written(content)?,
            None => disk.sector(sector)?,
        };
        let digest = Digest::of(&[&sector.to_le_bytes()[..], &bytes].concat());
        let print = digest.as_bytes().first_chunk().map_or(0, |start| Print::from_le_bytes(*start));
        self.known.insert((sector, content), print);
        Ok(print)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_content_has_an_equal_print_however_it_came() {
        let base = vec![0; 4 * SECTOR as usize];
        let written: Vec<u8> = [1, 2, 1, 0].iter().flat_map(|byte| [*byte; SECTOR as usize]).collect();
        let mut disk = Disk::new(&base, &written);
        let mut prints = Prints::new(&[0..2 * SECTOR, 2 * SECTOR..4 * SECTOR]);
        let fresh = prints.with(&disk, &BTreeMap::new()).unwrap();
        let first = prints.with(&disk, &[(1, 0)].into()).unwrap();
        assert!(first[0] != fresh[0] && first[1] == fresh[1]);
        for content in [0, 1, 2] {
            let write = Write { sector: 1, count: 1, content };
            prints.settle(&disk, &write).unwrap();
            disk.settle(&write);
        }
        assert_eq!(prints.with(&disk, &BTreeMap::new()).unwrap(), first);
        assert_eq!(prints.with(&disk, &[(1, 3)].into()).unwrap(), fresh);
    }
}
