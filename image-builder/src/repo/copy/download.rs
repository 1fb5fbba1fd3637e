//! One object, from where it was cut off.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use upright_manifests::digest::{Digest, Digester};

use super::catalogue::Object;
use crate::repo::check::Source;
use crate::repo::error::{Error, Result};
use crate::repo::progress::Progress;

/// How many times in a row nothing may come before it is given up.
const ATTEMPTS: u32 = 4;

/// How many times an object is begun anew whose pieces do not fit.
const RESTARTS: u32 = 2;

/// The first wait after such a time; each that follows is twice as long.
const WAIT: Duration = Duration::from_millis(500);

/// A connection that brought this many bytes was a good one.
const PROGRESS: u64 = 1 << 10;

const BUFFER: usize = 256 << 10;

/// Brings the object at `path` of `source` to `partial`, as it was signed; [`Error::Unverified`] if the source does not have it so.
/// What is there already counts. `done` are the bytes of
/// objects before it, for the progress.
pub(super) fn download(
    source: &Source,
    path: &str,
    object: Object,
    partial: &Path,
    progress: &dyn Progress,
    done: u64,
) -> Result<u64> {
    let failed = || Error::file("write", partial);
    let mut file = OpenOptions::new().create(true).append(true).open(partial).map_err(failed())?;
    let mut copied = 0;
    // What comes in pieces may be of different files: a server changed it meanwhile. All of one piece is the server's word.
    let (mut pieces, mut restarts) = (0_u32, 0_u32);
    let mut attempts = 0;
    loop {
        let have = file.metadata().map_err(failed())?.len();
        if have >= object.size {
            match digest_of(partial)? {
                (sha256, size) if (sha256, size) == (object.sha256, object.size) => return Ok(copied),
                _ if restarts > RESTARTS || (pieces == 1 && copied >= object.size) => {
                    fs::remove_file(partial).map_err(failed())?;
                    return Err(Error::Unverified(format!(
                        "{path} is not what was signed: the server changes files, or its disk is damaged"
                    )));
                }
                _ => {
                    file.set_len(0).map_err(failed())?;
                    (pieces, copied) = (0, 0);
                    restarts += 1;
                    continue;
                }
            }
        }
        let outcome =
            piece(source, path, object, (&mut file, partial), have, &mut |at| progress.reached(done + at));
        let now = file.metadata().map_err(failed())?.len();
        copied += now.saturating_sub(have);
        pieces += 1;
        if now >= have.saturating_add(PROGRESS) || now >= object.size {
            attempts = 0;
            continue;
        }
        attempts += 1;
        match outcome {
            Err(error) if error.is_final() || attempts >= ATTEMPTS => return Err(error.told(path)),
            Ok(()) if attempts >= ATTEMPTS => {
                return Err(Error::Unverified(format!(
                    "{path} has {now} bytes where {} are signed",
                    object.size
                )));
            }
            _ => std::thread::sleep(WAIT * (1 << attempts)),
        }
    }
}

/// Why a piece did not come.
enum Broken {
    /// The other side.
    Source(Error),
    /// There is no such file.
    Missing,
    /// This side.
    Own(Error),
}

impl Broken {
    fn is_final(&self) -> bool {
        !matches!(self, Self::Source(_))
    }

    fn told(self, path: &str) -> Error {
        match self {
            Self::Source(error) => Error::Failed(format!(
                "{error}; what came is kept, and the same command goes on where it stopped"
            )),
            Self::Missing => Error::Unverified(format!("{path} is not there")),
            Self::Own(error) => error,
        }
    }
}

/// What one answer brings, appended to what is there.
fn piece(
    source: &Source,
    path: &str,
    object: Object,
    (file, partial): (&mut File, &Path),
    have: u64,
    reached: &mut dyn FnMut(u64),
) -> Result<(), Broken> {
    let own = |error: io::Error| Broken::Own(Error::file("write", partial)(error));
    let opened = source.open_from(path, have).map_err(Broken::Source)?.ok_or(Broken::Missing)?;
    if opened.from != have {
        file.set_len(opened.from).map_err(own)?;
    }
    let mut at = opened.from;
    let mut bytes = opened.bytes.take(object.size.saturating_sub(at));
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = bytes.read(&mut buffer).map_err(|error| {
            Broken::Source(Error::Failed(format!("cannot read {path} of {}: {error}", source.place())))
        })?;
        if read == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..read]).map_err(own)?;
        at += read as u64;
        reached(at);
    }
}

/// The SHA-256 of a file, and its length.
pub(super) fn digest_of(path: &Path) -> Result<(Digest, u64)> {
    let failed = Error::file("read", path);
    let mut file = File::open(path).map_err(&failed)?;
    let (mut digester, mut length) = (Digester::new(), 0);
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer).map_err(&failed)? {
            0 => return Ok((digester.finish(), length)),
            read => {
                digester.update(&buffer[..read]);
                length += read as u64;
            }
        }
    }
}
