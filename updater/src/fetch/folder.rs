//! A repository in a folder: a mounted disk, a mirror, a test.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::address::is_below_root;
use crate::host::{Remote, RemoteError};

/// A repository in a folder of this machine.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    folder: PathBuf,
}

impl Folder {
    /// The repository in `folder`, which need not be there yet.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn url(&self, path: &str) -> String {
        format!("file://{}", shown(&self.folder.join(path)))
    }

    /// Where `path` is, if that is in the repository.
    fn place(&self, path: &str) -> Result<PathBuf, RemoteError> {
        if is_below_root(path) {
            return Ok(self.folder.join(path));
        }
        let reason = "the path leads out of the repository".into();
        Err(RemoteError::Protocol { url: self.url(path), reason })
    }

    /// What an error of the system says of `path`. The folder itself has to be there: a disk that is not mounted yet is no reason to
    /// forget a file.
    fn told(&self, path: &str, error: io::Error) -> RemoteError {
        match error.kind() {
            io::ErrorKind::NotFound if self.folder.is_dir() => {
                RemoteError::NotFound { url: self.url(path), status: 0 }
            }
            _ => RemoteError::Unavailable { url: self.url(path), reason: error.to_string() },
        }
    }
}

impl Remote for Folder {
    fn open(&self, path: &str, range: Range<u64>) -> Result<Box<dyn Read + Send>, RemoteError> {
        let told = |error| self.told(path, error);
        let mut file = open_file(&self.place(path)?).map_err(told)?;
        let size = file.metadata().map_err(told)?.len();
        if range.start > 0 && range.start >= size {
            let reason = format!("the file has {size} bytes, the release says that it has more");
            return Err(RemoteError::Protocol { url: self.url(path), reason });
        }
        file.seek(SeekFrom::Start(range.start)).map_err(told)?;
        Ok(Box::new(file.take(range.end.saturating_sub(range.start))))
    }

    fn length(&self, path: &str) -> Result<Option<u64>, RemoteError> {
        let found = self.place(path)?.symlink_metadata().map_err(|error| self.told(path, error))?;
        // What a link leads to may say of itself what it wants, as files of the kernel's do, and is told when it is read.
        Ok(found.is_file().then_some(found.len()))
    }

    fn address(&self) -> String {
        format!("file://{}", shown(&self.folder))
    }
}

/// A path that anybody may have given, on one line.
pub(super) fn shown(path: &Path) -> String {
    path.to_string_lossy().escape_debug().to_string()
}

/// Opens a regular file; anything else could block or never end.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    let other = || io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
    // Opening alone may do something, to a watchdog for one.
    if !path.metadata()?.is_file() {
        return Err(other());
    }
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(other()) }
}
