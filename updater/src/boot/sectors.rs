//! Changes a small file or region in place, a sector at a time.
//!
//! A boot loader that has no file system driver for writing keeps the place of its file and writes there, so the file must
//! stay where it is. A device writes a sector whole or not at all: a change within one is atomic.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::esp::in_path;
use super::fuse::Fuse;

/// What every device writes whole, in bytes.
pub(super) const SECTOR: usize = 512;

/// Reads at most `limit` bytes from the start of a file.
pub(super) fn read(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(limit as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error: io::Error| in_path("cannot read", path, &error))
}

/// Reads `length` bytes at `offset`; one below zero counts from the end.
pub(super) fn read_at(path: &Path, offset: i64, length: usize) -> io::Result<Vec<u8>> {
    let read = || {
        let mut file = File::open(path)?;
        let at = position(&mut file, offset)?;
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    };
    read().map_err(|error: io::Error| in_path("cannot read", path, &error))
}

/// Writes what `new` has in other sectors than `old`, durably. Of several, the first comes last: it is the one that has what
/// decides.
pub(super) fn change(path: &Path, offset: i64, old: &[u8], new: &[u8], fuse: &Fuse) -> io::Result<()> {
    let change = || {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let at = position(&mut file, offset)?;
        let sectors = old.chunks(SECTOR).zip(new.chunks(SECTOR)).enumerate();
        let changed: Vec<_> = sectors.filter(|(_, (old, new))| old != new).collect();
        for (number, (_, sector)) in changed.into_iter().rev() {
            fuse.step()?;
            file.write_all_at(sector, at + (number * SECTOR) as u64)?;
            file.sync_all()?;
        }
        Ok(())
    };
    change().map_err(|error: io::Error| in_path("cannot write", path, &error))
}

/// Writes all of `bytes` at `offset`, durably.
pub(super) fn write_at(path: &Path, offset: i64, bytes: &[u8], fuse: &Fuse) -> io::Result<()> {
    let write = || {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let at = position(&mut file, offset)?;
        fuse.step()?;
        file.write_all_at(bytes, at)?;
        file.sync_all()
    };
    write().map_err(|error: io::Error| in_path("cannot write", path, &error))
}

/// Writes a file that holds `bytes` and nothing else, durably and where it is, if it is there: who keeps its place finds it there. Its first
/// sector, which has what makes it valid, comes last, so that what is no valid file yet stays none until it is one.
pub(super) fn write_whole(path: &Path, bytes: &[u8], fuse: &Fuse) -> io::Result<()> {
    let write = || {
        let (first, rest) = bytes.split_at(SECTOR.min(bytes.len()));
        fuse.step()?;
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        file.write_all_at(rest, first.len() as u64)?;
        file.set_len(bytes.len() as u64)?;
        file.sync_all()?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
        fuse.step()?;
        file.write_all_at(first, 0)?;
        file.sync_all()
    };
    write().map_err(|error: io::Error| in_path("cannot write", path, &error))
}

/// A variable of somebody else's in what is left of an environment: GRUB's and U-Boot's own have names in small letters, ours in capitals,
/// so that a bit that flipped makes none of the others.
pub(super) fn variable_of_others(bytes: &[u8]) -> Option<String> {
    let is_name = |name: &[u8]| {
        name.len() > 2 && name.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_')
    };
    let mut lines = bytes.split(|byte| matches!(byte, 0 | b'\n'));
    lines.find_map(|line| {
        let equals = line.iter().position(|byte| *byte == b'=')?;
        is_name(&line[..equals]).then(|| String::from_utf8_lossy(&line[..equals]).into_owned())
    })
}

fn position(file: &mut File, offset: i64) -> io::Result<u64> {
    match u64::try_from(offset) {
        Ok(offset) => Ok(offset),
        Err(_) => file.seek(SeekFrom::End(offset)),
    }
}
