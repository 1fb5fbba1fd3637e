//! What happens to a host's state when a slot boots, before anything of it runs.
//!
//! Whoever decided that this slot boots, operator, agent or boot loader, and whatever the slot holds: it is the image that boots
//! which does this. Everything here may be cut off anywhere and is done again by the next boot, of either slot.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use upright_manifests::name::Slot;
use upright_manifests::state::Declarations;

use super::absent;
use super::copy::Copier;
use super::declared::{Image, declared};
use super::follow::{add_accounts, follow};
use super::hands::Hands;
use super::last::{Last, Owed};
use super::layout::Layout;
use super::reset::{self, Request};
use super::versioned::{copy_all, copy_of, is_fit, kept};
use super::{StateError, copy_etc, with_reserve};
use crate::store::give_up_reserve;

/// How often a boot is stopped for the sake of its data. A machine that has nothing else to boot must come up all the same.
const MOST_STOPS: u32 = 10;

/// The longest reason that is kept, in bytes.
const MAX_REASON: u64 = 16 << 10;

/// What is to be mounted over what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The slot's copy.
    pub from: PathBuf,
    /// The plain path in `/var`.
    pub over: PathBuf,
}

/// How the state of a slot is ready.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prepared {
    /// What is mounted, in this order.
    pub mounts: Vec<Mount>,
    /// What did not go as it should, and is no reason not to boot.
    pub complaints: Vec<String>,
}

/// Why a slot must not boot.
#[derive(Debug)]
pub struct Stopped {
    /// The reason.
    pub reason: StateError,
    /// Whether to start again, so that the boot loader's tries lead back; otherwise state is to be kept out of reach.
    pub again: bool,
}

/// Makes the state ready that `slot` boots with.
pub fn prepare(
    layout: &Layout,
    hands: &Hands<'_>,
    image: &dyn Image,
    slot: Slot,
) -> Result<Prepared, Stopped> {
    let out_of_reach = |reason| Stopped { reason, again: false };
    let mut complaints = Vec::new();
    if let Err(error) = tidy(layout, hands, slot) {
        complaints.push(format!("cannot clear away what a power cut left: {error}"));
    }
    let is_fresh = match super::is_fresh(layout, slot) {
        // Whoever the mark is of: that this slot ran was noted after all that a first boot does.
        Err(error) if Last::read(layout).is_ok_and(|last| last.is_some_and(|last| last.slot == slot)) => {
            complaints.push(format!("{error}; this slot ran last, so it goes on with what it has"));
            false
        }
        is_fresh => is_fresh.map_err(out_of_reach)?,
    };
    if is_fresh {
        let first = with_reserve(layout, || first_boot(layout, hands, image, slot, &mut complaints));
        first.map_err(|reason| stop(layout, hands, slot, reason))?;
    } else {
        absent::list(layout, hands, slot).map_err(out_of_reach)?;
        // A slot that has to make do with what the other one made is better than none.
        match part(layout, hands, slot.other()) {
            Ok(more) => complaints.extend(more),
            Err(error) => complaints.push(error.to_string()),
        }
        let declares = declared(image);
        another_boot(layout, hands, (image, &declares), slot, &mut complaints);
        let noted =
            declares.map_err(StateError::io("read what the image declares")).and_then(|(declared, _)| {
                with_reserve(layout, || absent::note(layout, hands, slot, &declared.versioned()))
            });
        if let Err(error) = noted {
            complaints.push(error.to_string());
        }
    }
    if stopped(layout, slot).is_some() {
        let _ = hands.remove(&layout.stopped());
    }
    let mounts = mounts(layout, hands, slot, &mut complaints).map_err(out_of_reach)?;
    Ok(Prepared { mounts, complaints })
}

