//! Where state is.
//!
//! ```text
//! /var/lib/upright/etc/<slot>/upper          what was changed in /etc while the slot ran (overlayfs)
//! /var/lib/upright/versioned/<slot>/paths    the paths below /var that the slot has a copy of, a line each
//! /var/lib/upright/versioned/<slot>/files/   the copies
//! /var/lib/upright/versioned/<slot>/absent   what is versioned and was not there when the slot booted
//! /var/lib/upright/last-slot                 the slot that ran last, and what did not follow into it
//! /var/lib/upright/fresh                     the slot that was written and has not run
//! /var/lib/upright/stopped                   why a slot's boot was stopped: slot, times, reason
//! /var/lib/upright/reset                     what the next boot is to reset, and why the last one could not
//! /var/lib/upright/reset-ready/<slot>/upper  what /etc of a slot is to be after a reset that is under way
//! /var/lib/upright/reset-done                what a boot has reset, until the agent has read it
//! ```

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use upright_manifests::name::Slot;

use crate::store::{StoreError, read_own};

/// How much of the beginning and of the end of a path is told, in characters.
const ENDS: usize = 150;

/// A path as it is told to people, who are helped by both ends of a long one.
pub(crate) fn told(path: &Path) -> String {
    let text: Vec<char> = path.display().to_string().chars().collect();
    let ends = (
        text.get(..ENDS),
        text.len().checked_sub(ENDS).filter(|end| *end > ENDS).and_then(|end| text.get(end..)),
    );
    match ends {
        (Some(head), Some(tail)) => {
            format!(
                "{}[...]{}, a path of {} characters",
                head.iter().collect::<String>(),
                tail.iter().collect::<String>(),
                text.len()
            )
        }
        _ => text.into_iter().collect(),
    }
}

/// Whether an error says that there is no such file. All others say that it is not known.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The state partition.
#[derive(Debug, Clone)]
pub struct Layout {
    own: PathBuf,
    var: PathBuf,
}

impl Layout {
    /// That of the `/var` at `var`.
    pub fn of_var(var: &Path) -> Self {
        Self { own: var.join("lib/upright"), var: var.to_owned() }
    }

    /// That of the agent's folder, `/var/lib/upright`.
    pub fn around(own: &Path) -> Self {
        let var = own.ancestors().nth(2).unwrap_or(own);
        Self { own: own.to_owned(), var: var.to_owned() }
    }

    /// `/var`.
    pub fn var(&self) -> &Path {
        &self.var
    }

    /// The agent's folder.
    pub fn own(&self) -> &Path {
        &self.own
    }

    /// All that belongs to a slot's `/etc`.
    pub(super) fn etc(&self, slot: Slot) -> PathBuf {
        self.own.join("etc").join(slot.as_str())
    }

    /// What was changed in `/etc` while the slot ran.
    pub fn upper(&self, slot: Slot) -> PathBuf {
        self.etc(slot).join("upper")
    }

    /// The slot's copies of what is versioned, and their list.
    pub(super) fn versioned(&self, slot: Slot) -> PathBuf {
        self.own.join("versioned").join(slot.as_str())
    }

    /// What is versioned and was not there when the slot booted.
    pub(super) fn absent(&self, slot: Slot) -> PathBuf {
        self.versioned(slot).join("absent")
    }

    /// The slot that was written and has not run.
    pub(super) fn fresh(&self) -> PathBuf {
        self.own.join("fresh")
    }

    /// The slot that ran last, and what did not follow into it.
    pub(super) fn last_slot(&self) -> PathBuf {
        self.own.join("last-slot")
    }

    /// Why a boot was stopped.
    pub(super) fn stopped(&self) -> PathBuf {
        self.own.join("stopped")
    }

    /// What is to be reset.
    pub(super) fn reset(&self) -> PathBuf {
        self.own.join("reset")
    }

    /// What was reset.
    pub(super) fn reset_done(&self) -> PathBuf {
        self.own.join("reset-done")
    }

    /// What the slots' `/etc` is to be after a reset that is under way.
    pub(super) fn reset_ready(&self) -> PathBuf {
        self.own.join("reset-ready")
    }

    /// What a reset by an older program keeps.
    pub(super) fn reset_kept(&self) -> PathBuf {
        self.own.join("reset-kept")
    }

    /// The slot that a file names; none if there is no file.
    pub(super) fn slot_in(file: &Path) -> io::Result<Option<Slot>> {
        let text = Self::text_in(file, 16)?;
        text.map(|text| text.trim().parse().map_err(|_| io::Error::other("it names no slot"))).transpose()
    }

    /// The text of a small file; none if there is no file. One that cannot be read is no file that is not there.
    pub(super) fn text_in(file: &Path, limit: u64) -> io::Result<Option<String>> {
        let bytes = read_own(file, limit).map_err(|error| match error {
            // Whoever asks says which file it is.
            StoreError::Read { source, .. } => source,
            error => io::Error::other(error),
        })?;
        let text = bytes.map(|bytes| String::from_utf8(bytes).map_err(|_| io::Error::other("it is no text")));
        text.transpose()
    }

    /// What is there, a link that leads nowhere included; none if nothing is. What cannot be looked at may well be there.
    pub(super) fn look(path: &Path) -> io::Result<Option<Metadata>> {
        match fs::symlink_metadata(path) {
            Err(error) if is_absent(&error) => Ok(None),
            meta => meta.map(Some),
        }
    }

    /// Whether something is there.
    pub(super) fn is_there(path: &Path) -> io::Result<bool> {
        Ok(Self::look(path)?.is_some())
    }
}
