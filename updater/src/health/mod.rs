//! Health checks of a trial boot.
//!
//! A release is healthy when every required check has passed once (within its retries) and all of them keep
//! passing for the settling time. What a check looks at is behind [`Prober`]; when it is looked at, and what
//! that means, is decided here.

mod gather;
mod probe;
mod trial;

pub use gather::gather;
pub use probe::SystemProber;
pub use trial::examine;

use std::time::Duration;

use crate::config::Probe;

/// Looks at the system once.
pub trait Prober {
    /// Looks at `probe` for at most `timeout`.
    fn probe(&self, probe: &Probe, timeout: Duration) -> Probed;

    /// The names of the units that have failed.
    fn failed_units(&self, timeout: Duration) -> Result<Vec<String>, String>;
}

/// What a look at the system gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Probed {
    /// Whether it is as it should be.
    pub passed: bool,
    /// What it is, in one line.
    pub message: String,
    /// The end of what the probe printed, at most [`MAX_OUTPUT`] bytes.
    pub output: String,
    /// How often the unit was restarted, for units.
    pub restarts: Option<u64>,
}

/// How many bytes of a check's output are kept.
pub const MAX_OUTPUT: usize = 2 * crate::program::MAX_OUTPUT;
