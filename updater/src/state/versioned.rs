//! A copy a slot of what a release may change beyond return: what it made of a database is its own, and the release before it
//! finds what it left.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, ioctl_ficlone};
use serde::Serialize;
use upright_manifests::name::Slot;
use upright_manifests::state::{check_versioned, is_within, outermost};

use super::StateError;
use super::absent;
use super::copy::Copier;
use super::hands::{Hands, beside};
use super::layout::{Layout, is_absent, told};
use crate::room::free;

/// The longest list of paths, in bytes.
const MAX_LIST: u64 = 2 << 20;

/// What copies take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Need {
    /// How many bytes the copies need.
    pub needed: u64,
    /// How many there are for them.
    pub available: u64,
}

impl Need {
    /// How many bytes are too few.
    pub fn missing(&self) -> u64 {
        self.needed.saturating_sub(self.available)
    }
}

/// A copy of what is versioned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// The path.
    pub path: String,
    /// What the copy takes of the file system, in bytes; what shares its blocks with the original takes none.
    pub bytes: u64,
}

/// The paths below `/var` that a slot has copies of.
pub fn kept(layout: &Layout, slot: Slot) -> Result<Vec<String>, StateError> {
    let folder = layout.versioned(slot);
    if !Layout::is_there(&folder).map_err(StateError::io(format!("look at {}", folder.display())))? {
        return Ok(Vec::new());
    }
    let list = folder.join("paths");
    let failed = StateError::io(format!("read {}", list.display()));
    // Copies whose list is lost are not to be taken for none.
    let lost = || io::Error::from(io::ErrorKind::NotFound);
    listed(&list).and_then(|paths| paths.ok_or_else(lost)).map_err(failed)
}

/// The paths in a list, a line each; none if there is no list.
pub(super) fn listed(list: &Path) -> io::Result<Option<Vec<String>>> {
    let text = Layout::text_in(list, MAX_LIST)?;
    let paths =
        |text: String| text.lines().filter(|path| check_versioned(path).is_ok()).map(str::to_owned).collect();
    Ok(text.map(paths))
}

/// Replaces a list of paths.
pub(super) fn write_list<'p>(
    hands: &Hands<'_>,
    list: &Path,
    paths: impl IntoIterator<Item = &'p String>,
) -> io::Result<()> {
    let text: String = paths.into_iter().flat_map(|path| [path, "\n"]).collect();
    hands.write(list, &text)
}

/// Where a slot's copy of a path is.
pub(super) fn copy_of(layout: &Layout, slot: Slot, path: &str) -> PathBuf {
    layout.versioned(slot).join("files").join(path)
}

/// What is to be copied for a slot: the path, where its content is now, and what of it is somewhere else.
struct Original {
    path: String,
    at: PathBuf,
    within: Vec<(String, PathBuf)>,
}

/// What a release that declares `declared` gets copies of, as the slot `from` sees it: what is declared and there, and what `from`
/// has copies of, since the plain path is out of date then.
fn originals(layout: &Layout, from: Slot, declared: &[String]) -> Result<Vec<Original>, StateError> {
    let has = kept(layout, from)?;
    let mut originals = Vec::new();
    for path in outermost(declared.iter().chain(&has).cloned()) {
        let within: Vec<_> = has
            .iter()
            .filter(|inner| **inner != path && is_within(inner, &path))
            .map(|inner| (inner.clone(), copy_of(layout, from, inner)))
            .collect();
        let is_copy = has.contains(&path);
        let top = if is_copy { layout.versioned(from).join("files") } else { layout.var().to_owned() };
        for (inner, _) in &within {
            // Its copy takes that place in the copy, and no link is to lead it elsewhere.
            is_fit(&top, inner)?;
        }
        match is_fit(&top, &path)? {
            true => originals.push(Original { at: top.join(&path), path, within }),
            // The plain path is out of date.
            false if is_copy => {
                let reason = "the copy of the slot that runs is gone";
                return Err(StateError::Unfit { path, reason });
            }
            false => {}
        }
    }
    Ok(originals)
}

