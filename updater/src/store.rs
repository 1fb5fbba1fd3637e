//! Small files that survive a power cut: written aside, synced, renamed, the folder synced.
//!
//! The agent's record is kept with its own checksum, trusted metadata with its signatures: a damaged file is an error
//! that says so, never an empty one.

mod place;
mod replace;
mod reserve;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use serde::{Deserialize, Serialize};
use upright_manifests::digest::Digest;

use crate::machine::Record;
use crate::room::free;

pub(crate) use place::{is_odd, make_place, odd_places};
pub use reserve::keep_reserve;
pub(crate) use reserve::{give_up_reserve, reserved};

/// The largest record that is read, in bytes: older agents kept all that health checks printed, and wrote more than they read themselves.
const MAX_RECORD: u64 = 32 << 20;

/// The largest record that is written, in bytes: what is kept for a full disk has room for it, and older agents, which may be rolled back
/// to, read four times as much.
const MAX_WRITTEN: usize = 1 << 20;

/// The version of the record's format.
const FORMAT: u32 = 1;

/// Why a stored file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {path}: {source}; free some space or mend the file system")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file's content is not what was written.
    #[error(
        "{path} is damaged ({reason}); `upright reset-state` keeps a copy of it and starts from what boot loader and slots say"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file of trusted metadata is none.
    #[error(
        "{path} is damaged ({reason}), and trust is not guessed at; `upright reset-trust` starts again from the \
         root.json that came with the image"
    )]
    Trust {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file is larger than any of its kind.
    #[error("{path} has more than {limit} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most bytes it may have.
        limit: u64,
    },
    /// The file was written by a newer agent.
    #[error(
        "{path} has format {format}, this agent reads format {FORMAT}; run the newer agent or `upright reset-state`"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
}

/// Replaces `path` with `bytes` in one step that is durable when this returns. On a full disk, what was kept for that is given up.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let replace =
        || fs::create_dir_all(folder).and_then(|()| replace::replace(&replace::FileSystem, path, bytes));
    let is_full = |error: &io::Error| error.kind() == io::ErrorKind::StorageFull;
    replace()
        .or_else(|error| if is_full(&error) && give_up_reserve(folder) { replace() } else { Err(error) })
        .map_err(|source| StoreError::Write {
            path: path.to_owned(),
            source: with_shortfall(source, path, bytes),
        })
}

/// Says how much room a file needs that there is none for.
fn with_shortfall(error: io::Error, path: &Path, bytes: &[u8]) -> io::Error {
    if error.kind() != io::ErrorKind::StorageFull {
        return error;
    }
    let free = free(path).unwrap_or(0);
    io::Error::new(error.kind(), format!("{error}: it has {} bytes, and {free} are free", bytes.len()))
}

/// Reads `path` if it exists, up to `limit` bytes.
pub fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
    read_with(path, limit, OFlags::empty())
}

/// Like [`read`], for a file that the agent wrote itself: a link in its place is an error, wherever it leads.
pub fn read_own(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
    read_with(path, limit, OFlags::NOFOLLOW)
}

fn read_with(path: &Path, limit: u64, flags: OFlags) -> Result<Option<Vec<u8>>, StoreError> {
    let failed = |source| StoreError::Read { path: path.to_owned(), source };
    // A pipe in the file's place must not make the agent wait for ever.
    let flags = (flags | OFlags::NONBLOCK).bits() as i32;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    match bytes.len() as u64 > limit {
        true => Err(StoreError::TooLarge { path: path.to_owned(), limit }),
        false => Ok(Some(bytes)),
    }
}

/// Makes the names in `folder` durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The file that holds the agent's record.
#[derive(Debug, Clone)]
pub struct RecordFile {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    format: u32,
    sha256: Digest,
    record: serde_json::Value,
}

