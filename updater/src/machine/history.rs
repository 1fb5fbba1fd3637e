//! What happened on this host, for `upright history` and `upright why`.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use upright_manifests::bytes::human;
use upright_manifests::name::Slot;
use upright_manifests::version::Version;

use super::event::{HealthReport, WayTaken};
use super::record::{Cause, Record};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When.
    pub time: Timestamp,
    /// The release it happened to.
    pub version: Version,
    /// What.
    pub outcome: Outcome,
}

/// What happened to a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Outcome {
    /// It was written to the inactive slot and read back.
    Applied {
        /// How it came.
        way: WayTaken,
    },
    /// It could not be applied; the slot that runs was not touched.
    NotApplied {
        /// Why, in one line.
        reason: String,
    },
    /// It proved healthy and is what this host runs from now on.
    Proven {
        /// How many boots the trial took.
        boots: u32,
        /// What the health checks said.
        report: HealthReport,
    },
    /// It was left for the other slot's release.
    RolledBack {
        /// Why.
        cause: Cause,
        /// What the health checks said, if they were the cause.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        report: Option<HealthReport>,
        /// How many boots the trial had; none if it was already proven.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        boots: Option<u32>,
    },
    /// It was left for the other slot's release, which then did not start.
    Stuck {
        /// Why it was left.
        cause: Cause,
    },
    /// It did not prove healthy, and there is nothing to go back to.
    Unhealthy {
        /// What the health checks said.
        report: HealthReport,
    },
    /// It was switched to again at an operator's word; its slot held it already.
    SwitchedBack,
    /// Its slot was damaged, and mended block by block.
    Repaired {
        /// What was done.
        repair: Repair,
    },
    /// What a newer agent wrote, before it was rolled back.
    #[serde(other)]
    Unknown,
}

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// The slot.
    pub slot: Slot,
    /// Blocks of the image that were written.
    pub blocks: u64,
    /// How many of them were somewhere else on this host.
    pub here: u64,
    /// Blocks of the hash tree that were written, its superblock included.
    pub tree: u64,
    /// Whether the boot entry was composed again.
    #[serde(default)]
    pub entry: bool,
    /// Bytes that were fetched.
    pub fetched: u64,
    /// The medium that they came from, if it was not the server that sent them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<String>,
}

impl Repair {
    /// Nothing was done to a slot.
    pub fn nothing(slot: Slot) -> Self {
        Self { slot, blocks: 0, here: 0, tree: 0, entry: false, fetched: 0, medium: None }
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slot, blocks, here, tree, entry, fetched, medium } = self;
        let entry = if *entry { ", and its boot entry," } else { "" };
        write!(
            f,
            "slot {slot} was damaged: {blocks} blocks of its image ({here} of them found on this host) and {tree} of its hash tree\
             {entry} were written anew, {} fetched",
            human(*fetched)
        )?;
        medium.as_ref().map_or(Ok(()), |medium| write!(f, " from {medium}"))
    }
}

impl HistoryEntry {
    /// How many entries are kept.
    pub const MOST: usize = 100;
}

impl Record {
    /// Adds an entry and drops the oldest ones above the limit.
    pub(crate) fn remember(&mut self, time: Timestamp, version: &Version, outcome: Outcome) {
        self.history.push(HistoryEntry { time, version: version.clone(), outcome });
        let excess = self.history.len().saturating_sub(HistoryEntry::MOST);
        self.history.drain(..excess);
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied { way } if way.way == WayTaken::PRESENT => {
                write!(f, "its slot held it already; nothing was fetched or written")
            }
            Self::Applied { way } => {
                write!(
                    f,
                    "applied by {} ({} fetched, {} ms)",
                    way.way,
                    human(way.fetched),
                    way.milliseconds
                )?;
                way.medium.as_ref().map_or(Ok(()), |medium| write!(f, " from {medium}"))
            }
            Self::NotApplied { reason } => write!(f, "not applied: {reason}"),
            Self::Proven { boots: 1, .. } => write!(f, "proven healthy on its first boot"),
            Self::Proven { boots, .. } => write!(f, "proven healthy after {boots} boots"),
            Self::RolledBack { cause, .. } => write!(f, "rolled back: {cause}"),
            Self::Stuck { cause } => {
                write!(f, "still running although it was left ({cause}): the other slot does not start")
            }
            Self::Unhealthy { report } => match report.culprit() {
                Some(check) => write!(
                    f,
                    "health check {:?} failed ({}), but no other slot holds a release to go back to",
                    check.name, check.message
                ),
                None => write!(f, "not healthy, but no other slot holds a release to go back to"),
            },
            Self::SwitchedBack => write!(f, "switched to again by an operator"),
            Self::Repaired { repair } => write!(f, "{repair}"),
            Self::Unknown => write!(f, "what this version of upright has no word for"),
        }
    }
}
