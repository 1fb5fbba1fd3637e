//! The trusted metadata that a copy has from the last time. It is what keeps a copy from going back.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use upright_manifests::tuf::schema::{Body, Root, Snapshot, Timestamp};
use upright_manifests::tuf::{Document, Stored, names};

use super::read_own;
use crate::repo::error::{Error, Result};

/// What to start from: the newer of `root` and the newest root in `folder`, and what `folder` has that the last timestamp leads
/// to. What is damaged there counts as not there: it is fetched anew, and hosts have what they have seen themselves.
pub(super) fn stored(folder: &Path, root: Option<Vec<u8>>) -> Result<Stored> {
    let mut files = BTreeMap::new();
    if let Some(newest) = newest_root(folder)? {
        files.insert("root.json".to_owned(), newest);
    }
    let roots = [root.as_ref(), files.get("root.json")].into_iter().flatten();
    let roots = roots.filter_map(|bytes| Document::<Root>::parse(bytes).ok());
    let trusted = roots.max_by_key(Document::version);
    let metadata = folder.join("metadata");
    if let Some(trusted) = trusted
        && let Some(bytes) = read_own(&metadata.join("timestamp.json"))?
        && let Some(timestamp) = signed::<Timestamp>(&bytes, &trusted, "timestamp")
    {
        files.insert("timestamp.json".to_owned(), bytes);
        let version = timestamp.signed.snapshot().map(|file| file.version);
        let snapshot = read_own(&metadata.join(names::served_name("snapshot", version)))?;
        if let Some(bytes) = snapshot
            && let Some(snapshot) = signed::<Snapshot>(&bytes, &trusted, "snapshot")
        {
            files.insert("snapshot.json".to_owned(), bytes);
            for (name, file) in &snapshot.signed.meta {
                let role = name.strip_suffix(".json").unwrap_or(name);
                if let Some(bytes) = read_own(&metadata.join(names::served_name(role, Some(file.version))))? {
                    files.insert(names::stored_name(role), bytes);
                }
            }
        }
    }
    let unknown = |reason: String| {
        Error::refused(format!(
            "it is not known whom to trust: {reason}; name the root.json that the publisher gave you with --root"
        ))
    };
    if root.is_none() && !files.contains_key("root.json") {
        return Err(unknown(format!("{} has no root that can be used yet", folder.display())));
    }
    Stored::new(root, files).map_err(|error| unknown(error.problem.to_string()))
}

/// A document that the keys of a role have signed.
fn signed<T: Body>(bytes: &[u8], root: &Document<Root>, role: &str) -> Option<Document<T>> {
    let document = Document::<T>::parse(bytes).ok()?;
    let keys = root.signed.roles.get(role)?;
    document.verify(&root.signed.keys, keys).is_ok().then_some(document)
}

/// The root of the highest version in a copy, if it can be read.
pub(super) fn newest_root(folder: &Path) -> Result<Option<Vec<u8>>> {
    let metadata = folder.join("metadata");
    let entries = match fs::read_dir(&metadata) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::file("read", &metadata)(error)),
    };
    let mut newest = None;
    for entry in entries {
        let name = entry.map_err(Error::file("read", &metadata))?.file_name();
        let version = name.to_str().and_then(|name| name.strip_suffix(".root.json")?.parse::<u64>().ok());
        newest = newest.max(version);
    }
    let Some(version) = newest else { return Ok(None) };
    let bytes = read_own(&metadata.join(names::served_name("root", Some(version))))?;
    Ok(bytes.filter(|bytes| Document::<Root>::parse(bytes).is_ok()))
}
