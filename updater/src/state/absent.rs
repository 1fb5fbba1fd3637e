//! What a release declares as versioned and is not there yet when its slot boots, as after a reset of `/var`: there is nothing to copy, and what
//! the slot then makes is its own all the same.
//!
//! It is at the plain path for as long as no other slot boots. Nothing is made in its place beforehand, since a release may well
//! look at whether it is there to know that this is its first start. When the other slot boots, which finds it absent as it left it, it is
//! moved to the copies of the slot that made it.

use std::io;

use upright_manifests::name::Slot;
use upright_manifests::state::{is_within, outermost};

use super::StateError;
use super::hands::{Hands, beside};
use super::layout::Layout;
use super::versioned::{copy_of, is_fit, kept, listed, write_list};

/// The paths below `/var` that were not there when `slot` booted.
fn noted(layout: &Layout, slot: Slot) -> io::Result<Vec<String>> {
    Ok(listed(&layout.absent(slot))?.unwrap_or_default())
}

/// What a slot makes, or has made, where nothing was; to the other slot it is absent.
pub(super) fn made(layout: &Layout) -> Result<Vec<String>, StateError> {
    let mut made = Vec::new();
    for slot in Slot::ALL {
        let paths = noted(layout, slot).map_err(failed(layout, slot))?;
        made.extend(paths.into_iter().filter(|path| is_fit(layout.var(), path).unwrap_or(false)));
    }
    Ok(made)
}

/// Notes what is declared and not there, when `slot` boots. What the slot made since it was noted first stays noted.
pub(super) fn note(
    layout: &Layout,
    hands: &Hands<'_>,
    slot: Slot,
    declared: &[String],
) -> Result<(), StateError> {
    let (has, before) = (kept(layout, slot)?, noted(layout, slot).map_err(failed(layout, slot))?);
    let is_own = |path: &String| {
        // What is in its way, a link for one, is there.
        let is_there = is_fit(layout.var(), path).unwrap_or(true);
        !has.iter().any(|kept| touch(kept, path)) && (before.contains(path) || !is_there)
    };
    let absent: Vec<_> = outermost(declared.iter().cloned()).into_iter().filter(is_own).collect();
    write(layout, hands, slot, &before, &absent)
}

/// Takes what the other slot has copied, or shares, for what `slot` made: from here on it is a plain path like others.
pub(super) fn share(layout: &Layout, hands: &Hands<'_>, slot: Slot) -> Result<(), StateError> {
    let before = noted(layout, slot).map_err(failed(layout, slot))?;
    let is_absent = |path: &&String| !is_fit(layout.var(), path).unwrap_or(true);
    let absent: Vec<_> = before.iter().filter(is_absent).cloned().collect();
    write(layout, hands, slot, &before, &absent)
}

/// Moves what `slot`, which ran last, made where nothing was to its own copies, before the other slot boots. Gives what cannot be moved.
pub(super) fn part(layout: &Layout, hands: &Hands<'_>, slot: Slot) -> Result<Vec<String>, StateError> {
    let mut complaints = Vec::new();
    let has = kept(layout, slot)?;
    let mut moved = false;
    for path in of_both(layout)? {
        if has.iter().any(|kept| touch(kept, &path)) {
            continue;
        }
        match is_fit(layout.var(), &path) {
            Ok(false) => continue,
            Ok(true) => {}
            Err(error) => {
                complaints.push(format!("what slot {slot} made does not stay with it: {error}"));
                continue;
            }
        }
        let to = copy_of(layout, slot, &path);
        let make = || {
            make_list(layout, hands, slot)?;
            hands.make_folder(to.parent().unwrap_or(&to))?;
            hands.rename(&layout.var().join(&path), &to)
        };
        make().map_err(failed(layout, slot))?;
        moved = true;
    }
    if moved {
        hands.sync(layout.own()).map_err(failed(layout, slot))?;
    }
    list(layout, hands, slot)?;
    Ok(complaints)
}

/// Lists what was moved to `slot`'s copies, by a boot that may have been cut off.
pub(super) fn list(layout: &Layout, hands: &Hands<'_>, slot: Slot) -> Result<(), StateError> {
    let mut has = kept(layout, slot)?;
    let before = has.len();
    for path in of_both(layout)? {
        let is_there = Layout::is_there(&copy_of(layout, slot, &path)).map_err(failed(layout, slot))?;
        if is_there && !has.iter().any(|kept| touch(kept, &path)) {
            has.push(path);
        }
    }
    if has.len() == before {
        return Ok(());
    }
    write_list(hands, &layout.versioned(slot).join("paths"), &has).map_err(failed(layout, slot))
}

/// What either slot found absent.
fn of_both(layout: &Layout) -> Result<Vec<String>, StateError> {
    let mut paths = Vec::new();
    for slot in Slot::ALL {
        paths.extend(noted(layout, slot).map_err(failed(layout, slot))?);
    }
    Ok(outermost(paths))
}

/// Whether one of two paths is, or is in, the other.
fn touch(one: &str, other: &str) -> bool {
    is_within(one, other) || is_within(other, one)
}

fn write(
    layout: &Layout,
    hands: &Hands<'_>,
    slot: Slot,
    before: &[String],
    absent: &[String],
) -> Result<(), StateError> {
    if before == absent {
        return Ok(());
    }
    let written =
        make_list(layout, hands, slot).and_then(|()| write_list(hands, &layout.absent(slot), absent));
    written.map_err(failed(layout, slot))
}

/// Makes the folder for a slot's copies, whole or not at all: one without a list is one that has lost it.
fn make_list(layout: &Layout, hands: &Hands<'_>, slot: Slot) -> io::Result<()> {
    let at = layout.versioned(slot);
    if Layout::is_there(&at)? {
        return Ok(());
    }
    let new = beside(&at, "new");
    hands.recover(&at)?;
    hands.make_folder(&new)?;
    write_list(hands, &new.join("paths"), [])?;
    hands.exchange(&new, &at)
}

fn failed(layout: &Layout, slot: Slot) -> impl FnOnce(io::Error) -> StateError {
    StateError::io(format!("keep what slot {slot} makes in {}", layout.versioned(slot).display()))
}
