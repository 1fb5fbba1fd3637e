//! Whether what is to be copied finds room, told before it is written: all sizes are signed.

use std::io;
use std::path::Path;

use upright_manifests::bytes::human;

use crate::repo::error::{Error, Result};
use crate::repo::files::Files;

/// Fails if `place`, a folder, has no room for `needed` bytes. What cannot be asked is found out by writing.
pub(super) fn require(files: &dyn Files, place: &Path, needed: u64) -> Result<()> {
    match files.free(place) {
        Some(free) if free < needed => Err(Error::Failed(format!(
            "{} are to be written to {}, which has room for {}: {} too few; make room there, or copy less",
            human(needed),
            place.display(),
            human(free),
            human(needed - free)
        ))),
        _ => Ok(()),
    }
}

/// What to do about a disk that became full meanwhile, where `rest` bytes are still to come.
pub(super) fn advise(error: Error, rest: u64) -> Error {
    match &error {
        Error::File { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
        {
            let rest = if rest > 0 {
                format!(" for the {} that are still to come", human(rest))
            } else {
                String::new()
            };
            Error::Failed(format!("{error}; make room there{rest} and run the same command again"))
        }
        _ => error,
    }
}
