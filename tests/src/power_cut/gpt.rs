//! Where the partitions of a disk are (UEFI specification 2.10, section 5.3).

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Result, ensure};

use super::disk::Content;
use super::event::SECTOR;

/// The partitions by their label, in bytes from the disk's start.
pub(super) fn partitions(disk: &dyn Content) -> Result<BTreeMap<String, Range<u64>>> {
    let mut header = [0; SECTOR as usize];
    disk.read_at(&mut header, SECTOR)?;
    ensure!(header.starts_with(b"EFI PART"), "the disk has no GPT");
    let number = |bytes: &[u8], at: usize, length: usize| {
        bytes[at..at + length].iter().rev().fold(0, |number: u64, byte| number << 8 | u64::from(*byte))
    };
    let (table, count, size) = (number(&header, 72, 8), number(&header, 80, 4), number(&header, 84, 4));
    ensure!(count <= 1024 && (128..=4096).contains(&size), "the GPT has {count} entries of {size} bytes");
    let mut partitions = BTreeMap::new();
    for index in 0..count {
        let mut entry = vec![0; size as usize];
        disk.read_at(&mut entry, table * SECTOR + index * size)?;
        if entry[..16] != [0; 16] {
            let units: Vec<u16> =
                entry[56..128].as_chunks().0.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
            let label = String::from_utf16_lossy(&units).trim_end_matches('\0').to_owned();
            let range = number(&entry, 32, 8) * SECTOR..(number(&entry, 40, 8) + 1) * SECTOR;
            partitions.insert(label, range);
        }
    }
    Ok(partitions)
}
