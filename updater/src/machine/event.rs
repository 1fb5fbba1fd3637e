//! What can happen to the agent.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use upright_manifests::digest::Digest;
use upright_manifests::name::Slot;
use upright_manifests::version::Version;

use super::evidence::Evidence;
use super::record::{Installed, Progress, Target};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The agent started and looked at the machine.
    Started(Observation),
    /// Policy or an operator chose a release. `retry` forgets that it was rolled back here.
    Chosen {
        /// The release.
        target: Target,
        /// Whether an operator wants it in spite of a rollback.
        retry: bool,
    },
    /// The release fits this host; the inactive slot is about to be erased.
    Accepted {
        /// The slot to write.
        slot: Slot,
    },
    /// The slot's boot entry is gone, and what it holds is no release any more.
    Emptied,
    /// More of the slot is on stable storage.
    Progressed(Progress),
    /// The slot holds the release, read back and compared.
    Applied(WayTaken),
    /// The release could not be fetched or applied. `kept` says whether trying again can go on where it stopped.
    Failed {
        /// Why, in one line.
        reason: String,
        /// Whether the state is kept for another try.
        kept: bool,
    },
    /// The boot loader takes the release at the next boot.
    Switched {
        /// The boot that switched.
        boot_id: String,
    },
    /// The boot loader is to be told that the next boot does not take the release after all.
    TakenBack,
    /// The health checks of a trial ended.
    Checked(HealthReport),
    /// The boot loader knows that the release is good.
    Committed,
    /// The slot that is not running does not hold its release any more.
    Lost {
        /// The slot.
        slot: Slot,
        /// Why, in one line.
        reason: String,
    },
    /// An operator wants the other slot's release.
    RollbackAsked(Observation),
}

/// What the agent saw when it started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The slot that runs.
    pub slot: Slot,
    /// The version that runs.
    pub version: Version,
    /// The root hash of the image that runs.
    pub root_hash: Digest,
    /// This boot.
    pub boot_id: String,
    /// Whether the boot loader counts this boot as one on trial.
    pub on_trial: bool,
    /// Whether the boot loader would pass over what runs: it was told to, or this is the last try.
    pub passed_over: bool,
    /// Whether the boot loader does not see the entry of what runs any more, so that nothing can be told it about that.
    pub unseen: bool,
    /// Whether the boot loader would still try the release that the state is about, if that is not the one that runs.
    pub still_tried: bool,
    /// Whether the boot loader has nothing any more to start the release with that the other slot holds.
    pub other_gone: bool,
    /// Why the last boot of the other slot was stopped before anything of it ran, if it was.
    pub stopped: Option<String>,
    /// What boot loader and partitions say of the other slot; looked at only where the record says nothing of any slot.
    pub beside: Option<Beside>,
    /// What the boots of a trial left behind, if another release runs by now.
    pub evidence: Evidence,
}

/// A release in the other slot that no record tells of, as after a lost state disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// The release; proven if its boots are not counted.
    pub release: Installed,
    /// Whether the boot loader would try it.
    pub tried: bool,
}

/// How a release came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayTaken {
    /// `delta`, `chunks`, `full`, or `present` if the slot held it already.
    pub way: String,
    /// Bytes fetched for payloads.
    pub fetched: u64,
    /// Bytes written to the slot.
    pub written: u64,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
    /// The medium it came on, and that its metadata had expired if it had; none if it came from the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<String>,
}

impl WayTaken {
    /// What it is called when the slot held the release already.
    pub const PRESENT: &str = "present";

    /// Nothing had to be done.
    pub fn present() -> Self {
        Self { way: Self::PRESENT.to_owned(), fetched: 0, written: 0, milliseconds: 0, medium: None }
    }
}

/// What the health checks of a trial said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// When they ended.
    pub time: Timestamp,
    /// The verdict.
    pub verdict: Verdict,
    /// Each check's result.
    pub checks: Vec<CheckResult>,
}

/// The verdict of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All required checks hold.
    Healthy,
    /// At least one does not.
    Unhealthy,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// The check's name.
    pub name: String,
    /// Whether the system is unhealthy without it.
    pub required: bool,
    /// Whether it held.
    pub passed: bool,
    /// What it said, in one line.
    pub message: String,
    /// The end of its output.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// How many tries it took.
    pub tries: u32,
}

impl HealthReport {
    /// The first required check that failed.
    pub fn culprit(&self) -> Option<&CheckResult> {
        self.checks.iter().find(|check| check.required && !check.passed)
    }

    /// Adds a required check of the agent's own that does not hold.
    pub fn add_failure(&mut self, name: &str, message: &str) {
        self.verdict = Verdict::Unhealthy;
        let (name, message) = (name.to_owned(), message.to_owned());
        let failed =
            CheckResult { name, required: true, passed: false, message, output: String::new(), tries: 1 };
        // Before what may have come of it.
        self.checks.insert(0, failed);
    }
}
