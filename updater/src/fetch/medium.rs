//! What `upright-build export` made, on a medium that someone brought along: a folder, or a single file.
//!
//! What is on it is trusted no more than what a server sends. It may be taken out at any time, and another one may be inserted
//! in its place: files are opened anew for each read, and what they hold is checked by who reads it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use upright_manifests::archive::{self, ArchiveError, Contents};
use upright_manifests::partial::{self, Partial};

use super::address::is_below_root;
use super::folder::{Folder, open_file, shown};
use crate::host::{Remote, RemoteError};

/// Every repository has it.
const TIMESTAMP: &str = "metadata/timestamp.json";

/// An export on a medium.
#[derive(Debug)]
pub struct Medium {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Folder(Folder),
    /// A file with members at these places, and its length.
    File(Contents, u64),
}

/// Why there is nothing to take from a path.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// It is not there, or cannot be read.
    #[error("cannot read {}: {source}; {}", shown(path), mount_or_copy(source))]
    Read {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is not an export, or damaged.
    #[error("{} cannot be used: {source}", shown(path))]
    Archive {
        /// The path.
        path: PathBuf,
        /// What is wrong.
        source: ArchiveError,
    },
    /// There is no repository in it.
    #[error(
        "{} holds no export, since there is no {TIMESTAMP}; name what `upright-build export` wrote",
        shown(path)
    )]
    Empty {
        /// The path.
        path: PathBuf,
    },
}

/// What to do about a medium that cannot be read at all.
fn mount_or_copy(error: &io::Error) -> &'static str {
    match error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) {
        true => {
            "the medium is damaged or was taken out: insert it again, or copy the export anew, to another one"
        }
        false => "insert and mount the medium, and name what `upright-build export` wrote to it",
    }
}

impl MediumError {
    /// Whether it may be there later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Read { .. })
    }
}

impl Medium {
    /// The export at `path`, a folder or a file. Of a file the headers are read.
    pub fn open(path: &Path) -> Result<Self, MediumError> {
        let failed = |source| MediumError::Read { path: path.to_owned(), source };
        // The path is kept in the record, and read by people elsewhere.
        let path = std::path::absolute(path).map_err(failed)?;
        let failed = |source| MediumError::Read { path: path.clone(), source };
        let kind = match std::fs::metadata(&path).map_err(failed)?.is_dir() {
            true => Kind::Folder(Folder::new(path.clone())),
            false => {
                let file = open_file(&path).map_err(failed)?;
                let length = file.metadata().map_err(failed)?.len();
                let contents = archive::read(length, &mut |buffer, at| file.read_exact_at(buffer, at));
                let contents = contents.map_err(|error| match error {
                    ArchiveError::Read(source) => failed(source),
                    source => MediumError::Archive { path: path.clone(), source },
                })?;
                Kind::File(contents, length)
            }
        };
        let medium = Self { path, kind };
        match medium.has(TIMESTAMP) {
            true => Ok(medium),
            false => Err(MediumError::Empty { path: medium.path }),
        }
    }

    /// Whether there is a file at `path`.
    pub fn has(&self, path: &str) -> bool {
        match &self.kind {
            Kind::Folder(_) => is_below_root(path) && self.path.join(path).is_file(),
            Kind::File(contents, _) => contents.find(path).is_some(),
        }
    }

    fn gone(&self, reason: &dyn std::fmt::Display) -> RemoteError {
        RemoteError::Gone { place: self.address(), reason: reason.to_string() }
    }

    /// An error of the folder in terms of the medium.
    fn told(&self, error: RemoteError) -> RemoteError {
        match error {
            RemoteError::Unavailable { reason, .. } => self.gone(&reason),
            // Where it is mounted there is still a folder when it is not.
            RemoteError::NotFound { .. } if !self.has(TIMESTAMP) => self.gone(&"there is no export any more"),
            error => error,
        }
    }

    /// There is no such member.
    fn none(&self, path: &str) -> RemoteError {
        RemoteError::NotFound { url: format!("{}:{path}", self.address()), status: 0 }
    }

    /// What the medium says that it is to have, if it is a part of its repository.
    pub fn part(&self) -> Option<Partial> {
        let mut bytes = Vec::new();
        let limit = partial::MAX_BYTES.saturating_add(1);
        self.open(partial::PATH, 0..limit).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
        Partial::parse(&bytes).ok()
    }

    /// Opens a member of an export that is a file.
    fn member(&self, path: &str, at: &Range<u64>, length: u64) -> Result<File, RemoteError> {
        let file = open_file(&self.path).map_err(|error| self.gone(&error))?;
        let now = file.metadata().map_err(|error| self.gone(&error))?.len();
        if now != length {
            return Err(self.gone(&"it is another file than before"));
        }
        if at.is_empty() {
            let reason = "the file is shorter than the release says that it is".to_owned();
            return Err(RemoteError::Protocol { url: format!("{}:{path}", self.address()), reason });
        }
        Ok(file)
    }
}

impl Remote for Medium {
    fn open(&self, path: &str, range: Range<u64>) -> Result<Box<dyn Read + Send>, RemoteError> {
        let reader: Box<dyn Read + Send> = match &self.kind {
            Kind::Folder(folder) => folder.open(path, range).map_err(|error| self.told(error))?,
            Kind::File(contents, length) => {
                let member = contents.find(path).ok_or_else(|| self.none(path))?;
                let start = member.start.saturating_add(range.start).min(member.end);
                let end = member.start.saturating_add(range.end).clamp(start, member.end);
                if range.start == 0 && start == end {
                    return Ok(Box::new(io::empty()));
                }
                let mut file = self.member(path, &(start..end), *length)?;
                file.seek(SeekFrom::Start(start)).map_err(|error| self.gone(&error))?;
                Box::new(file.take(end - start))
            }
        };
        Ok(Box::new(Reading { reader, place: self.address(), path: path.to_owned() }))
    }

    fn length(&self, path: &str) -> Result<Option<u64>, RemoteError> {
        match &self.kind {
            Kind::Folder(folder) => folder.length(path).map_err(|error| self.told(error)),
            Kind::File(contents, _) => {
                let member = contents.find(path).ok_or_else(|| self.none(path))?;
                Ok(Some(member.end - member.start))
            }
        }
    }

    fn address(&self) -> String {
        shown(&self.path)
    }
}

/// A file on a medium, which reads no better for waiting where a line would.
struct Reading {
    reader: Box<dyn Read + Send>,
    place: String,
    path: String,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => {
                let (place, path) = (self.place.clone(), self.path.clone());
                io::Error::other(RemoteError::Unreadable { place, path, reason: error.to_string() })
            }
        })
    }
}

#[cfg(test)]
#[path = "medium_tests.rs"]
mod tests;
