//! Signs what has changed and publishes it in one piece, with the keys of this machine and of others.
//!
//! Documents that lack signatures are left in a folder, to be carried to the machines that have the keys and to be signed
//! there (`upright-keys sign`); the next run with that folder takes them in. Nothing of the repository changes before
//! everything is signed. Then all of it is written down in one step before the first file is replaced ([`finish`]): new keys
//! and the documents that they sign are of no use without each other.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use upright_keys::Envelope;

use super::error::{Error, Result};
use super::files::{Files, STAGING, replace};
use super::metadata::{Ceremony, Lack, MetadataFile, Signed};
use super::publish::Bench;
use super::published::{Published, read_if_there};
use super::sweep::sweep;
use super::workspace::Workspace;

/// What is being published, in the workspace.
const JOURNAL: &str = "publishing.json";

/// A document that waits for signatures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Staged {
    /// Its role.
    pub role: String,
    /// Where it is.
    pub file: PathBuf,
    /// The signatures that it lacks.
    pub lacks: Vec<Lack>,
}

/// Signs what has changed in `published`, and publishes it after `objects`, pairs of a place in the repository and content.
/// What lacks signatures is left in the folder `stage` and returned; without a folder it is an error.
pub fn publish(
    bench: &Bench<'_>,
    published: &mut Published,
    objects: &[(String, Vec<u8>)],
    stage: Option<&Path>,
) -> Result<Vec<Staged>> {
    let signers = bench.signers.all();
    let staged = stage.map(read_stage).transpose()?.unwrap_or_default();
    let ceremony = Ceremony { signers: &signers, now: bench.now, staged };
    let signed =
        published.metadata.sign_with(&ceremony).map_err(|error| Error::refused(error.to_string()))?;
    let files = match (signed, stage) {
        (Signed::Complete(files), _) => files,
        (Signed::Lacking(lacking), Some(stage)) => {
            let leave = |unsigned: &super::metadata::Unsigned| {
                let file = stage.join(&unsigned.file.name);
                replace(bench.files, &stage.join(STAGING), &file, &unsigned.file.bytes)?;
                Ok(Staged { role: unsigned.role.clone(), file, lacks: unsigned.lacks.clone() })
            };
            let left = lacking.iter().map(leave).collect::<Result<_>>()?;
            remove(bench.files, &stage.join(STAGING))?;
            return Ok(left);
        }
        (Signed::Lacking(lacking), None) => {
            let reasons: Vec<String> = lacking.iter().map(|unsigned| unsigned.error().to_string()).collect();
            return Err(Error::refused(format!(
                "{}; name the key files with --key, or have them sign elsewhere with --stage",
                reasons.join("; ")
            )));
        }
    };
    let repository = bench.workspace.repository();
    for (place, bytes) in objects {
        replace(bench.files, &repository.join(STAGING), &repository.join(place), bytes)?;
    }
    write_journal(bench, &files)?;
    finish(bench.workspace, bench.files)?;
    sweep(&repository, published, bench.files, bench.now)?;
    if let Some(stage) = stage {
        files.iter().try_for_each(|file| remove(bench.files, &stage.join(&file.name)))?;
    }
    remove(bench.files, &repository.join(STAGING))?;
    Ok(Vec::new())
}

/// Ends what was cut off while it was being published. Every command that holds the workspace's lock begins with it.
pub fn finish(workspace: &Workspace, files: &dyn Files) -> Result<()> {
    let path = workspace.root().join(JOURNAL);
    let Some(bytes) = read_if_there(&path).map_err(Error::file("read", &path))? else { return Ok(()) };
    let journal: Journal = serde_json::from_slice(&bytes)
        .map_err(|error| {
            Error::Unverified(format!(
                "{} is damaged: {error}; remove it, see what `upright-build check` says, and do again what was cut off",
                path.display()
            ))
        })?;
    let repository = workspace.repository();
    for Document { name, text } in &journal.documents {
        // Written by this program, but a path all the same.
        if name.contains('/') {
            return Err(Error::Unverified(format!("{} names a file {name:?}", path.display())));
        }
        let bytes = text.as_bytes();
        replace(files, &repository.join(STAGING), &repository.join("metadata").join(name), bytes)?;
        if name.split_once('.').is_some_and(|(_, role)| role == "root.json") {
            replace(files, &workspace.root().join(STAGING), &workspace.trusted_root(), bytes)?;
        }
    }
    remove(files, &workspace.root().join(STAGING))?;
    remove(files, &path)?;
    files.sync(workspace.root()).map_err(Error::file("sync", workspace.root()))
}

/// Whether [`finish`] has something to do.
pub(super) fn is_cut_off(workspace: &Workspace) -> bool {
    workspace.root().join(JOURNAL).exists()
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Journal {
    documents: Vec<Document>,
}

/// A file of `metadata/`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    name: String,
    text: String,
}

fn write_journal(bench: &Bench<'_>, files: &[MetadataFile]) -> Result<()> {
    let document = |file: &MetadataFile| {
        let text = String::from_utf8_lossy(&file.bytes).into_owned();
        Document { name: file.name.clone(), text }
    };
    let journal = Journal { documents: files.iter().map(document).collect() };
    let bytes = serde_json::to_vec(&journal).map_err(|error| Error::Failed(error.to_string()))?;
    let root = bench.workspace.root();
    replace(bench.files, &root.join(STAGING), &root.join(JOURNAL), &bytes)
}

/// The documents in a folder by file name; none if the folder is not there yet.
fn read_stage(folder: &Path) -> Result<BTreeMap<String, Envelope>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(Error::file("read", folder)(error)),
    };
    let mut documents = BTreeMap::new();
    for entry in entries {
        let path = entry.map_err(Error::file("read", folder))?.path();
        let Some(name) =
            path.file_name().and_then(|name| name.to_str()).filter(|name| name.ends_with(".json"))
        else {
            continue;
        };
        let bytes = read_if_there(&path).map_err(Error::file("read", &path))?.unwrap_or_default();
        let document = Envelope::parse(&bytes).map_err(|error| {
            Error::refused(format!("{}: {error}; remove it and stage it again", path.display()))
        })?;
        documents.insert(name.to_owned(), document);
    }
    Ok(documents)
}

fn remove(files: &dyn Files, path: &Path) -> Result<()> {
    files.remove(path).map_err(Error::file("remove", path))
}
