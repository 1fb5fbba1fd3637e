//! Signs metadata anew before it expires.

use std::path::Path;

use upright_manifests::tuf::RoleStatus;

use super::ceremony::{self, Staged};
use super::error::{Error, Result};
use super::publish::Bench;
use super::published::Published;
use super::{clock, expiry};

/// Signs the snapshot and the timestamp anew, and the documents of `roles`; the state after. With a folder to stage in,
/// documents whose keys are elsewhere are left there to be signed, and nothing changes before they are.
///
/// Roles that were not asked for may have expired, or be about to: the first is for the caller to find in the state
/// ([`expiry::require_good`](super::expiry::require_good)), since what could be signed is published all the same.
pub fn refresh(
    bench: &Bench<'_>,
    roles: &[&str],
    stage: Option<&Path>,
) -> Result<(Vec<RoleStatus>, Vec<Staged>)> {
    let failed = |error: super::metadata::MetadataError| Error::Failed(error.to_string());
    let mut published = Published::read(bench.workspace)?;
    clock::check(bench, &published.metadata)?;
    let mut needed = vec!["snapshot", "timestamp"];
    if stage.is_none() {
        needed.extend(roles);
    }
    bench.signers.require(&bench.workspace.config, &published.metadata, &needed)?;
    for role in roles.iter().chain(&["snapshot"]) {
        published.metadata.renew(role).map_err(failed)?;
    }
    let staged = ceremony::publish(bench, &mut published, &[], stage)?;
    let status = published.metadata.status();
    expiry::warnings(&status, bench.now).for_each(|line| bench.progress.note(&line));
    Ok((status, staged))
}
