//! The state of a host that goes with its slots: `/etc`, and what a release declares as versioned in `/var`.
//!
//! All of it is plain files on the state partition. The agent copies for a slot that it has written ([`carry`]) and says whether
//! there is room ([`room`]); what counts is done when a slot boots, before anything of it runs ([`prepare`]): in the initrd, by the
//! program in the image that boots (`upright boot-state`), and on a simulated host by its boot.
//!
//! | file | holds |
//! |---|---|
//! | `layout` | where everything is |
//! | `declared` | what an image declares |
//! | `hands` | steps that a test can cut off |
//! | `copy` | a copy with everything that belongs to it |
//! | `follow` | what follows the host from slot to slot |
//! | `last` | which slot ran last, and what did not follow into it |
//! | `accounts` | users of host and image in one file (pure) |
//! | `versioned` | a copy a slot of what a release may change |
//! | `absent` | the same where there was nothing to copy |
//! | `prepare` | what happens at a boot |
//! | `reset` | back to the image |
//! | `reset_note` | what a boot has reset, for the agent |

mod absent;
mod accounts;
mod copy;
mod declared;
mod follow;
mod hands;
mod last;
mod layout;
mod prepare;
mod reset;
mod reset_note;
#[cfg(test)]
mod tests;
mod versioned;

use std::io;
use std::path::Path;

use upright_manifests::name::Slot;

pub use declared::{Folder, Image, declared};
pub use hands::{Hands, Step};
pub use last::owed;
pub use layout::Layout;
pub(crate) use layout::told;
pub use prepare::{Mount, Prepared, Stopped, prepare, stopped};
pub use reset::{Begun, Request};
pub use reset_note::{carry_out_reset, forget_reset_done, reset_done};
pub use versioned::{Copied, Need, apart, comes_back, copies, kept, room, room_for};

use crate::store::{give_up_reserve, make_place, odd_places};
use copy::Copier;
use hands::beside;

/// Why state cannot be kept for a slot.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A versioned path is not what can be copied.
    #[error("/var/{path} cannot be kept for each slot: {reason}")]
    Unfit {
        /// The path below `/var`.
        path: String,
        /// What is in the way.
        reason: &'static str,
    },
    /// The copies do not fit.
    #[error(
        "the copies of /etc and of what is versioned need {} bytes in /var, which has {}: {} bytes too few; make room there", .0.needed, .0.available,
        .0.missing()
    )]
    NoRoom(Need),
    /// What is written is lost at the next boot, which would take what the disk has for current.
    #[error(
        "this boot could not use the state on the disk and keeps its own in memory only; see what `journalctl -b -u upright-state` \
         says, mend it, and reboot"
    )]
    InMemory,
    /// What follows the host has not followed into the slot that runs, whose `/etc` would take its place in the other one.
    #[error(
        "/etc/{path} in the slot that runs is older than in the other slot, from where it could not be brought; make room in /var and reboot, \
         or write it anew"
    )]
    Owed {
        /// The path below `/etc`.
        path: String,
    },
    /// A file could not be read or written.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system says.
        source: io::Error,
    },
}

impl StateError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Makes the `/etc` that `from` has also that of `to`, which has been written and has not run. It is on a mark that the slot's first
/// boot takes away, and what was kept for the release that it held before is removed.
pub fn carry(layout: &Layout, hands: &Hands<'_>, from: Slot, to: Slot) -> io::Result<()> {
    hands.write(&layout.fresh(), to.as_str())?;
    hands.remove(&layout.versioned(to))?;
    hands.remove(&layout.stopped())?;
    copy_etc(layout, hands, Copier::of_what_is_in_use(hands), from, to)
}

/// Replaces `to`'s upper folder with a copy of `from`'s. The old one stays whole until the copy is durable.
fn copy_etc(
    layout: &Layout,
    hands: &Hands<'_>,
    mut copier: Copier<'_>,
    from: Slot,
    to: Slot,
) -> io::Result<()> {
    let at = layout.etc(to);
    hands.recover(&at)?;
    let new = beside(&at, "new");
    hands.make_folder(&new)?;
    let upper = layout.upper(from);
    if Layout::is_there(&upper)? {
        copier.copy(&upper, &new.join("upper"))?;
    }
    hands.exchange(&new, &at)
}

/// Acts once more where the first attempt failed and room was kept: that may be what is missing.
fn with_reserve<T, E>(layout: &Layout, mut act: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    match act() {
        Err(_) if give_up_reserve(layout.own()) => act(),
        done => done,
    }
}

/// Removes what was noted of a boot that was stopped, once it is remembered elsewhere.
pub fn forget_stopped(layout: &Layout) -> io::Result<()> {
    Hands::default().remove(&layout.stopped())
}

/// Sets aside what is no mark of a slot that has not run, nor a note, where no slot is written and waits for its first boot: a slot that
/// boots with such a mark must not reach its own data. What cannot be moved is an error that names it.
pub fn clear_marks(layout: &Layout) -> Result<(), StateError> {
    if Layout::slot_in(&layout.fresh()).is_err_and(|error| error.kind() == io::ErrorKind::Other) {
        let removed = Hands::default().remove(&layout.fresh());
        removed
            .map_err(StateError::io(format!("remove {}, which names no slot", layout.fresh().display())))?;
    }
    for path in odd_places(layout.own()) {
        make_place(&path)
            .map_err(StateError::io(format!("move {} away, which is no file", path.display())))?;
    }
    Ok(())
}

/// An error that names what is in the way of what is written for a slot.
pub fn require_places(layout: &Layout) -> Result<(), StateError> {
    let in_the_way = |path: &Path, what| {
        Err(StateError::Io {
            what: format!("use {}", path.display()),
            source: io::Error::other(format!("it is no {what}; move it away")),
        })
    };
    for name in ["etc", "versioned"] {
        let path = layout.own().join(name);
        match Layout::look(&path).map_err(StateError::io(format!("look at {}", path.display())))? {
            Some(meta) if !meta.is_dir() => return in_the_way(&path, "folder"),
            _ => {}
        }
    }
    match odd_places(layout.own()).first() {
        Some(path) => in_the_way(path, "file"),
        None => Ok(()),
    }
}

/// Whether `slot` has been written and has not run.
pub fn is_fresh(layout: &Layout, slot: Slot) -> Result<bool, StateError> {
    let fresh = Layout::slot_in(&layout.fresh());
    Ok(fresh.map_err(StateError::io(format!("read {}", layout.fresh().display())))? == Some(slot))
}
