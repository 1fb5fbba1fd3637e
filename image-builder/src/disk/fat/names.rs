//! Folder entries: short names, long names, times.
//!
//! Source: Microsoft "FAT: General Overview of On-Disk Format" 1.03, "FAT Directory Structure" and "FAT Long Directory
//! Entries".

use jiff::civil::DateTime;

use super::super::DiskError;
use super::plan::{Folder, Node};

/// The volume's label.
pub(super) const LABEL: &[u8; 11] = b"ESP        ";

const ENTRY: usize = 32;
const FOLDER: u8 = 0x10;
const ARCHIVE: u8 = 0x20;
const VOLUME_LABEL: u8 = 0x08;
const LONG_NAME: u8 = 0x0f;

/// Characters of a long name in each of its entries, and where they are.
const UNITS: usize = 13;
const UNIT_AT: [usize; UNITS] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/// A name in 8.3 form, padded with spaces.
type Short = [u8; 11];

/// Whether FAT can hold the name and every reader agrees on it.
pub(super) fn is_name(name: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"._-+~^".contains(&b);
    (1..=255).contains(&name.len())
        && !name.starts_with('.')
        && !name.ends_with('.')
        && name.bytes().all(known)
}

/// A folder's entries.
pub(super) fn folder_bytes(
    folder: &Folder,
    nodes: &[Node<'_>],
    time: DateTime,
) -> Result<Vec<u8>, DiskError> {
    let mut bytes = Vec::new();
    let is_root = std::ptr::eq(folder, root(nodes)?);
    if is_root {
        bytes.extend(entry(LABEL, VOLUME_LABEL, 0, 0, time));
    } else {
        bytes.extend(entry(b".          ", FOLDER, folder.start, 0, time));
        bytes.extend(entry(b"..         ", FOLDER, folder.parent, 0, time));
    }
    let mut taken: Vec<Short> = Vec::new();
    for (name, index) in &folder.entries {
        let short = short_name(name, &taken).ok_or_else(|| DiskError::Name(name.clone()))?;
        taken.push(short);
        if shown(&short) != *name {
            bytes.extend(long_entries(name, &short));
        }
        bytes.extend(match &nodes[*index] {
            Node::Folder(inner) => entry(&short, FOLDER, inner.start, 0, time),
            Node::File { start, size, .. } => entry(&short, ARCHIVE, *start, *size, time),
        });
    }
    Ok(bytes)
}

fn root<'a>(nodes: &'a [Node<'_>]) -> Result<&'a Folder, DiskError> {
    match nodes.first() {
        Some(Node::Folder(root)) => Ok(root),
        _ => Err(DiskError::Name(String::new())),
    }
}

fn entry(name: &Short, attributes: u8, start: u32, size: u32, time: DateTime) -> [u8; ENTRY] {
    let (date, time) = stamps(time);
    let mut bytes = [0; ENTRY];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, name);
    put(11, &[attributes]);
    put(14, &time);
    put(16, &date);
    put(18, &date);
    put(20, &((start >> 16) as u16).to_le_bytes());
    put(22, &time);
    put(24, &date);
    put(26, &(start as u16).to_le_bytes());
    put(28, &size.to_le_bytes());
    bytes
}

/// Date and time as FAT has them, from 1980 to 2107, in steps of two seconds.
fn stamps(time: DateTime) -> ([u8; 2], [u8; 2]) {
    let clamped = time.year().clamp(1980, 2107) as u16 - 1980;
    let date = clamped << 9 | (time.month() as u16) << 5 | time.day() as u16;
    let time = (time.hour() as u16) << 11 | (time.minute() as u16) << 5 | ((time.second() as u16) / 2);
    (date.to_le_bytes(), time.to_le_bytes())
}

/// The short name of a name: itself where only capitals differ, else its start with a number.
fn short_name(name: &str, taken: &[Short]) -> Option<Short> {
    let upper = name.to_ascii_uppercase();
    let (stem, extension) = upper.rsplit_once('.').unwrap_or((&upper, ""));
    let keep = |text: &str| -> String { text.chars().filter(|c| *c != '.').map(known).collect() };
    let (whole, extension) = (keep(stem), keep(extension));
    let extension = &extension[..extension.len().min(3)];
    let exact = pack(&whole, extension).filter(|short| shown(short) == upper);
    let numbered = (1..1000).filter_map(|number| {
        let tail = format!("~{number}");
        let stem = &whole[..whole.len().min(8 - tail.len())];
        pack(&format!("{stem}{tail}"), extension)
    });
    exact.into_iter().chain(numbered).find(|short| !taken.contains(short))
}

/// What short names cannot have is an underscore.
fn known(c: char) -> char {
    if c == '+' { '_' } else { c }
}

fn pack(stem: &str, extension: &str) -> Option<Short> {
    if stem.is_empty() || stem.len() > 8 || extension.len() > 3 {
        return None;
    }
    let mut short = *b"           ";
    short[..stem.len()].copy_from_slice(stem.as_bytes());
    short[8..8 + extension.len()].copy_from_slice(extension.as_bytes());
    Some(short)
}

/// A short name as people write it.
fn shown(short: &Short) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (stem, extension) = (text(&short[..8]), text(&short[8..]));
    if extension.is_empty() { stem } else { format!("{stem}.{extension}") }
}

/// The entries of a long name, the last part first, as they stand before the short one.
fn long_entries(name: &str, short: &Short) -> Vec<u8> {
    let units: Vec<u16> = name.encode_utf16().collect();
    let sum = short.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let parts: Vec<&[u16]> = units.chunks(UNITS).collect();
    let mut bytes = Vec::new();
    for (index, part) in parts.iter().enumerate().rev() {
        let is_last = index + 1 == parts.len();
        let mut entry = [0; ENTRY];
        entry[0] = (index + 1) as u8 | if is_last { 0x40 } else { 0 };
        entry[11] = LONG_NAME;
        entry[13] = sum;
        // A NUL ends a name that does not fill its last entry; behind it are ones.
        let padded = part.iter().copied().chain([0]).chain(std::iter::repeat(0xffff));
        for (at, unit) in UNIT_AT.into_iter().zip(padded) {
            entry[at..at + 2].copy_from_slice(&unit.to_le_bytes());
        }
        bytes.extend(entry);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_valid_and_differ() {
        let mut taken = Vec::new();
        let names = ["EFI", "BOOTX64.EFI", "loader.conf", "systemd", "acme_1.0.0.efi", "acme_1.0.0+3.efi"];
        for name in names {
            taken.push(short_name(name, &taken).unwrap());
        }
        let shown: Vec<String> = taken.iter().map(shown).collect();
        assert_eq!(shown, ["EFI", "BOOTX64.EFI", "LOADER~1.CON", "SYSTEMD", "ACME_1~1.EFI", "ACME_1~2.EFI"]);
    }

    #[test]
    fn names_that_readers_disagree_on_are_refused() {
        for bad in ["", ".", "..", ".hidden", "dot.", "a b", "a/b", "a:b", "ä", &"x".repeat(256)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
