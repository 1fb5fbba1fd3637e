//! The outside as the agent sees it: one trait per thing, and [`Host`] that holds them together.
//!
//! Only what implements these traits touches disks, the boot loader, the clock, the network or the power
//! button. The same agent code therefore runs on a server, on a virtual host made of plain files
//! (`upright --root DIR`) and against a fake that misbehaves on request.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use upright_manifests::digest::Digest;
use upright_manifests::name::Slot;

use crate::boot::BootLoader;
use crate::health::Prober;
use crate::machine::Evidence;
use crate::state;

mod booted;
mod clock;
mod linux;
mod secure_boot;
mod simulated;
mod traces;

pub use booted::{Booted, BootedError};
pub(crate) use linux::label;
pub use linux::{HostError, LinuxHost};
pub use simulated::SimulatedHost;
#[cfg(test)]
pub(crate) use simulated::take_entry as take_simulated_entry;
pub(crate) use traces::{BOOTS, NOTE};

/// Whether a kernel's command line says what runs, for the fuzz targets.
#[cfg(fuzzing)]
pub(crate) fn is_ours(command_line: &str) -> bool {
    Booted::parse(command_line, Slot::A).is_ok()
}

/// Makes the configuration that the slot `from` has also that of `to`, in the agent's folder.
pub fn carry_configuration(folder: &Path, from: Slot, to: Slot) -> io::Result<()> {
    state::carry(&state::Layout::around(folder), &state::Hands::default(), from, to)
}

/// Everything outside of the agent.
pub trait Host {
    /// The time.
    fn clock(&self) -> &dyn Clock;
    /// The update repository.
    fn remote(&self) -> &dyn Remote;
    /// The partitions of both slots.
    fn slots(&self) -> &dyn Slots;
    /// The boot loader's state.
    fn boot(&self) -> &dyn BootLoader;
    /// The machine itself.
    fn machine(&self) -> &dyn Machine;
    /// What health checks look at.
    fn prober(&self) -> &dyn Prober;
    /// Where the ESP is mounted, where it is a folder.
    fn esp(&self) -> Option<&Path> {
        None
    }
}

/// The system's clock.
pub trait Clock: Sync {
    /// The wall clock, which may be wrong by decades.
    fn now(&self) -> Timestamp;
    /// A clock that never jumps, from an arbitrary start.
    fn monotonic(&self) -> Duration;
    /// Waits. A process that is asked to stop ends by its signal: every state is safe to be killed in.
    fn sleep(&self, time: Duration);
}

/// A read-only repository of files, such as one behind an HTTP server.
pub trait Remote: Sync {
    /// Opens `path` (relative to the repository's root) from byte `range.start` to before `range.end`.
    ///
    /// The reader ends early when the connection does; it never yields more than `range` asks for. Of a server that does not
    /// serve ranges it yields the start of the file, and [`RemoteError::NoRanges`] where `range.start` is not zero.
    fn open(&self, path: &str, range: Range<u64>) -> Result<Box<dyn Read + Send>, RemoteError>;

    /// How long the file at `path` is, where that can be told without reading it: of what somebody copied, a part may be missing.
    fn length(&self, _path: &str) -> Result<Option<u64>, RemoteError> {
        Ok(None)
    }

    /// Where the repository is, for messages.
    fn address(&self) -> String;
}

