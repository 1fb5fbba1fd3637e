//! Replaces a small file in one step: written aside, synced, renamed, the folder synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What happens to a disk, one thing after the other; a fake cuts power between any two.
pub(super) trait Disk {
    /// An open file.
    type File;
    /// Makes a new, empty file. A file that was at `path` goes; what else was there gets another name, and is not followed.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// Writes; nothing is durable yet.
    fn write(&self, file: &mut Self::File, bytes: &[u8]) -> io::Result<()>;
    /// Makes a file's content durable.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// Gives a file another name, which takes the place of a file that had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Removes what could not be written.
    fn remove(&self, path: &Path);
}

/// Replaces `path` with `bytes`. Whenever power goes, the old content or the new is there, whole; when this returns,
/// the new.
pub(super) fn replace(disk: &impl Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = aside(path);
    let mut file = disk.create(&aside)?;
    let written = disk.write(&mut file, bytes).and_then(|()| disk.sync(&file));
    // Half a file is in nobody's way but takes room where there is none.
    written.and_then(|()| disk.rename(&aside, path)).inspect_err(|_| disk.remove(&aside))?;
    disk.sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// Where a file is written before it takes its place; no reader looks there.
fn aside(path: &Path) -> PathBuf {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    aside.into()
}

/// The file system.
pub(super) struct FileSystem;

impl Disk for FileSystem {
    type File = File;

    fn create(&self, path: &Path) -> io::Result<File> {
        super::make_place(path)?;
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        OpenOptions::new().write(true).create_new(true).open(path)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        super::make_place(to)?;
        fs::rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn remove(&self, path: &Path) {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
#[path = "replace_tests.rs"]
mod tests;
