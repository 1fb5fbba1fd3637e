//! Boot loaders: the trait and its back ends.
//!
//! A back end holds, for each slot, at most one entry, and says which of them the next boot takes. It knows
//! nothing of releases being good or bad beyond what the boot loader itself records.

mod choice;
#[cfg(test)]
mod conformance;
mod custom;
mod detect;
mod efi;
mod esp;
mod fuse;
mod grub;
mod medium;
mod names;
mod open;
mod overrides;
mod per_slot;
mod sectors;
pub mod systemd_boot;
mod uboot;

use std::io::{self, Read};

use upright_manifests::name::{OsName, Slot};
use upright_manifests::version::Version;

pub use detect::Loader;
pub(crate) use esp::unreadable;
pub use medium::Medium;
pub use names::SlotNames;
pub use open::{OpenError, open};

/// What a boot loader starts: a release in a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The slot the release is in.
    pub slot: Slot,
    /// The OS.
    pub os: OsName,
    /// The release's version.
    pub version: Version,
}

/// What the boot loader records about an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Proven: it is booted without counting.
    Good,
    /// On trial: `left` more boots are allowed, `done` were used.
    Trial {
        /// Boots that are left.
        left: u32,
        /// Boots that were used.
        done: u32,
    },
    /// Passed over while there is any other entry.
    Bad,
}

/// Something that works, and could be safer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concern {
    /// What it is, in one line.
    pub says: String,
    /// The way to mend it.
    pub mend: String,
}

/// What there is to say where a script goes by its own values, since the file that it and the agent alone use is of no use.
fn damaged_register(damage: &io::Error) -> Concern {
    Concern {
        says: format!(
            "{damage}: until it is written anew, slot a is started first, and no boot of a trial is counted"
        ),
        mend: "the agent writes it anew when it starts; if it stays so, look at the disk's health".to_owned(),
    }
}

/// One boot loader's state, on disk or in firmware.
///
/// Every change is durable when the call returns, and may be made again after a crash with the same result.
pub trait BootLoader {
    /// The back end's name, for messages and `status`.
    fn name(&self) -> &'static str;

    /// What is recorded about an entry; `None` if there is none.
    fn trust(&self, entry: &Entry) -> io::Result<Option<Trust>>;

    /// Whether the boot loader finds an entry when it looks for what to start, be it then passed over.
    fn is_seen(&self, entry: &Entry) -> io::Result<bool>;

    /// The kernel command lines of all entries that were switched to at some time, whoever made them.
    fn command_lines(&self) -> io::Result<Vec<String>>;

    /// Removes every entry but `keep` and all staged content. Afterwards the next boot takes `keep`, without counting. An error if
    /// `keep` is not seen while another entry is: that one is what boots.
    fn remove_others(&self, keep: &Entry) -> io::Result<()>;

    /// How many bytes of UKI fit once [`Self::remove_others`] has run.
    fn room(&self, keep: &Entry) -> io::Result<u64>;

    /// How many bytes of UKI fit beside all that boot loaders see; what is left of `entry` out of their sight goes first.
    fn room_beside(&self, entry: &Entry) -> io::Result<u64>;

    /// Stores the UKI of `entry` in its place, out of the boot loader's sight. Its place must not be taken.
    fn stage(&self, entry: &Entry, uki: &mut dyn Read) -> io::Result<()>;

    /// Reads the staged UKI back from the medium, past the page cache.
    fn staged(&self, entry: &Entry) -> io::Result<Box<dyn Read>>;

    /// Reads the UKI of an entry that was switched to at some time from the medium, past the page cache; `None` if there is none.
    fn content(&self, entry: &Entry) -> io::Result<Option<Box<dyn Read>>>;

    /// The length in bytes of what boot loaders see in the place of `entry`, whatever it is: [`Self::stage`] refuses then.
    fn taken(&self, entry: &Entry) -> io::Result<Option<u64>>;

    /// Stores the UKI of an entry whose place is taken by a damaged one, where no boot loader looks.
    fn stage_copy(&self, uki: &mut dyn Read) -> io::Result<()>;

    /// Reads it back from the medium, past the page cache.
    fn staged_copy(&self) -> io::Result<Box<dyn Read>>;

    /// Makes what takes the place of `entry` what [`Self::stage_copy`] stored, in place and sector by sector where they differ, so that
    /// at no instant there is less to boot than there was, and removes the copy.
    fn mend(&self, entry: &Entry) -> io::Result<()>;

    /// Whether what the boot loader needs beside the UKI of an entry is what the UKI says; it may need nothing.
    fn is_ready(&self, _entry: &Entry) -> io::Result<bool> {
        Ok(true)
    }

    /// Makes it so, for an entry whose UKI is whole.
    fn make_ready(&self, _entry: &Entry) -> io::Result<()> {
        Ok(())
    }

    /// Puts the staged UKI of `entry` in force as the way back: proven, and passed over as long as `keep` is there, which is what the
    /// next boot takes before and after.
    fn restore(&self, entry: &Entry, keep: &Entry) -> io::Result<()>;

    /// The switch, in one atomic step: `entry` is what the next boot takes, for at most `tries` boots until
    /// [`Self::mark_good`], and the other entry, whatever its trust, after those. Works on a staged entry and on one that is there
    /// already, whatever its trust.
    fn switch(&self, entry: &Entry, tries: u32) -> io::Result<()>;

    /// Ends the trial of `entry`: it is booted without counting from now on. One that is whole and not seen any more is seen again.
    fn mark_good(&self, entry: &Entry) -> io::Result<()>;

    /// The next boot takes the other entry; `entry` is kept but passed over. It may have been lost; the other one must be there.
    fn mark_bad(&self, entry: &Entry) -> io::Result<()>;

    /// How many bytes the UKI of an entry has; `None` if there is none.
    fn size(&self, entry: &Entry) -> io::Result<Option<u64>>;

    /// What about this boot loader's state is weaker than it could be.
    fn concerns(&self) -> io::Result<Vec<Concern>> {
        Ok(Vec::new())
    }

    /// The slot that the boot loader says it has started, where it says so.
    fn started(&self) -> io::Result<Option<Slot>> {
        Ok(None)
    }

    /// `entry`, which is not on trial, runs. Said at each boot, for boot loaders that count those of such a release too.
    fn came_up(&self, _entry: &Entry) -> io::Result<()> {
        Ok(())
    }
}