impl RecordFile {
    /// The record in `folder`.
    pub fn in_folder(folder: &Path) -> Self {
        Self { path: folder.join("state.json") }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The record; `None` on a host whose agent has never run.
    pub fn load(&self) -> Result<Option<Record>, StoreError> {
        match read_own(&self.path, MAX_RECORD) {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => {
                let mut record = self.parse(&bytes)?;
                // Once, and not again with each save.
                if bytes.len() > MAX_WRITTEN {
                    fit(&mut record).map_err(|error| self.unwritable(error))?;
                }
                Ok(Some(record))
            }
            Err(StoreError::TooLarge { path, limit }) => {
                Err(StoreError::Damaged { path, reason: format!("larger than {limit} bytes") })
            }
            Err(StoreError::Read { path, source }) if !is_passing(&source) => {
                Err(StoreError::Damaged { path, reason: source.to_string() })
            }
            Err(error) => Err(error),
        }
    }

    /// The record in the bytes of such a file.
    pub fn parse(&self, bytes: &[u8]) -> Result<Record, StoreError> {
        let damaged = |reason: String| StoreError::Damaged { path: self.path.clone(), reason };
        let envelope: Envelope = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        if envelope.format != FORMAT {
            return Err(StoreError::Format { path: self.path.clone(), format: envelope.format });
        }
        let text = envelope.record.to_string();
        if Digest::of(text.as_bytes()) != envelope.sha256 {
            return Err(damaged("its checksum does not match".to_owned()));
        }
        serde_json::from_value(envelope.record).map_err(|error| damaged(error.to_string()))
    }

    /// Keeps `record`, durably: all that decides anything, and as much of what happened as there is room for.
    pub fn save(&self, record: &Record) -> Result<(), StoreError> {
        let bytes = fit(&mut record.clone()).map_err(|error| self.unwritable(error))?;
        replace(&self.path, &bytes)
    }

    fn unwritable(&self, error: serde_json::Error) -> StoreError {
        StoreError::Write { path: self.path.clone(), source: io::Error::other(error) }
    }

    /// The bytes of a file that holds `record`.
    pub fn to_bytes(record: &Record) -> serde_json::Result<Vec<u8>> {
        let record = serde_json::to_value(record)?;
        let sha256 = Digest::of(record.to_string().as_bytes());
        let mut bytes = serde_json::to_vec_pretty(&Envelope { format: FORMAT, sha256, record })?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Moves a damaged record, or what is in its place, aside to where what was damaged before went, and returns where that is.
    pub fn set_aside(&self) -> Result<PathBuf, StoreError> {
        let kept = self.path.with_extension("json.damaged");
        // A folder takes no file's name, nor a file a folder's.
        if kept.is_dir() || self.path.is_dir() {
            let _ = fs::remove_dir_all(&kept).or_else(|_| fs::remove_file(&kept));
        }
        set_aside(&self.path, &kept)?;
        Ok(kept)
    }
}

/// Whether a file that cannot be read may be read by the next who tries, since it is this process or its rights that there is too little of.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, OutOfMemory, PermissionDenied, ResourceBusy, WouldBlock};
    let too_many = [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
    matches!(error.kind(), Interrupted | OutOfMemory | PermissionDenied | ResourceBusy | WouldBlock)
        || too_many.contains(&error.raw_os_error())
}

/// Takes from `record` what it is too large with, and gives the bytes of a file that holds the rest.
fn fit(record: &mut Record) -> serde_json::Result<Vec<u8>> {
    record.cut();
    let mut bytes = RecordFile::to_bytes(record)?;
    while bytes.len() > MAX_WRITTEN && record.shed(bytes.len() - MAX_WRITTEN) {
        bytes = RecordFile::to_bytes(record)?;
    }
    Ok(bytes)
}

/// Gives a file or folder another name, durably.
pub fn set_aside(path: &Path, kept: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Write { path: kept.to_owned(), source };
    fs::rename(path, kept).map_err(failed)?;
    sync_folder(path.parent().unwrap_or(Path::new("."))).map_err(failed)
}

#[cfg(test)]
mod size_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = RecordFile::in_folder(&folder.path().join("new"));
        assert_eq!(file.load().unwrap(), None);
        let record = Record { channel: "beta".parse().ok(), ..Record::default() };
        file.save(&record).unwrap();
        assert_eq!(file.load().unwrap(), Some(record));
    }

    #[test]
    fn no_damage_is_taken_for_an_empty_record() {
        let folder = tempfile::tempdir().unwrap();
        let file = RecordFile::in_folder(folder.path());
        file.save(&Record { channel: "beta".parse().ok(), ..Record::default() }).unwrap();
        let good = fs::read(file.path()).unwrap();
        let changed = String::from_utf8(good.clone()).unwrap().replace("beta", "good");
        for bad in [b"".as_slice(), &good[..good.len() / 2], changed.as_bytes(), b"\0\0\0\0"] {
            fs::write(file.path(), bad).unwrap();
            assert!(matches!(file.load(), Err(StoreError::Damaged { .. })), "{bad:?}");
        }
    }

