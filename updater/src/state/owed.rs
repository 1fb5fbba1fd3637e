//! What did not follow the host into a slot, for want of room or by a bad disk, and is older there than in the other slot.
//!
//! A line each: the slot, what its file was like then, and the path below `/etc`. A file that was changed since counts, since that was
//! later; one that was not is brought as soon as it can be, and is never taken to the other slot.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use upright_manifests::name::Slot;

use super::hands::Hands;
use super::layout::{Layout, is_absent};

/// The largest file, in bytes.
const MAX: u64 = 256 << 10;

/// A path that did not follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owed {
    slot: Slot,
    seen: String,
    path: String,
}

impl Owed {
    /// That of `path`, as it is in `slot` now.
    pub(super) fn of(layout: &Layout, slot: Slot, path: &str) -> io::Result<Self> {
        if path.contains('\n') {
            return Err(io::Error::other("a name with a line feed cannot be noted"));
        }
        Ok(Self { slot, seen: look(&layout.upper(slot).join(path))?, path: path.to_owned() })
    }

    /// Whether it is `path` in `slot`, and was not changed there since.
    fn holds(&self, layout: &Layout, slot: Slot, path: &str) -> bool {
        let is_same = || look(&layout.upper(slot).join(path)).is_ok_and(|seen| seen == self.seen);
        self.slot == slot && self.path == path && is_same()
    }
}

/// What tells whether a file was changed: its number and when it was changed last.
fn look(path: &Path) -> io::Result<String> {
    match fs::symlink_metadata(path) {
        Err(error) if is_absent(&error) => Ok("-".to_owned()),
        Ok(meta) => Ok(format!("{}.{}.{}", meta.ino(), meta.ctime(), meta.ctime_nsec())),
        Err(error) => Err(error),
    }
}

/// All that is noted.
pub(super) fn noted(layout: &Layout) -> io::Result<Vec<Owed>> {
    let text = Layout::text_in(&layout.owed(), MAX)?.unwrap_or_default();
    let owed = text.lines().map(|line| {
        let mut parts = line.splitn(3, ' ');
        let slot = parts.next()?.parse().ok()?;
        Some(Owed { slot, seen: parts.next()?.to_owned(), path: parts.next()?.to_owned() })
    });
    owed.collect::<Option<_>>()
        .ok_or_else(|| io::Error::other(format!("{} is damaged", layout.owed().display())))
}

/// Notes these and no others.
pub(super) fn note(layout: &Layout, hands: &Hands<'_>, owed: &[Owed]) -> io::Result<()> {
    if owed.is_empty() {
        return hands.remove(&layout.owed());
    }
    let lines = owed.iter().map(|Owed { slot, seen, path }| format!("{slot} {seen} {path}\n"));
    hands.write(&layout.owed(), &lines.collect::<String>())
}

/// Whether `path` is older in `slot` than in the other one.
pub(super) fn is_owed(layout: &Layout, owed: &[Owed], slot: Slot, path: &str) -> bool {
    owed.iter().any(|owed| owed.holds(layout, slot, path))
}

/// The paths below `/etc` that are older in `slot` than in the other one.
pub fn owed(layout: &Layout, slot: Slot) -> io::Result<Vec<String>> {
    let owed = noted(layout)?.into_iter().filter(|owed| owed.holds(layout, slot, &owed.path));
    Ok(owed.map(|owed| owed.path).collect())
}
