//! A file that holds nothing but room on the state disk, and is given up when there is none left: a verdict, a password that follows the
//! host, the note of what runs can be written even then.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, OFlags, fallocate};

use crate::room::free;

/// How many bytes it holds.
const BYTES: u64 = 1 << 20;

/// Where it is, in the agent's folder.
fn reserve(folder: &Path) -> PathBuf {
    folder.join("reserve")
}

/// Makes it if it is not there and the disk has much more room than it takes.
pub fn keep_reserve(folder: &Path) -> io::Result<()> {
    let path = reserve(folder);
    super::make_place(&path)?;
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    if free(folder)? < 8 * BYTES {
        return Ok(());
    }
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits() as i32);
    let kept = fallocate(&file.open(&path)?, FallocateFlags::empty(), 0, BYTES).map_err(io::Error::from);
    if kept.is_err() {
        give_up_reserve(folder);
    }
    kept
}

/// How many bytes giving it up would free.
pub(crate) fn reserved(folder: &Path) -> u64 {
    reserve(folder).symlink_metadata().map_or(0, |meta| meta.blocks().saturating_mul(512))
}

/// Gives it up; says whether there was one. Its blocks can be had when this returns.
pub(crate) fn give_up_reserve(folder: &Path) -> bool {
    let gone = fs::remove_file(reserve(folder)).is_ok();
    // Some file systems give blocks back with their next commit only.
    if gone && let Ok(folder) = File::open(folder) {
        let _ = rustix::fs::syncfs(&folder);
    }
    gone
}