/// Whether `path` below `top` is there, with plain folders that lead to it, on the same file system.
pub(super) fn is_fit(top: &Path, path: &str) -> Result<bool, StateError> {
    let unfit = |reason| Err(StateError::Unfit { path: path.to_owned(), reason });
    let failed = |path: &Path| StateError::io(format!("look at {}", path.display()));
    let device = match fs::metadata(top) {
        Err(error) if is_absent(&error) => return Ok(false),
        meta => meta.map_err(failed(top))?.dev(),
    };
    let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
    for end in ends {
        let Some(part) = path.get(..end) else { continue };
        let at = top.join(part);
        let Some(meta) = Layout::look(&at).map_err(failed(&at))? else { return Ok(false) };
        if meta.is_symlink() {
            return unfit("a symbolic link leads there; declare where it leads to, or let it be a folder");
        }
        let is_last = end == path.len();
        if !(meta.is_dir() || is_last && meta.is_file()) {
            return unfit("it is neither a folder nor a file");
        }
        if meta.dev() != device {
            return unfit("it is a file system of its own");
        }
    }
    Ok(true)
}

/// What a slot's first boot copies for a release that declares `declared`.
pub fn copies(layout: &Layout, to: Slot, declared: &[String]) -> Result<Vec<Copied>, StateError> {
    let shared = shares_blocks(layout.own());
    let originals = originals(layout, to.other(), declared)?.into_iter();
    let copies = originals.map(|Original { path, at, within }| {
        let mut bytes = size(&at, &path, shared)?;
        for (inner, at) in &within {
            bytes = bytes.saturating_add(size(at, inner, shared)?);
        }
        Ok(Copied { path: format!("/var/{path}"), bytes })
    });
    copies.collect()
}

/// The paths below `/var` that are not the same for both slots, each of which has run.
pub fn apart(layout: &Layout) -> Result<Vec<String>, StateError> {
    let (a, b) = (kept(layout, Slot::A)?, kept(layout, Slot::B)?);
    Ok(outermost(a.into_iter().chain(b).chain(absent::made(layout)?)))
}

/// The same as a boot of `slot` finds it, which is as it was when that ran last: with what its own copies take; of what it has at the plain
/// path there is none.
pub fn comes_back(layout: &Layout, slot: Slot) -> Result<Vec<Copied>, StateError> {
    let own = kept(layout, slot)?;
    let found = apart(layout)?.into_iter().map(|path| {
        let mut bytes = 0u64;
        for inner in own.iter().filter(|inner| is_within(inner, &path)) {
            bytes = bytes.saturating_add(size(&copy_of(layout, slot, inner), inner, false)?);
        }
        Ok(Copied { path: format!("/var/{path}"), bytes })
    });
    found.collect()
}

/// What copies for the slot `to` need that a release gets which declares `declared`, that of `/etc` among them, and what there is. What
/// `to` has copies of is removed before.
pub fn room(layout: &Layout, to: Slot, declared: &[String]) -> Result<Need, StateError> {
    room_for(layout, to, &copies(layout, to, declared)?)
}

/// The same for copies that are known.
pub fn room_for(layout: &Layout, to: Slot, copies: &[Copied]) -> Result<Need, StateError> {
    let etc = size(&layout.upper(to.other()), "lib/upright/etc", shares_blocks(layout.own()))?;
    room_beside(layout, to, copies, etc)
}

/// The same with so many bytes beside the copies.
fn room_beside(layout: &Layout, to: Slot, copies: &[Copied], others: u64) -> Result<Need, StateError> {
    let needed = copies.iter().fold(others, |sum, copied| sum.saturating_add(copied.bytes));
    let free = free(layout.own()).map_err(StateError::io("see how much room /var has"))?;
    let freed = size(&layout.versioned(to), "", false)?;
    Ok(Need { needed, available: free.saturating_add(freed) })
}