/// Why a file could not be had from the repository.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The server says that there is no such file (404, 403, 410): final for this file.
    #[error("{url} {}", missing(*.status))]
    NotFound {
        /// The file's address.
        url: String,
        /// The HTTP status; 0 where no server was asked.
        status: u16,
    },
    /// A medium was taken out: worth another try once it is back, and not before.
    #[error(
        "cannot read {place}: {reason}; if it was taken out, insert it again and run the same command, which goes on where it stopped"
    )]
    Gone {
        /// Where it was.
        place: String,
        /// What happened.
        reason: String,
    },
    /// A file on a medium that cannot be read: a bad sector, or the medium was taken out. Another file may be whole.
    #[error("cannot read {path} on {place}: {reason}")]
    Unreadable {
        /// The medium.
        place: String,
        /// The file on it.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// Worth another try later: no connection, time-out, 5xx, a line that dropped.
    #[error("{url} could not be fetched: {reason}")]
    Unavailable {
        /// The file's address.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The server sends whole files only, and the middle of one was asked for.
    #[error(
        "{url} cannot be had from byte {from} on: the server does not serve ranges; the publisher should use one that does"
    )]
    NoRanges {
        /// The file's address.
        url: String,
        /// Where it should have begun.
        from: u64,
    },
    /// The server answered something that a correct server would not; another try will not help soon.
    #[error("{url} was answered wrongly: {reason}")]
    Protocol {
        /// The file's address.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

fn missing(status: u16) -> String {
    match status {
        0 => "is not there".to_owned(),
        403 => "is withheld by the server (403)".to_owned(),
        status => format!("does not exist on the server ({status})"),
    }
}

impl RemoteError {
    /// Why what was opened at `url` could not be read on: what the reader itself says, or else a line that dropped.
    pub fn of_reading(error: io::Error, url: impl FnOnce() -> String) -> Self {
        match error.downcast::<Self>() {
            Ok(own) => own,
            Err(error) => Self::Unavailable { url: url(), reason: error.to_string() },
        }
    }

    /// Whether a file on a medium cannot be read.
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::Unreadable { .. })
    }

    /// Whether a medium was taken out.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }

    /// Whether another try soon would give the same.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Unavailable { .. })
    }
}

/// One of a slot's two partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The EROFS image.
    Root,
    /// The dm-verity superblock and hash tree.
    Verity,
}

/// The partitions of both slots.
pub trait Slots {
    /// Opens a partition; for [`Access::Write`] only if the slot is not the booted one.
    fn open(&self, slot: Slot, part: Part, access: Access) -> io::Result<Box<dyn BlockDevice>>;
}

/// What a partition is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    Write,
    /// Reading, and writing of blocks with what they should hold according to the root hash, also while the slot runs.
    Mend,
}

/// A partition, or a file in its place.
pub trait BlockDevice: Send + Sync {
    /// Its size in bytes.
    fn size(&self) -> u64;
    /// Fills `buffer` from `offset`; from the device itself, past the page cache, where the device can. Offset and length are
    /// multiples of 4096.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`. Offset and length are multiples of 4096.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Returns when everything written is on stable storage.
    fn sync(&self) -> io::Result<()>;
}

/// The machine the agent runs on.
pub trait Machine {
    /// A stable identity of this host, for its place in the fleet; machine-id(5).
    fn id(&self) -> String;
    /// What runs, and from which slot.
    fn booted(&self) -> Result<Booted, BootedError>;
    /// When the image that runs was built: the time that all its files carry. The host's clock cannot be right before it.
    fn image_time(&self) -> Option<Timestamp>;
    /// A text that differs for each boot; `/proc/sys/kernel/random/boot_id`.
    fn boot_id(&self) -> io::Result<String>;
    /// Makes the configuration (`/etc`) that `from` has also that of `to`, replacing what `to` had.
    fn carry_configuration(&self, from: Slot, to: Slot) -> io::Result<()>;
    /// Whether the boot could not use the state partition or the slot's part of it: what is written there now is lost.
    fn state_in_memory(&self) -> bool {
        false
    }
    /// A folder that is empty at each boot and can be written whatever happens to disks, if there is one.
    fn memory(&self) -> Option<PathBuf> {
        None
    }
    /// What boots of a release on trial left behind, for the release that runs after them.
    fn traces(&self) -> Evidence;
    /// The last warnings that the journal has of a boot, as far as they reached the disk.
    fn journal(&self, boot: &str) -> Vec<String>;
    /// Restarts the machine. On a real one the call returns when the restart is under way.
    fn reboot(&self) -> io::Result<()>;
    /// The SHA-256 of each certificate (DER) whose signatures the firmware takes on boot entries; none if it takes what is not
    /// signed, too.
    fn accepted_signers(&self) -> io::Result<Option<BTreeSet<Digest>>>;
}