/// Copies what the other slot has, for a slot that has not run.
fn first_boot(
    layout: &Layout,
    hands: &Hands<'_>,
    image: &dyn Image,
    slot: Slot,
    complaints: &mut Vec<String>,
) -> Result<(), StateError> {
    // Without knowing what is versioned, the release might start on the only copy of it.
    let (declared, bad) = declared(image).map_err(StateError::io("read what the image declares"))?;
    complaints.extend(bad.into_iter().map(no_count));
    absent::list(layout, hands, slot.other())?;
    copy_all(layout, hands, slot, &declared.versioned())?;
    absent::share(layout, hands, slot.other())?;
    absent::note(layout, hands, slot, &declared.versioned())?;
    if let Err(error) = copy_etc(layout, hands, Copier::new(hands), slot.other(), slot) {
        complaints
            .push(format!("slot {slot} has the /etc of when it was written: cannot copy it again: {error}"));
        staged_etc(layout, hands, &declared, slot)?;
    }
    complaints.extend(add_accounts(layout, hands, image, &declared, slot));
    // What runs from here on counts. With the mark, which goes last, the next boot would copy over what this one changed.
    let noted = Last { slot, owed: Vec::new() }
        .note(layout, hands)
        .and_then(|()| hands.remove(&layout.fresh()))
        .and_then(|()| hands.sync(layout.own()));
    noted.map_err(StateError::io("note that the slot has run"))
}

/// Leaves what `other` made where nothing was to it, if it ran last.
fn part(layout: &Layout, hands: &Hands<'_>, other: Slot) -> Result<Vec<String>, StateError> {
    if !Last::read(layout).is_ok_and(|last| last.is_some_and(|last| last.slot == other)) {
        return Ok(Vec::new());
    }
    with_reserve(layout, || absent::part(layout, hands, other))
}

/// Makes do with the `/etc` of the staging. What follows the host was changed since, as a password may have been that somebody got to
/// know, and from here on would be taken from this slot.
fn staged_etc(
    layout: &Layout,
    hands: &Hands<'_>,
    declared: &Declarations,
    slot: Slot,
) -> Result<(), StateError> {
    let failed = || StateError::io(format!("copy what was changed in /etc to slot {slot}"));
    let _ = hands.recover(&layout.etc(slot));
    let is_there = |slot| Layout::is_there(&layout.upper(slot)).map_err(failed());
    if is_there(slot.other())? && !is_there(slot)? {
        return Err(failed()(io::Error::other("there is no copy of when it was written either")));
    }
    let followed = follow(layout, hands, declared, (slot.other(), slot), &|_| true);
    match followed.complaints.into_iter().next() {
        None => Ok(()),
        Some(line) => Err(failed()(io::Error::other(line))),
    }
}

/// Brings what follows the host, if the other slot ran last, and what did not follow before.
fn another_boot(
    layout: &Layout,
    hands: &Hands<'_>,
    (image, declares): (&dyn Image, &io::Result<(Declarations, Vec<String>)>),
    slot: Slot,
    complaints: &mut Vec<String>,
) {
    let (other, last) = (slot.other(), Last::read(layout));
    let wanted: &dyn Fn(&str) -> bool = match &last {
        // What is older there is not brought from there.
        Ok(Some(last)) if last.slot == other => &|path| !last.owes(layout, path),
        Ok(Some(last)) if last.owed.is_empty() => return,
        Ok(Some(last)) => &|path| last.owes(layout, path),
        Ok(None) => &|_| false,
        Err(error) => {
            complaints.push(format!(
                "it is not known which slot ran last, so what was changed later counts: {error}"
            ));
            &|path| is_later(&layout.upper(other).join(path), &layout.upper(slot).join(path))
        }
    };
    let mut owed = Vec::new();
    match declares {
        Ok((declared, bad)) => {
            complaints.extend(bad.iter().cloned().map(no_count));
            let mut followed = follow(layout, hands, declared, (other, slot), wanted);
            // Room is what is missing most often.
            if !followed.missed.is_empty() && give_up_reserve(layout.own()) {
                followed = follow(layout, hands, declared, (other, slot), wanted);
            }
            complaints.extend(followed.complaints);
            complaints.extend(add_accounts(layout, hands, image, declared, slot));
            for path in followed.missed {
                match Owed::of(layout, slot, &path) {
                    Ok(one) => owed.push(one),
                    Err(error) => {
                        complaints.push(format!("cannot note that /etc/{path} did not follow: {error}"))
                    }
                }
            }
        }
        Err(error) => {
            complaints.push(format!("nothing follows: cannot read what the image declares: {error}"));
            owed = last.ok().flatten().filter(|last| last.slot == slot).map_or(owed, |last| last.owed);
        }
    }
    if let Err(error) = (Last { slot, owed }).note(layout, hands) {
        complaints.push(format!("slot {slot} does not count as what ran last: {error}"));
    }
}

