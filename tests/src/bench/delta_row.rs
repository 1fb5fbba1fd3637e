//! One row of `deltas.json`.

use serde::{Deserialize, Serialize};

use super::measure::Cost;
use super::pair::Pair;

/// What one method takes for one pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeltaRow {
    /// `A-B` or `A-C`.
    pub pair: String,
    /// `upright-delta`, `upright-chunks`, `upright-full`, or the name of a peer.
    pub method: String,
    /// Bytes that a host fetches.
    pub bytes: u64,
    /// Seconds of CPU time to make it.
    pub make_cpu_s: f64,
    /// Peak memory when it is made, in bytes.
    pub make_rss_bytes: u64,
    /// Seconds of CPU time to apply it.
    pub apply_cpu_s: f64,
    /// Peak memory when it is applied, in bytes.
    pub apply_rss_bytes: u64,
    /// Bytes written when it is applied.
    pub written_bytes: u64,
    /// Whether the outcome is, by its SHA-256, what it should be.
    pub verified: bool,
}

/// A row and how it came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Measured {
    /// The numbers.
    pub(super) row: DeltaRow,
    /// The command line that makes it.
    pub(super) make: String,
    /// The command line that applies it.
    pub(super) apply: String,
    /// What to know when reading the numbers.
    pub(super) note: String,
    /// Seconds of CPU time of applying it that reading the slot back takes, where that was measured.
    pub(super) reading_cpu_s: Option<f64>,
}

impl DeltaRow {
    /// A row of a pair and a method.
    pub(super) fn new(pair: Pair, method: &str, bytes: u64, make: Cost, apply: Cost, verified: bool) -> Self {
        Self {
            pair: pair.to_string(),
            method: method.to_owned(),
            bytes,
            make_cpu_s: make.cpu_s,
            make_rss_bytes: make.rss_bytes,
            apply_cpu_s: apply.cpu_s,
            apply_rss_bytes: apply.rss_bytes,
            written_bytes: apply.written_bytes,
            verified,
        }
    }

    /// Whether the method is ours.
    pub fn is_ours(&self) -> bool {
        self.method.starts_with("upright-")
    }
}
