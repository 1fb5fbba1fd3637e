//! Whether a release can be begun with, before the slot that it goes to is given up.

use upright_manifests::digest::Digest;
use upright_manifests::release::{Release, RootImage};
use upright_manifests::{delta, payload};

use super::error::{ApplyError, WayError};
use super::ways::{Allowance, Way, WayPlan, ways};
use crate::fetch::{FetchError, Fetcher};

/// Fetches the head of the UKI and of the first way that can be had; the update finds them there. What comes after the heads may be
/// damaged all the same, and of a server also missing: of a copy, all that is needed is there as long as it was signed.
pub fn foresee(
    fetcher: &Fetcher<'_>,
    release: &Release,
    base_hash: &Digest,
    allowance: Allowance<'_>,
) -> Result<(), ApplyError> {
    let version = release.version.clone();
    let mut failed = Vec::new();
    for (way, _) in ways(release, base_hash, allowance).ways {
        let head = || match &way {
            Way::Delta(edge) => fetcher.foresee(&edge.delta, delta::MAX_HEAD_BYTES),
            Way::Chunks | Way::Full => fetcher.foresee(&release.root.full, payload::MAX_HEAD_BYTES),
        };
        let result = require_whole(fetcher, release, &way).and_then(|()| head().map_err(WayError::from));
        let Err(error) = result else {
            return foresee_uki(fetcher, release)
                .map_err(|source| ApplyError::Compose { version, source: source.into() });
        };
        let ended = error.concerns_all_ways();
        failed.push((way.name().to_owned(), error));
        if ended {
            break;
        }
    }
    Err(ApplyError::NoWay { version, ways: failed })
}

/// The plan without the ways that need what is missing of a copy of the repository; fails where none is left.
pub fn at_hand(fetcher: &Fetcher<'_>, release: &Release, mut plan: WayPlan) -> Result<WayPlan, ApplyError> {
    let (mut failed, mut left) = (Vec::new(), Vec::new());
    for (way, bytes) in plan.ways {
        match require_whole(fetcher, release, &way) {
            Ok(()) => left.push((way, bytes)),
            Err(error) => failed.push((way.name().to_owned(), error)),
        }
    }
    let version = release.version.clone();
    if left.is_empty() {
        return Err(ApplyError::NoWay { version, ways: failed });
    }
    require_uki(fetcher, release).map_err(|source| ApplyError::Compose { version, source: source.into() })?;
    plan.without.extend(failed.into_iter().map(|(way, error)| (way, error.to_string())));
    Ok(WayPlan { ways: left, ..plan })
}

fn require_uki(fetcher: &Fetcher<'_>, release: &Release) -> Result<(), FetchError> {
    let compose = &release.uki.compose;
    fetcher.require_length(compose.path.as_str(), compose.size)
}

fn foresee_uki(fetcher: &Fetcher<'_>, release: &Release) -> Result<(), FetchError> {
    require_uki(fetcher, release)?;
    fetcher.foresee(&release.uki.compose, delta::MAX_HEAD_BYTES)
}

/// Fails where a file that a way needs is seen to be none, or to be cut off, without reading it.
pub(super) fn require_whole(fetcher: &Fetcher<'_>, release: &Release, way: &Way) -> Result<(), WayError> {
    let RootImage { full, chunks, .. } = &release.root;
    let full = (&full.path, full.size);
    let needed = match way {
        Way::Delta(edge) => vec![(&edge.delta.path, edge.delta.size)],
        Way::Chunks => vec![(&chunks.path, chunks.size), full],
        Way::Full => vec![full],
    };
    for (path, size) in needed {
        fetcher.require_length(path.as_str(), size)?;
    }
    Ok(())
}
