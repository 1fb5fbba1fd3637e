//! The file operations that change a repository, each a step that can be the last before a power cut.
//!
//! Whoever publishes goes through [`Files`] alone, so that a test can cut it off after any step (`fake`).

pub mod fake;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::error::{Error, Result};

/// The folder inside a repository for files that are not finished; never served, emptied by the next publish.
pub const STAGING: &str = ".staging";

/// Single steps on a file system.
pub trait Files {
    /// Makes a folder and its parents; one that is there already is fine.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Writes a whole file, replacing what was there; nothing is durable yet.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Makes a file's content, or a folder's entries, durable.
    fn sync(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name, replacing the file of that name at once.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file, or a folder with all it holds; one that is not there is fine.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// How many bytes can still be written in a folder; `None` where its file system does not say.
    fn free(&self, folder: &Path) -> Option<u64> {
        let found = rustix::fs::statvfs(folder).ok()?;
        (found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(found.f_frsize))
    }
}

/// The system's own files.
#[derive(Debug, Clone, Copy, Default)]
pub struct OnDisk;

impl Files for OnDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        File::create(path)?.write_all(bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let result = match fs::symlink_metadata(path) {
            Ok(entry) if entry.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// The folder that holds `path`: of a bare name the current one, which the system does not know by its empty name.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Moves a finished file from `staged` to its place: whole or not there, whenever power goes.
pub fn place(files: &dyn Files, staged: &Path, to: &Path) -> Result<()> {
    files.sync(staged).map_err(Error::file("sync", staged))?;
    let folder = folder_of(to);
    make_folder(files, folder)?;
    files.rename(staged, to).map_err(Error::file("create", to))?;
    files.sync(folder).map_err(Error::file("sync", folder))
}

/// Writes a small file in one step, through `staging`, a folder on the same file system.
pub fn replace(files: &dyn Files, staging: &Path, to: &Path, bytes: &[u8]) -> Result<()> {
    make_folder(files, staging)?;
    let staged = staging.join(to.file_name().unwrap_or_default());
    files.write(&staged, bytes).map_err(Error::file("write", &staged))?;
    place(files, &staged, to)
}

/// Makes a folder whose entry in each new parent is durable too.
pub fn make_folder(files: &dyn Files, folder: &Path) -> Result<()> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<PathBuf> = folder.ancestors().take_while(is_missing).map(Path::to_owned).collect();
    if missing.is_empty() {
        return Ok(());
    }
    files.create_folder(folder).map_err(Error::file("create", folder))?;
    missing
        .iter()
        .map(|path| folder_of(path))
        .try_for_each(|parent| files.sync(parent).map_err(Error::file("sync", parent)))
}
