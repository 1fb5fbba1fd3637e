//! What is missing on a host, before an update needs it.
//!
//! [`gather()`] looks at the host and judges nothing; [`examine`] judges and looks at nothing.

mod examine;
mod gather;
mod trust;

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use upright_manifests::name::Slot;
use upright_manifests::version::Version;

use crate::agent::EntryState;
use crate::boot::{Concern, Trust};
use crate::host::Booted;
use crate::machine::Brought;

pub use examine::examine;
pub use gather::gather;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Fine,
    /// It works, and could be safer.
    Weak,
    /// Updates do not work, or would not be safe.
    Wrong,
}

/// What was found out about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub subject: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found, in one line.
    pub says: String,
    /// The way to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// What a host shows. An error is what whoever uses the thing would be told.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Where the configuration is, or what is wrong with it.
    pub configuration: Result<String, String>,
    /// What needs the configuration to be looked at, or why it cannot be.
    pub host: Result<HostFacts, String>,
}

/// What is looked at with the help of the configuration.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// What runs.
    pub booted: Result<Booted, String>,
    /// The sizes of both partitions of each slot, by their labels.
    pub partitions: Vec<(String, Result<u64, String>)>,
    /// What is in the way of writing the slot that does not run, a line for each partition.
    pub read_only: Vec<String>,
    /// The boot loader.
    pub boot: BootFacts,
    /// The agent's record: until when each role's metadata is good, or what is wrong with it.
    pub record: Result<RecordFacts, String>,
    /// Whether the root that came with the image can be used.
    pub root: Result<(), String>,
    /// Whether the trusted metadata can.
    pub trust: Result<(), String>,
    /// What the root of trust vouches for of what is stored.
    pub vouched: Vouched,
    /// Free bytes where the agent keeps its state.
    pub state_room: Result<u64, String>,
    /// Whether anything can be written there.
    pub state_writable: Result<(), String>,
    /// Whether this boot keeps its state in memory, since it could not use the disk's.
    pub state_in_memory: bool,
    /// The paths below `/etc` that have not followed from the other slot.
    pub owed: Result<Vec<String>, String>,
    /// What stands in the place of a file of the agent's.
    pub odd: Vec<String>,
    /// Why the last boot could not carry out the reset that an operator asked for, if one is pending, or what is wrong with that.
    pub reset: Result<Option<String>, String>,
    /// How long ago what is on a medium may have expired.
    pub grace: Duration,
    /// The hardware watchdog; `None` where there is no hardware.
    pub watchdog: Option<Watchdog>,
    /// What the clock says.
    pub now: Timestamp,
    /// When the image that runs was built.
    pub image_time: Option<Timestamp>,
}

/// What a root of trust vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vouched {
    /// Its keys have signed what is stored.
    Signed,
    /// Nothing is stored.
    Nothing,
    /// Others have signed what is stored.
    NotSigned,
    /// The image's root is another publisher's than the one that is stored.
    OtherRoot,
}

/// What there is to know of a boot loader.
#[derive(Debug, Clone)]
pub struct BootFacts {
    /// The back end.
    pub name: &'static str,
    /// What it records about what runs.
    pub entry: Result<Option<Trust>, String>,
    /// The slot that it says it has started.
    pub started: Result<Option<Slot>, String>,
    /// What is weaker than it could be.
    pub concerns: Result<Vec<Concern>, String>,
    /// The bytes that the UKI of what runs has, and those there are for the next one.
    pub room: Result<(Option<u64>, u64), String>,
    /// Whether anything can be written on the ESP.
    pub writable: Result<(), String>,
    /// Whether what checks a FAT before it is mounted is there.
    pub fsck: bool,
    /// The entries of the releases that are to be started, what runs and the way back.
    pub entries: Vec<EntryFacts>,
}

/// What there is to know of a boot entry.
#[derive(Debug, Clone)]
pub struct EntryFacts {
    /// The release's slot.
    pub slot: Slot,
    /// The release.
    pub version: Version,
    /// What the entry was found to be.
    pub state: EntryState,
    /// Whether the release runs.
    pub runs: bool,
    /// Whether `upright repair` composes it again.
    pub mendable: bool,
}

/// What the agent's record says.
#[derive(Debug, Clone, Default)]
pub struct RecordFacts {
    /// When the server was last reached, or a medium taken that had not expired.
    pub last_contact: Option<Timestamp>,
    /// The medium that the metadata came on, if it was not the server that sent it.
    pub medium: Option<Brought>,
    /// Until when each role's metadata is good.
    pub good_until: Vec<(String, Timestamp)>,
    /// Whether a trial or a rollback is under way, when boot entries are not at rest.
    pub at_rest: bool,
}

/// A hardware watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watchdog {
    /// There is none.
    Missing,
    /// Nobody has switched it on.
    Idle,
    /// It restarts the machine after that time without a sign of life.
    Active(Duration),
}