/// Whether `one` was changed later than `other`. What is not there was not changed.
fn is_later(one: &Path, other: &Path) -> bool {
    let changed = |path: &Path| {
        let meta = fs::symlink_metadata(path).ok()?;
        Some((meta.mtime(), meta.mtime_nsec()))
    };
    changed(one) > changed(other)
}

fn no_count(line: String) -> String {
    format!("{line}; the line does not count")
}

/// Ends or takes back what was cut off.
fn tidy(layout: &Layout, hands: &Hands<'_>, slot: Slot) -> io::Result<()> {
    hands.recover(&layout.etc(slot))?;
    hands.remove(&layout.etc(slot).join("new"))?;
    // A request that cannot be read may need what was kept.
    match Request::pending(layout)? {
        Some(_) => Ok(()),
        None => reset::settle(layout, hands),
    }
}

/// The slot's copies, each with a place that it can be mounted over.
fn mounts(
    layout: &Layout,
    hands: &Hands<'_>,
    slot: Slot,
    complaints: &mut Vec<String>,
) -> Result<Vec<Mount>, StateError> {
    let mut mounts = Vec::new();
    for path in kept(layout, slot)? {
        let (from, over) = (copy_of(layout, slot, &path), layout.var().join(&path));
        // Mounts follow links, and what a service may write to leads there. It is not to keep the whole host from its state either.
        let is_there = match is_fit(layout.var(), &path) {
            Err(StateError::Unfit { reason, .. }) => {
                let aside = set_aside(hands, layout.var(), &path);
                let aside = aside.map_err(StateError::io(format!("reach the slot's own /var/{path}")))?;
                complaints.push(format!(
                    "/var/{path} had another name put in its way, now {}: {reason}",
                    aside.display()
                ));
                is_fit(layout.var(), &path)?
            }
            is_there => is_there?,
        };
        let make = || -> io::Result<()> {
            // A copy that is lost is not to be replaced by the plain path.
            let is_folder = fs::symlink_metadata(&from)?.is_dir();
            if is_there {
                return Ok(());
            }
            if is_folder {
                return fs::create_dir_all(&over);
            }
            fs::create_dir_all(over.parent().unwrap_or(layout.var()))?;
            fs::write(&over, "")
        };
        make().map_err(StateError::io(format!("reach the slot's own /var/{path}")))?;
        mounts.push(Mount { from, over });
    }
    Ok(mounts)
}

/// Gives what is in the way to `path` below `var`, a link for one, another name; which one that is.
fn set_aside(hands: &Hands<'_>, var: &Path, path: &str) -> io::Result<PathBuf> {
    let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
    for end in ends {
        let at = var.join(path.get(..end).unwrap_or(path));
        let meta = fs::symlink_metadata(&at)?;
        if meta.is_dir() || end == path.len() && meta.is_file() {
            continue;
        }
        return hands.set_aside(&at);
    }
    Err(io::Error::other("nothing was in the way on a second look"))
}

/// Keeps the reason where the agent finds it.
fn stop(layout: &Layout, hands: &Hands<'_>, slot: Slot, reason: StateError) -> Stopped {
    let before = read(layout).filter(|(stopped, ..)| *stopped == slot).map_or(0, |(_, times, _)| times);
    let text = format!("{slot} {} {reason}", before.saturating_add(1));
    // A disk so full that this cannot be kept either leaves the agent with a release that did not come up.
    let _ = hands.write(&layout.stopped(), &text);
    Stopped { reason, again: before < MOST_STOPS }
}

/// Why the last boot of `slot` was stopped, if it was.
pub fn stopped(layout: &Layout, slot: Slot) -> Option<String> {
    read(layout).filter(|(stopped, ..)| *stopped == slot).map(|(_, _, reason)| reason)
}

fn read(layout: &Layout) -> Option<(Slot, u32, String)> {
    let text = Layout::text_in(&layout.stopped(), MAX_REASON).ok()??;
    let mut parts = text.splitn(3, ' ');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.trim().to_owned()))
}
