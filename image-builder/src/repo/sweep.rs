//! Removes what no host will ask for again: objects of releases that are no longer offered, superseded metadata.
//!
//! Only what is older than a grace period goes, so that a host that has just read the last timestamp finds what it leads to.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use upright_manifests::release::Release;
use upright_manifests::tuf::{RoleStatus, names};

use super::error::{Error, Result};
use super::files::Files;
use super::published::Published;

/// How long a file is kept after it was written, at least.
const GRACE: SignedDuration = SignedDuration::from_hours(24);

/// Sweeps `repository`, which offers what `published` says. A file that cannot be judged stays.
pub(super) fn sweep(
    repository: &Path,
    published: &Published,
    files: &dyn Files,
    now: Timestamp,
) -> Result<()> {
    let needed = needed(published);
    // What cannot be read may need anything.
    let judged = published.damage.is_empty();
    for folder in ["payloads", "deltas"].into_iter().filter(|_| judged) {
        let stale = |name: &str| !needed.contains(&format!("{folder}/{name}"));
        remove(&repository.join(folder), files, now, &stale)?;
    }
    for RoleStatus { role, version, .. } in published.metadata.status() {
        if matches!(role.as_str(), "root" | "timestamp") {
            continue;
        }
        let suffix = format!(".{}", names::stored_name(&role));
        let stale = |name: &str| {
            let number = name.strip_suffix(&suffix).and_then(|number| number.parse::<u64>().ok());
            number.is_some_and(|number| number < version)
        };
        remove(&repository.join("metadata"), files, now, &stale)?;
    }
    Ok(())
}

/// The paths of all objects that releases name, of whatever OS they are.
fn needed(published: &Published) -> BTreeSet<String> {
    let of = |release: &Release| {
        let mut paths = vec![
            release.root.full.path.to_string(),
            release.root.chunks.path.to_string(),
            release.uki.compose.path.to_string(),
        ];
        paths.extend(release.deltas.iter().map(|edge| edge.delta.path.to_string()));
        paths
    };
    published.releases.iter().chain(&published.others).flat_map(|listed| of(&listed.release)).collect()
}

fn remove(folder: &Path, files: &dyn Files, now: Timestamp, stale: &dyn Fn(&str) -> bool) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::file("read", folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::file("read", folder))?;
        let written =
            entry.metadata().and_then(|facts| facts.modified()).map_err(Error::file("read", folder))?;
        let old = Timestamp::try_from(written).is_ok_and(|written| now.duration_since(written) > GRACE);
        // Names that are not text are not ours.
        if let (true, Some(name)) = (old, entry.file_name().to_str()) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    for name in names.iter().filter(|name| stale(name)) {
        let path = folder.join(name);
        files.remove(&path).map_err(Error::file("remove", &path))?;
    }
    Ok(())
}
