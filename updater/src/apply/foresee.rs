//! Whether a release can be begun with, before the slot that it goes to is given up.

use upright_manifests::digest::Digest;
use upright_manifests::release::Release;
use upright_manifests::{delta, payload};

use super::error::{ApplyError, WayError};
use super::ways::{Allowance, Way, ways};
use crate::fetch::Fetcher;

/// Fetches the head of the UKI and of the first way that can be had; the update finds them there. What comes after the heads may be
/// damaged or missing all the same.
pub fn foresee(
    fetcher: &Fetcher<'_>,
    release: &Release,
    base_hash: &Digest,
    allowance: Allowance<'_>,
) -> Result<(), ApplyError> {
    let version = release.version.clone();
    let mut failed = Vec::new();
    for (way, _) in ways(release, base_hash, allowance).ways {
        let result = match &way {
            Way::Delta(edge) => fetcher.foresee(&edge.delta, delta::MAX_HEAD_BYTES),
            Way::Chunks | Way::Full => fetcher.foresee(&release.root.full, payload::MAX_HEAD_BYTES),
        };
        let Err(error) = result.map_err(WayError::from) else {
            let uki = fetcher.foresee(&release.uki.compose, delta::MAX_HEAD_BYTES);
            return uki.map_err(|source| ApplyError::Compose { version, source: source.into() });
        };
        let ended = error.concerns_all_ways();
        failed.push((way.name().to_owned(), error));
        if ended {
            break;
        }
    }
    Err(ApplyError::NoWay { version, ways: failed })
}