/// How many bytes a copy of `at`, which is `/var/<path>`, takes.
pub(super) fn size(at: &Path, path: &str, shared: bool) -> Result<u64, StateError> {
    let gone = is_absent;
    let failed = |path: &Path| StateError::io(format!("see how large {} is", told(path)));
    let device = match fs::symlink_metadata(at) {
        Err(error) if gone(&error) => return Ok(0),
        meta => meta.map_err(failed(at))?.dev(),
    };
    let mut open = vec![at.to_owned()];
    let (mut total, mut linked) = (0u64, std::collections::BTreeSet::new());
    while let Some(next) = open.pop() {
        let meta = match fs::symlink_metadata(&next) {
            // Whoever works there removes files.
            Err(error) if gone(&error) => continue,
            meta => meta.map_err(failed(&next))?,
        };
        if meta.dev() != device {
            let reason = "there is another file system in it";
            return Err(StateError::Unfit { path: path.to_owned(), reason });
        }
        if meta.is_dir() {
            match fs::read_dir(&next) {
                Err(error) if gone(&error) => {}
                entries => {
                    for entry in entries.map_err(failed(&next))? {
                        open.push(entry.map_err(failed(&next))?.path());
                    }
                }
            }
        } else if shared || (meta.nlink() > 1 && !linked.insert(meta.ino())) {
            continue;
        }
        total = total.saturating_add(meta.blocks().saturating_mul(512));
    }
    Ok(total)
}

/// Whether copies in `folder` share blocks with what they are copies of.
pub(super) fn shares_blocks(folder: &Path) -> bool {
    let unnamed = || {
        let flags = (OFlags::TMPFILE | OFlags::CLOEXEC).bits() as i32;
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(folder)
    };
    let shares = |from: File, to: File| -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&from, &[1; 4096], 0)?;
        Ok(ioctl_ficlone(&to, &from)?)
    };
    match (unnamed(), unnamed()) {
        (Ok(from), Ok(to)) => shares(from, to).is_ok(),
        _ => false,
    }
}

/// Makes the copies for the slot `to`, all or none, durably.
pub(super) fn copy_all(
    layout: &Layout,
    hands: &Hands<'_>,
    to: Slot,
    declared: &[String],
) -> Result<(), StateError> {
    let failed = |what: &'static str| StateError::io(format!("{what} the copies of what is versioned"));
    let at = layout.versioned(to);
    hands.remove(&at).and_then(|()| hands.recover(&at)).map_err(failed("clear away"))?;
    let originals = originals(layout, to.other(), declared)?;
    if originals.is_empty() {
        return Ok(());
    }
    // Where there is none for a new copy of /etc, that of the staging stands.
    let need = room_beside(layout, to, &copies(layout, to, declared)?, 0)?;
    if need.missing() > 0 {
        return Err(StateError::NoRoom(need));
    }
    let new = beside(&at, "new");
    let made = make(hands, &originals, &new).and_then(|()| hands.exchange(&new, &at));
    made.map_err(|source| {
        // What was copied is in nobody's way but takes room.
        let _ = hands.remove(&new);
        StateError::Io { what: "make the copies of what is versioned".to_owned(), source }
    })
}

fn make(hands: &Hands<'_>, originals: &[Original], new: &Path) -> io::Result<()> {
    let files = new.join("files");
    for Original { path, at, within } in originals {
        let to = files.join(path);
        hands.make_folder(to.parent().unwrap_or(&files))?;
        Copier::new(hands).copy(at, &to)?;
        for (inner, at) in within {
            let to = files.join(inner);
            hands.remove(&to)?;
            hands.make_folder(to.parent().unwrap_or(&files))?;
            Copier::new(hands).copy(at, &to)?;
        }
    }
    write_list(hands, &new.join("paths"), originals.iter().map(|original| &original.path))
}
