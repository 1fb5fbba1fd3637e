//! What the agent keeps on disk.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use upright_manifests::digest::Digest;
use upright_manifests::name::{ChannelName, Slot};
use upright_manifests::tuf::Seen;
use upright_manifests::version::Version;

use super::event::HealthReport;
use super::evidence::Evidence;
use super::history::HistoryEntry;
use crate::policy::Decision;

/// Everything the agent remembers.
///
/// A rollback of the system is one of the agent, too: what a newer one wrote must be read by an older one. Fields, outcomes
/// and causes may therefore be added, and are passed over by those who do not know them; a new state, or another
/// meaning, needs a new number of the format.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Record {
    /// What it is in the middle of.
    pub state: State,
    /// What each slot holds, as far as this agent put or found it there whole.
    pub slots: BTreeMap<Slot, Installed>,
    /// Releases that were rolled back here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bad: Vec<BadRelease>,
    /// The channel an operator chose; none means the config's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelName>,
    /// The last decision about the channel's release, and when it was made.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_known")]
    pub decided: Option<(Timestamp, Decision)>,
    /// Why the last attempt to check or to update failed, and when; none after a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<(Timestamp, String)>,
    /// When the update server last answered with trusted metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact: Option<Timestamp>,
    /// Until when the metadata of that answer is good, by role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good_until: Option<BTreeMap<String, Timestamp>>,
    /// The medium that this metadata came on, if it was not the server that sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<Brought>,
    /// The versions of the metadata that were seen, so that what is damaged of it can be fetched anew without going back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
    /// Proven releases that cannot be booted any more, by slot: `upright repair` brings them back, and an update writes over them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lost: BTreeMap<Slot, Installed>,
    /// What happened, oldest first, at most [`HistoryEntry::MOST`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryEntry>,
}

/// Metadata that was brought on a medium.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brought {
    /// Where the medium was.
    pub from: String,
    /// When it was taken from there.
    pub time: Timestamp,
    /// When the first of it had expired, if it was taken all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired: Option<Timestamp>,
}

impl fmt::Display for Brought {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.expired {
            None => write!(f, "{}", self.from),
            Some(expired) => write!(f, "{}, which had expired on {expired:.0}", self.from),
        }
    }
}

/// A decision that only a newer agent knows is none.
fn if_known<'de, D: Deserializer<'de>>(from: D) -> Result<Option<(Timestamp, Decision)>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(value).ok())
}

/// A release that is being installed or tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its version.
    pub version: Version,
    /// Its image's dm-verity root hash: what identifies it.
    pub root_hash: Digest,
    /// The SHA-256 of its manifest; none for a release this agent did not install itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// The SHA-256 of its UKI; none for a release this agent did not install itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uki: Option<Digest>,
}

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The release's version.
    pub version: Version,
    /// Its image's dm-verity root hash.
    pub root_hash: Digest,
    /// The SHA-256 of its manifest; none for what the host was first installed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// The SHA-256 of its UKI, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uki: Option<Digest>,
    /// Whether it has been proven healthy on this host.
    pub proven: bool,
    /// How often in a row it was switched to and not started, proved healthy and the boot loader could not be told, or was to be left and
    /// was started again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub in_vain: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A release that must not be tried again on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRelease {
    /// Its version, for people.
    pub version: Version,
    /// Its image's dm-verity root hash.
    pub root_hash: Digest,
    /// When it was rolled back.
    pub time: Timestamp,
    /// Why.
    pub reason: Cause,
}

/// Why a release was left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum Cause {
    /// A health check failed.
    Health {
        /// The name of the check.
        check: String,
        /// What it said, in one line.
        message: String,
    },
    /// None of its trial boots reached the agent, or none finished.
    TrialsUsedUp {
        /// What they left behind.
        #[serde(default)]
        evidence: Evidence,
    },
    /// What it was to boot with could not be made ready, so nothing of it ran.
    State {
        /// Why, in one line.
        reason: String,
    },
    /// The boot loader did not start it, or could not be told that it is proven, time after time.
    BootLoader {
        /// What happened, in one line.
        reason: String,
    },
    /// An operator rolled it back.
    Operator,
    /// What a newer agent wrote, before it was rolled back.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Health { check, message } => write!(f, "health check {check:?} failed: {message}"),
            Self::TrialsUsedUp { evidence } => {
                write!(f, "its trial boots were used up before it proved healthy: {evidence}")
            }
            Self::State { reason } => write!(f, "it was not started, for the sake of its data: {reason}"),
            Self::BootLoader { reason } => write!(f, "the boot loader does not do as it is told: {reason}"),
            Self::Operator => write!(f, "an operator rolled it back"),
            Self::Unknown => write!(f, "for a reason this version of upright has no word for"),
        }
    }
}

