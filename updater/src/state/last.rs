//! Which slot ran last, whose files count, and what of the other one's did not follow into it, for want of room or by a bad disk.
//!
//! One file says both, so that it changes in one step: the slot, then a line for each such path below `/etc`, with what the slot's file was
//! like then. A file that was changed since counts, since that was later; one that was not is brought as soon as it can be, and is
//! never taken to the other slot. Line feeds fill a block, so that the file can be written over where a disk has no room for another.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use upright_manifests::name::Slot;

use super::hands::Hands;
use super::layout::{Layout, is_absent};

/// The largest file, in bytes.
const MAX: u64 = 256 << 10;

/// What the file's length is a multiple of, in bytes.
const BLOCK: usize = 4096;

/// The slot that ran last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) slot: Slot,
    pub(super) owed: Vec<Owed>,
}

/// A path that did not follow into that slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owed {
    seen: String,
    path: String,
}

impl Owed {
    /// That of `path`, as it is in `slot` now.
    pub(super) fn of(layout: &Layout, slot: Slot, path: &str) -> io::Result<Self> {
        if path.contains('\n') {
            return Err(io::Error::other("a name with a line feed cannot be noted"));
        }
        Ok(Self { seen: look(&layout.upper(slot).join(path))?, path: path.to_owned() })
    }

    fn holds(&self, layout: &Layout, slot: Slot) -> bool {
        look(&layout.upper(slot).join(&self.path)).is_ok_and(|seen| seen == self.seen)
    }
}

impl Last {
    /// What is noted; none if nothing ever was.
    pub(super) fn read(layout: &Layout) -> io::Result<Option<Self>> {
        let path = layout.last_slot();
        let unread = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))
        };
        let Some(text) = Layout::text_in(&path, MAX).map_err(unread)? else { return Ok(None) };
        let mut lines = text.lines().filter(|line| !line.is_empty());
        let damaged = || io::Error::other(format!("{} is damaged", path.display()));
        let slot = lines.next().and_then(|line| line.trim().parse().ok()).ok_or_else(damaged)?;
        let owed = lines.map(|line| {
            let (seen, path) = line.split_once(' ')?;
            Some(Owed { seen: seen.to_owned(), path: path.to_owned() })
        });
        Ok(Some(Self { slot, owed: owed.collect::<Option<_>>().ok_or_else(damaged)? }))
    }

    /// Notes it, durably; what the slot has is durable before it counts.
    pub(super) fn note(&self, layout: &Layout, hands: &Hands<'_>) -> io::Result<()> {
        hands.sync(layout.own())?;
        let path = layout.last_slot();
        if Self::read(layout).is_ok_and(|noted| noted.as_ref() == Some(self)) {
            return Ok(());
        }
        let mut text = format!("{}\n", self.slot);
        for Owed { seen, path } in &self.owed {
            text.push_str(&format!("{seen} {path}\n"));
        }
        let fill =
            |text: &str, length: usize| text.to_owned() + &"\n".repeat(length.saturating_sub(text.len()));
        let length = text.len().next_multiple_of(BLOCK);
        hands.write(&path, &fill(&text, length)).or_else(|error| {
            match usize::try_from(fs::symlink_metadata(&path)?.len()) {
                Ok(there) if there >= length => hands.overwrite(&path, &fill(&text, there)),
                _ => Err(error),
            }
        })
    }

    /// Whether `path` is older in that slot than in the other one.
    pub(super) fn owes(&self, layout: &Layout, path: &str) -> bool {
        self.owed.iter().any(|owed| owed.path == path && owed.holds(layout, self.slot))
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

/// The paths below `/etc` that are older in `slot`, which runs, than in the other one; an error if that is not known.
pub fn owed(layout: &Layout, slot: Slot) -> io::Result<Vec<String>> {
    const MEND: &str = "the next boot notes anew which slot ran last: reboot";
    match Last::read(layout).map_err(|error| io::Error::other(format!("{error}; {MEND}")))? {
        None => Ok(Vec::new()),
        Some(last) if last.slot == slot => {
            let owed = last.owed.into_iter().filter(|owed| owed.holds(layout, slot));
            Ok(owed.map(|owed| owed.path).collect())
        }
        Some(_) => Err(io::Error::other(format!(
            "this boot could not note that slot {slot} runs; see what `journalctl -b -u upright-state` says, mend it, and reboot"
        ))),
    }
}
