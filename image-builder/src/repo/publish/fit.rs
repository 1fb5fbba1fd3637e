//! Whether a release fits the smallest partitions that hosts have.

use upright_manifests::channel::Channel;

use super::plan::Facts;
use crate::disk;
use crate::repo::build::Build;
use crate::repo::error::{Error, Result, chain};

/// Refuses a release that some host has no room for.
pub(super) fn check(facts: Facts<'_>, build: &Build, current: Option<&Channel>) -> Result<()> {
    // While a host updates, the UKI it runs lies beside the new one.
    let before = current.into_iter().flat_map(|c| std::iter::once(&c.version).chain(&c.history));
    let before = before.filter_map(|v| facts.releases.iter().find(|r| r.release.version == *v));
    let uki = before.map(|listed| listed.release.uki.size).chain([build.uki.size]).max().unwrap_or(0);
    let sizes = facts.config.disk.sizes();
    disk::check_fit(&sizes, build.root.size, build.root.verity.hash_size, uki).map_err(|error| {
        Error::refused(format!(
            "{} does not fit the smallest hosts of {}: {}; but set no more than every host has",
            build.version,
            build.os,
            chain(&error)
        ))
    })
}