/// How far the writing of a slot got, durably.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// The way in use, by its name; empty before the first.
    pub way: String,
    /// How many bytes of the root image, from its start, are on stable storage.
    pub durable: u64,
    /// With a delta, which makes its target in any order: its SHA-256, and how many of its segments are on stable storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<(Digest, u64)>,
    /// Bytes fetched so far, over all tries.
    pub fetched: u64,
    /// Bytes written so far, over all tries.
    pub written: u64,
}

/// What the agent is in the middle of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// Nothing.
    #[default]
    Idle,
    /// A release was chosen; its manifest is being fetched and checked against the host. No slot has been touched.
    Fetching {
        /// The release.
        target: Target,
        /// When it was chosen.
        since: Timestamp,
    },
    /// The slot's boot entry is gone and its content is being replaced.
    Applying {
        /// The release.
        target: Target,
        /// The slot it goes to.
        slot: Slot,
        /// When it was chosen.
        since: Timestamp,
        /// How far it got.
        progress: Progress,
    },
    /// The slot holds the release, read back and compared; the boot loader does not know of it yet.
    Applied {
        /// The release.
        target: Target,
        /// The slot it is in.
        slot: Slot,
    },
    /// The next boot takes the release.
    Switched {
        /// The release.
        target: Target,
        /// The slot it is in.
        slot: Slot,
        /// The boot that switched; any other is a trial boot or a fall-back.
        boot_id: String,
    },
    /// The release runs and has to prove itself.
    Trial {
        /// The release.
        target: Target,
        /// The slot it is in, which is the booted one.
        slot: Slot,
        /// How many boots the trial has had, this one included.
        boots: u32,
        /// This boot.
        boot_id: String,
    },
    /// The release proved healthy, or there is no way back from it; the boot loader is being told that its boots count no more.
    Committing {
        /// The release.
        target: Target,
        /// The slot it is in, which is the booted one.
        slot: Slot,
        /// Whether it proved healthy, for which it is proven once the boot loader knows.
        #[serde(default)]
        healthy: bool,
    },
    /// The other slot's release is being returned to.
    RollingBack {
        /// The release that is left.
        from: Target,
        /// The slot it is in.
        slot: Slot,
        /// Why.
        cause: Cause,
        /// The report of the health checks, if they were the cause.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        report: Option<HealthReport>,
        /// How many boots its trial had, if it was on trial.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        boots: Option<u32>,
        /// The boot that decided; another boot that runs the same release means that the other slot does not start.
        boot_id: String,
    },
}

impl Record {
    /// Why a release was left by this host, unless it was by an operator, who may want to go back to it.
    pub fn found_bad(&self, root_hash: &Digest) -> Option<&Cause> {
        let bad = self.bad.iter().find(|bad| bad.root_hash == *root_hash)?;
        (bad.reason != Cause::Operator).then_some(&bad.reason)
    }

    /// Whether a slot holds a release that has proven healthy on this host.
    pub fn is_proven(&self, slot: Slot) -> bool {
        self.slots.get(&slot).is_some_and(|installed| installed.proven)
    }
}

impl Progress {
    /// Where another run would go on.
    pub fn place(&self) -> (u64, Option<(Digest, u64)>) {
        (self.durable, self.segments)
    }
}

impl Installed {
    /// What a slot holds once `target` has been written to it.
    pub fn unproven(target: &Target) -> Self {
        let Target { version, root_hash, manifest, uki } = target.clone();
        Self { version, root_hash, manifest, uki, proven: false, in_vain: 0 }
    }

    /// The release as a target.
    pub fn target(&self) -> Target {
        let Self { version, root_hash, manifest, uki, .. } = self.clone();
        Target { version, root_hash, manifest, uki }
    }
}

impl State {
    /// The release that the state is about.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::Idle => None,
            Self::Fetching { target, .. }
            | Self::Applying { target, .. }
            | Self::Applied { target, .. }
            | Self::Switched { target, .. }
            | Self::Trial { target, .. }
            | Self::Committing { target, .. }
            | Self::RollingBack { from: target, .. } => Some(target),
        }
    }

    /// The state's name, as in the persisted record.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Fetching { .. } => "fetching",
            Self::Applying { .. } => "applying",
            Self::Applied { .. } => "applied",
            Self::Switched { .. } => "switched",
            Self::Trial { .. } => "trial",
            Self::Committing { .. } => "committing",
            Self::RollingBack { .. } => "rolling-back",
        }
    }
}
