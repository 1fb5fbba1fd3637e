//! Files on a FAT32 as firmware reads them.
//!
//! Source: Microsoft "FAT: General Overview of On-Disk Format" 1.03. A folder ends at the first entry that was never used; a long
//! name counts only if it stands whole before the short name that it was made for.

use std::io;
use std::ops::Range;

use super::disk::Content;
use super::event::SECTOR;

/// Bytes of a folder's entry.
pub(super) const ENTRY: usize = 32;
const FOLDER: u8 = 0x10;
const VOLUME_LABEL: u8 = 0x08;
const LONG_NAME: u8 = 0x0f;
/// What the name of a deleted entry starts with.
pub(super) const DELETED: u8 = 0xe5;

/// Where the characters of a long name are in each of its entries.
pub(super) const UNIT_AT: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/// Cluster numbers from here on end a chain.
const END: u32 = 0x0fff_fff8;

/// A file system.
pub struct Fat<'a> {
    content: &'a dyn Content,
    cluster: u64,
    table: u64,
    clusters_at: u64,
    clusters: u32,
    root: u32,
    /// Whether what follows an entry that was never used is looked at, too.
    beyond_end: bool,
}

/// A file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its long name, or its short one if it has no other.
    pub name: String,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Its first cluster.
    pub(super) start: u32,
    /// Its length in bytes.
    pub(super) size: u32,
    /// Which entries of its folder are its own, the short name's last.
    pub(super) slots: Range<usize>,
}

/// Why something cannot be read.
#[derive(Debug)]
pub enum FatError {
    /// The file system, or the chain of a file, makes no sense.
    Damaged(&'static str),
    /// It cannot be read at all.
    Io(io::Error),
}

impl std::fmt::Display for FatError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged(what) => f.write_str(what),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FatError {}

impl From<io::Error> for FatError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl<'a> Fat<'a> {
    /// The file system that `content` starts with.
    pub fn open(content: &'a dyn Content) -> Result<Self, FatError> {
        let mut boot = [0; SECTOR as usize];
        content.read_at(&mut boot, 0)?;
        let u16_at = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
        let u32_at = |at: usize| u16_at(at) | u16_at(at + 2) << 16;
        let (per_cluster, reserved, copies) = (u64::from(boot[13]), u16_at(14), u64::from(boot[16]));
        let (sectors, table_sectors) = (u32_at(32), u32_at(36));
        if boot[510..] != [0x55, 0xaa]
            || u16_at(11) != SECTOR
            || !per_cluster.is_power_of_two()
            || copies == 0
        {
            return Err(FatError::Damaged("the boot sector is not that of a FAT32"));
        }
        let before = reserved + copies * table_sectors;
        let clusters = sectors.saturating_sub(before) / per_cluster;
        Ok(Self {
            content,
            cluster: per_cluster * SECTOR,
            table: reserved * SECTOR,
            clusters_at: before * SECTOR,
            clusters: clusters.min(u64::from(END)) as u32,
            root: u32_at(44) as u32,
            beyond_end: false,
        })
    }

    /// The same as Linux' vfat sees it, for which a folder has no end (`fs/fat/dir.c`).
    pub fn as_linux(mut self) -> Self {
        self.beyond_end = true;
        self
    }

    /// What is in a folder; `None` if there is no such folder.
    pub fn folder(&self, path: &str) -> Result<Option<Vec<File>>, FatError> {
        let mut files = self.files(self.root)?;
        for name in path.split('/') {
            let next = files.iter().find(|file| file.is_folder && file.name.eq_ignore_ascii_case(name));
            match next {
                Some(folder) => files = self.files(folder.start)?,
                None => return Ok(None),
            }
        }
        Ok(Some(files))
    }

    /// The first `most` bytes of a file.
    pub fn read(&self, file: &File, most: usize) -> Result<Vec<u8>, FatError> {
        let size = (file.size as usize).min(most);
        let mut bytes = self.chain(file.start, size as u64)?;
        match bytes.len() < size {
            true => Err(FatError::Damaged("the file's chain of clusters is shorter than the file")),
            false => {
                bytes.truncate(size);
                Ok(bytes)
            }
        }
    }

