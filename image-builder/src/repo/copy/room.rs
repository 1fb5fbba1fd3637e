//! Whether what is to be copied finds room, told before it is written: all sizes are signed. What to do where it cannot be written.

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

/// What to do about a disk that cannot be written to: one that became full meanwhile, where `rest` bytes are still to come, or one
/// that this command may not write to.
pub(super) fn advise(error: Error, rest: u64) -> Error {
    let Error::File { action, source, .. } = &error else { return error };
    let advice = match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded if rest > 0 => {
            format!("make room there for the {} that are still to come", human(rest))
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room there".to_owned(),
        io::ErrorKind::ReadOnlyFilesystem => "mount it for writing".to_owned(),
        // What may not be read may be the source's.
        io::ErrorKind::PermissionDenied if !matches!(*action, "read" | "open") => {
            "let the user who runs this write there".to_owned()
        }
        _ => return error,
    };
    Error::Failed(format!("{error}; {advice} and run the same command again"))
}
