//! What a copy does not need any more: what neither its new state refers to nor the one before, which hosts may be in the middle of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use jiff::Timestamp;
use upright_manifests::release::Release;
use upright_manifests::tuf::{Stored, names};

use super::catalogue::Catalogue;
use super::pick::Pick;
use crate::repo::check::trust;
use crate::repo::check::{Report, Source};
use crate::repo::error::{Error, Result};
use crate::repo::files::Files;

/// The folders whose files are named by what they hold.
const FOLDERS: [&str; 5] = ["payloads", "deltas", "releases", "channels", "metadata"];

/// The paths that the state of a copy refers to, of what is picked; of all that can be read where that cannot be told.
pub(super) fn referred_to(local: &Source, stored: &Stored, pick: &Pick, now: Timestamp) -> BTreeSet<String> {
    // All of it is read anew, so that all of it is told.
    let stored = Stored { root: stored.root.clone(), files: BTreeMap::new() };
    match Catalogue::gather(local, None, &stored, pick, now) {
        Ok(Catalogue { metadata, documents, objects, missing, .. }) if missing.is_empty() => {
            let metadata = metadata.into_iter().map(|(name, _)| format!("metadata/{name}"));
            metadata.chain(documents.into_keys()).chain(objects.into_keys()).collect()
        }
        _ => all_of(local, &stored),
    }
}

fn all_of(local: &Source, stored: &Stored) -> BTreeSet<String> {
    let mut report = Report::default();
    let mut paths = BTreeSet::new();
    let Ok(Ok(chain)) = trust::list(local, stored, Timestamp::MIN, &mut report) else { return paths };
    paths.extend(chain.files.into_keys().map(|name| format!("metadata/{name}")));
    for target in &chain.targets {
        paths.insert(target.place.clone());
        let bytes = trust::target(local, target, &mut report).ok().flatten();
        if let Some(release) = bytes.and_then(|bytes| Release::parse(&bytes).ok()) {
            paths.extend(objects(&release));
        }
    }
    paths
}

fn objects(release: &Release) -> impl Iterator<Item = String> {
    let own = [&release.root.full.path, &release.root.chunks.path, &release.uki.compose.path];
    let deltas = release.deltas.iter().map(|edge| &edge.delta.path);
    own.into_iter().chain(deltas).map(ToString::to_string)
}

/// Removes these files of the copy.
pub(super) fn remove(files: &dyn Files, folder: &Path, stale: &[String]) -> Result<()> {
    for path in stale {
        let path = folder.join(path);
        files.remove(&path).map_err(Error::file("remove", &path))?;
    }
    Ok(())
}

/// What is neither in `catalogue` nor among `kept`.
pub(super) fn stale(folder: &Path, catalogue: &Catalogue, kept: &BTreeSet<String>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in FOLDERS {
        list(folder, name, &mut found)?;
    }
    let metadata: BTreeSet<String> =
        catalogue.status.iter().map(|role| names::served_name(&role.role, Some(role.version))).collect();
    let stale = |path: &&String| {
        let is_current = match path.strip_prefix("metadata/") {
            // Every root leads on from the one before, and what teams sign is small.
            Some(name) => {
                let top_level = [".targets.json", ".snapshot.json"].iter().any(|end| name.ends_with(end));
                !top_level || metadata.contains(name)
            }
            None => catalogue.objects.contains_key(*path) || catalogue.documents.contains_key(*path),
        };
        !is_current && !kept.contains(*path)
    };
    Ok(found.iter().filter(stale).cloned().collect())
}

/// The files below a folder of the copy, by their paths from its root.
pub(super) fn list(root: &Path, folder: &str, found: &mut Vec<String>) -> Result<()> {
    let path = root.join(folder);
    let failed = Error::file("read", &path);
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(&failed)?;
        // Names that are not text are not ours.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let name = format!("{folder}/{name}");
        match entry.file_type().map_err(&failed)? {
            kind if kind.is_dir() => list(root, &name, found)?,
            kind if kind.is_file() => found.push(name),
            _ => {}
        }
    }
    Ok(())
}