    #[test]
    fn a_record_beyond_the_limit_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = RecordFile::in_folder(folder.path());
        let mut long = RecordFile::to_bytes(&Record::default()).unwrap();
        long.resize(MAX_RECORD as usize, b' ');
        for read in [true, false] {
            fs::write(file.path(), &long).unwrap();
            assert_eq!(file.load().is_ok(), read, "{} bytes", long.len());
            long.push(b' ');
        }
    }

    #[test]
    fn a_link_in_place_of_the_record_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let file = RecordFile::in_folder(folder.path());
        file.save(&Record::default()).unwrap();
        let older = folder.path().join("older");
        fs::rename(file.path(), &older).unwrap();
        for target in [older, folder.path().join("nothing")] {
            std::os::unix::fs::symlink(&target, file.path()).unwrap();
            assert!(matches!(file.load(), Err(StoreError::Damaged { .. })), "{}", target.display());
            file.set_aside().unwrap();
        }
    }

    #[test]
    fn what_takes_the_place_of_the_record_is_set_aside_whatever_was_before() {
        let folder = tempfile::tempdir().unwrap();
        let file = RecordFile::in_folder(folder.path());
        for is_folder in [true, false, true, true] {
            match is_folder {
                true => fs::create_dir_all(file.path().join("inside")).unwrap(),
                false => fs::write(file.path(), "x").unwrap(),
            }
            assert!(matches!(file.load(), Err(StoreError::Damaged { .. })));
            file.set_aside().unwrap();
            assert_eq!(file.load().unwrap(), None);
        }
    }

    #[test]
    fn who_has_too_few_descriptors_does_not_take_the_record_for_damaged() {
        let error = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::ACCESS, Errno::INTR] {
            assert!(is_passing(&error(errno)), "{errno}");
        }
        for errno in [Errno::IO, Errno::LOOP, Errno::UCLEAN, Errno::BADMSG] {
            assert!(!is_passing(&error(errno)), "{errno}");
        }
    }

    #[test]
    fn a_pipe_in_place_of_the_record_is_not_waited_for() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let folder = tempfile::tempdir().unwrap();
        let file = RecordFile::in_folder(folder.path());
        mknodat(CWD, file.path(), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let error = file.load().unwrap_err().to_string();
        assert!(error.contains("is damaged (not a regular file)"), "{error}");
    }

    #[test]
    fn what_a_newer_agent_added_does_not_lock_out_the_older_one_it_is_rolled_back_to() {
        let folder = tempfile::tempdir().unwrap();
        let file = RecordFile::in_folder(folder.path());
        let record = serde_json::json!({
            "state": { "state": "idle", "mood": "good" },
            "slots": { "a": { "version": "1.0", "root_hash": Digest::of(b""), "proven": true, "warm": 1 } },
            "decided": ["2026-01-01T00:00:00Z", { "decision": "ask-a-friend" }],
            "history": [{
                "time": "2026-01-01T00:00:00Z", "version": "1.1", "by": "x",
                "outcome": { "event": "rolled-back", "cause": { "cause": "intuition", "depth": 3 } },
            }, { "time": "2026-01-01T00:00:00Z", "version": "1.1", "outcome": { "event": "praised", "by": "y" } }],
            "bad": [
                // As an older agent wrote it.
                { "version": "1.1", "root_hash": Digest::of(b""), "time": "2026-01-01T00:00:00Z",
                  "reason": { "cause": "trials-used-up" } },
                { "version": "1.2", "root_hash": Digest::of(b"2"), "time": "2026-01-01T00:00:00Z",
                  "reason": { "cause": "trials-used-up", "evidence": { "agent": 1, "stars": "fell" } } },
            ],
            "friends": [],
        });
        let sha256 = Digest::of(record.to_string().as_bytes());
        let envelope = Envelope { format: FORMAT, sha256, record };
        fs::write(file.path(), serde_json::to_vec(&envelope).unwrap()).unwrap();
        let read = file.load().unwrap().unwrap();
        assert_eq!((read.slots.len(), read.decided, read.history.len(), read.bad.len()), (1, None, 2, 2));
        file.save(&Record { history: read.history, ..Record::default() }).unwrap();
        file.load().unwrap();
    }

    #[test]
    fn a_newer_format_is_not_guessed_at() {
        let folder = tempfile::tempdir().unwrap();
        let file = RecordFile::in_folder(folder.path());
        file.save(&Record::default()).unwrap();
        let newer = fs::read_to_string(file.path()).unwrap().replace("\"format\": 1", "\"format\": 2");
        fs::write(file.path(), newer).unwrap();
        assert!(matches!(file.load(), Err(StoreError::Format { format: 2, .. })));
    }
}
