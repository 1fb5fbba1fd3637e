//! Signs metadata anew before it expires.

use upright_manifests::tuf::RoleStatus;

use super::error::{Error, Result};
use super::files::{STAGING, replace};
use super::publish::Bench;
use super::published::Published;
use super::sweep::sweep;

/// Signs the snapshot and the timestamp anew, and the documents of `roles`; the state after.
pub fn refresh(bench: &Bench<'_>, roles: &[&'static str]) -> Result<Vec<RoleStatus>> {
    let failed = |error: super::metadata::MetadataError| Error::Failed(error.to_string());
    let mut published = Published::read(bench.workspace)?;
    let needed: Vec<&'static str> = ["snapshot", "timestamp"].iter().chain(roles).copied().collect();
    bench.signers.require(&published.metadata, &needed)?;
    for role in roles {
        published.metadata.renew(role).map_err(failed)?;
    }
    let files = published.metadata.refresh(&bench.signers.all(), bench.now).map_err(failed)?;
    let repository = bench.workspace.repository();
    let staging = repository.join(STAGING);
    for file in &files {
        replace(bench.files, &staging, &repository.join("metadata").join(&file.name), &file.bytes)?;
        if file.name.ends_with(".root.json") {
            replace(bench.files, &staging, &bench.workspace.trusted_root(), &file.bytes)?;
        }
    }
    sweep(&repository, &published, bench.files, bench.now)?;
    bench.files.remove(&staging).map_err(Error::file("remove", &staging))?;
    Ok(published.metadata.status())
}
