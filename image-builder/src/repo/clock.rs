//! Whether this machine's clock can be right. What is signed with one that is behind has expired for every host.

use std::fs;

use jiff::{SignedDuration, Timestamp};
use upright_manifests::version::Version;

use super::error::{Error, Result};
use super::metadata::Metadata;
use super::publish::Bench;

/// By how much the clocks of machines that work for one publisher may differ.
const SLACK: SignedDuration = SignedDuration::from_hours(1);

/// Refuses a clock that is behind what was signed last.
pub(super) fn check(bench: &Bench<'_>, published: &Metadata) -> Result<()> {
    let Some(signed) = signed(bench, published).filter(|signed| is_behind(bench.now, *signed)) else {
        return Ok(());
    };
    Err(Error::refused(format!(
        "this machine's clock says {:.0}, and what is published was signed on {signed:.0}: what it signs would expire too \
         early, or has expired already; set the clock",
        bench.now
    )))
}

/// Refuses a release that is of a later time than the clock's: its hosts know that time to be past.
pub(super) fn check_release(now: Timestamp, version: &Version, time: Timestamp) -> Result<()> {
    match is_behind(now, time) {
        false => Ok(()),
        true => Err(Error::refused(format!(
            "{version} is of {time:.0}, and this machine's clock says {now:.0}: hosts that run it would take what is signed \
             now for expired; set the clock, or build it under a new version with an earlier --time"
        ))),
    }
}

fn is_behind(now: Timestamp, time: Timestamp) -> bool {
    time.duration_since(now) > SLACK
}

/// A time at which what is published had been signed, as far as can be told: neither before its file was written, nor its
/// lifetime before it expires. That one is too late where `days` was lowered since, and a copied file's may say anything.
fn signed(bench: &Bench<'_>, published: &Metadata) -> Option<Timestamp> {
    let path = bench.workspace.repository().join("metadata/timestamp.json");
    let written = Timestamp::try_from(fs::metadata(path).ok()?.modified().ok()?).ok()?;
    Some(published.signed()?.min(written))
}
