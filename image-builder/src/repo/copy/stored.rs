//! The trusted metadata that a copy has from the last time. It is what keeps a copy from going back.

use std::collections::BTreeMap;
use std::path::Path;

use upright_manifests::tuf::schema::{Body, Root, Snapshot, Timestamp};
use upright_manifests::tuf::{Document, Stored, names};

use super::read_own;
use super::roots::{self, Trusted};
use crate::repo::check::Source;
use crate::repo::error::{Error, Result};

/// What to start from: the newest root that `given`, or what is in `folder`, leads to, and what `folder` has that the last timestamp
/// leads to. What is damaged there counts as not there: it is fetched anew, and hosts have what they have seen themselves.
pub(super) fn stored(folder: &Path, source: &Source, given: Option<&[u8]>) -> Result<Stored> {
    let mut files = BTreeMap::new();
    let Trusted { root, bytes: trusted } = roots::newest(folder, source, given)?.ok_or_else(|| {
        let has_none = match given {
            Some(_) => "what was given is no root that its own keys have signed".to_owned(),
            None => format!("{} has no root that can be used yet", folder.display()),
        };
        Error::refused(format!(
            "it is not known whom to trust: {has_none}; name the root.json that the publisher gave you with --root"
        ))
    })?;
    let metadata = folder.join("metadata");
    if let Some(bytes) = read_own(&metadata.join("timestamp.json"))?
        && let Some(timestamp) = signed::<Timestamp>(&bytes, &root, "timestamp")
    {
        files.insert("timestamp.json".to_owned(), bytes);
        let version = timestamp.signed.snapshot().map(|file| file.version);
        let snapshot = read_own(&metadata.join(names::served_name("snapshot", version)))?;
        if let Some(bytes) = snapshot
            && let Some(snapshot) = signed::<Snapshot>(&bytes, &root, "snapshot")
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
    Ok(Stored { root: trusted, files })
}

/// A document that the keys of a role have signed.
fn signed<T: Body>(bytes: &[u8], root: &Document<Root>, role: &str) -> Option<Document<T>> {
    let document = Document::<T>::parse(bytes).ok()?;
    let keys = root.signed.roles.get(role)?;
    document.verify(&root.signed.keys, keys).is_ok().then_some(document)
}
