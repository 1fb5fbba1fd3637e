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

fn position(file: &mut File, offset: i64) -> io::Result<u64> {
    match u64::try_from(offset) {
        Ok(offset) => Ok(offset),
        Err(_) => file.seek(SeekFrom::End(offset)),
    }
}
