//! What a story ends with: a table, and the same as JSON.

use std::fmt;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::Value;

/// How one release came to run, or not to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The release.
    pub release: String,
    /// How it came: `disk image`, `delta`, `chunks`, `full`, or `in its slot` where nothing was fetched.
    pub way: String,
    /// Bytes fetched for it.
    pub bytes: u64,
    /// Milliseconds from the first byte to the end of the read-back.
    pub milliseconds: u64,
    /// Boots until the verdict.
    pub boots: u64,
    /// What became of it.
    pub verdict: String,
}

/// A whole story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// What it was told on: `qemu with kvm`, `qemu with tcg`, `simulated host`.
    pub host: String,
    /// Seconds it took, without what was built before.
    pub seconds: u64,
    /// How many bytes the full image of the last release would have been to fetch.
    pub full_bytes: u64,
    /// The releases in the order of the story.
    pub rows: Vec<Row>,
}

impl Row {
    /// A release that was in its slot already, and runs again after one boot.
    pub(super) fn in_its_slot(release: &str, verdict: &str) -> Self {
        let way = "in its slot".to_owned();
        Self {
            release: release.to_owned(),
            way,
            bytes: 0,
            milliseconds: 0,
            boots: 1,
            verdict: verdict.to_owned(),
        }
    }

    /// A release that was fetched, from the agent's history: how it was applied the last time.
    pub(super) fn fetched(history: &Value, release: &str, boots: u64, verdict: String) -> Result<Self> {
        let entries = history.as_array().context("the history is no list")?;
        let is_it = |entry: &&Value| entry["version"] == release && entry["outcome"]["event"] == "applied";
        let applied =
            entries.iter().rfind(is_it).with_context(|| format!("{release} was never applied: {history}"))?;
        let way = &applied["outcome"]["way"];
        let number = |key: &str| way[key].as_u64().with_context(|| format!("no {key} in {applied}"));
        let name = way["way"].as_str().with_context(|| format!("no way in {applied}"))?.to_owned();
        let (bytes, milliseconds) = (number("fetched")?, number("milliseconds")?);
        Ok(Self { release: release.to_owned(), way: name, bytes, milliseconds, boots, verdict })
    }

    /// Requires that the release came by a delta worth the name: less than a tenth of the full image.
    pub(super) fn require_small_delta(self, full_bytes: u64) -> Result<Self> {
        ensure!(self.way == "delta", "{} came by {}, not by its delta", self.release, self.way);
        let bytes = self.bytes;
        ensure!(
            bytes < full_bytes / 10,
            "{bytes} bytes for {} where the full image is {full_bytes}",
            self.release
        );
        Ok(self)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:8} {:12} {:>14} {:>9} {:>6}  verdict",
            "release", "way", "bytes fetched", "seconds", "boots"
        )?;
        for row in &self.rows {
            let Row { release, way, bytes, milliseconds, boots, verdict } = row;
            let seconds = format!("{}.{}", milliseconds / 1000, milliseconds % 1000 / 100);
            writeln!(f, "{release:8} {way:12} {bytes:>14} {seconds:>9} {boots:>6}  {verdict}")?;
        }
        write!(f, "{}, {} s; the full image is {} bytes to fetch", self.host, self.seconds, self.full_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn applied(way: &str, fetched: u64) -> Value {
        let way = json!({ "way": way, "fetched": fetched, "milliseconds": 1234 });
        json!([{ "version": "1.1.0", "outcome": { "event": "applied", "way": way } }])
    }

    #[test]
    fn the_last_time_a_release_was_applied_counts() {
        let row = Row::fetched(&applied("delta", 7), "1.1.0", 1, "healthy".to_owned()).unwrap();
        assert_eq!((row.way.as_str(), row.bytes, row.milliseconds), ("delta", 7, 1234));
        assert!(Row::fetched(&applied("delta", 7), "1.2.0", 1, String::new()).is_err());
    }

    #[test]
    fn a_detour_is_not_taken_for_a_delta() {
        let row = |way, fetched| Row::fetched(&applied(way, fetched), "1.1.0", 1, String::new()).unwrap();
        assert!(row("delta", 99).require_small_delta(1000).is_ok());
        assert!(row("delta", 100).require_small_delta(1000).is_err());
        assert!(row("full", 1).require_small_delta(1000).is_err());
    }
}