    fn files(&self, start: u32) -> Result<Vec<File>, FatError> {
        let mut files = Vec::new();
        let mut long = Long::default();
        for (slot, entry) in self.chain(start, u64::MAX)?.as_chunks::<ENTRY>().0.iter().enumerate() {
            match (entry[0], entry[11]) {
                (0, _) if self.beyond_end => long = Long::default(),
                (0, _) => break,
                (DELETED, _) => long = Long::default(),
                (_, LONG_NAME) => long.add(entry),
                (_, attributes) if attributes & VOLUME_LABEL != 0 => long = Long::default(),
                _ => {
                    let parts = long.units.len() / UNIT_AT.len();
                    let (first, name) = match std::mem::take(&mut long).name_of(entry) {
                        Some(name) => (slot - parts, name),
                        None => (slot, short_name(entry)),
                    };
                    if name != "." && name != ".." {
                        files.push(file(entry, name, first..slot + 1));
                    }
                }
            }
        }
        Ok(files)
    }

    /// The content of a chain of clusters, up to `most` bytes or a little more.
    fn chain(&self, start: u32, most: u64) -> Result<Vec<u8>, FatError> {
        let mut bytes = Vec::new();
        let mut at = start;
        let mut left = self.clusters;
        while (bytes.len() as u64) < most && at != 0 && at < END {
            if at < 2 || at - 2 >= self.clusters || left == 0 {
                return Err(FatError::Damaged("a chain of clusters leads nowhere"));
            }
            let filled = bytes.len();
            bytes.resize(filled + self.cluster as usize, 0);
            self.content
                .read_at(&mut bytes[filled..], self.clusters_at + u64::from(at - 2) * self.cluster)?;
            let mut next = [0; 4];
            self.content.read_at(&mut next, self.table + u64::from(at) * 4)?;
            at = u32::from_le_bytes(next) & 0x0fff_ffff;
            left -= 1;
        }
        Ok(bytes)
    }
}

fn file(entry: &[u8; ENTRY], name: String, slots: Range<usize>) -> File {
    let u16_at = |at: usize| u32::from(u16::from_le_bytes([entry[at], entry[at + 1]]));
    File {
        name,
        is_folder: entry[11] & FOLDER != 0,
        start: u16_at(20) << 16 | u16_at(26),
        size: u16_at(28) | u16_at(30) << 16,
        slots,
    }
}

fn short_name(entry: &[u8; ENTRY]) -> String {
    let part = |bytes: &[u8], lower: bool| {
        let text = String::from_utf8_lossy(bytes).trim_end().to_owned();
        if lower { text.to_ascii_lowercase() } else { text }
    };
    let stem = part(&entry[..8], entry[12] & 0x08 != 0);
    let extension = part(&entry[8..11], entry[12] & 0x10 != 0);
    if extension.is_empty() { stem } else { format!("{stem}.{extension}") }
}

/// The entries of a long name that were seen so far, the last part first.
#[derive(Default)]
struct Long {
    units: Vec<u16>,
    /// The number that the next one must have.
    next: u8,
    sum: u8,
}

impl Long {
    fn add(&mut self, entry: &[u8; ENTRY]) {
        let (number, is_last, sum) = (entry[0] & 0x3f, entry[0] & 0x40 != 0, entry[13]);
        if is_last {
            *self = Self { units: Vec::new(), next: number, sum };
        }
        if number == 0 || number != self.next || sum != self.sum {
            *self = Self::default();
            return;
        }
        let units = UNIT_AT.map(|at| u16::from_le_bytes([entry[at], entry[at + 1]]));
        self.units.splice(0..0, units);
        self.next -= 1;
    }

    /// The name, if it is whole and that of this entry.
    fn name_of(self, entry: &[u8; ENTRY]) -> Option<String> {
        let sum = entry[..11].iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
        if self.units.is_empty() || self.next != 0 || self.sum != sum {
            return None;
        }
        let end = self.units.iter().position(|unit| *unit == 0).unwrap_or(self.units.len());
        Some(String::from_utf16_lossy(&self.units[..end]))
    }
}
