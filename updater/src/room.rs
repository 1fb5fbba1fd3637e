//! How much room a file system has.

use std::io;
use std::path::Path;

use rustix::fs::{StatVfs, statvfs};

/// The nearest folder to `path`, or it itself, that is there.
pub(crate) fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(path)
}

/// How many bytes whoever is not root can have where `path` is, or is to be.
pub(crate) fn free(path: &Path) -> io::Result<u64> {
    Ok(free_in(&statvfs(existing(path))?))
}

/// The same of a file system that was looked at.
pub(crate) fn free_in(stat: &StatVfs) -> u64 {
    stat.f_bavail.saturating_mul(stat.f_frsize)
}
