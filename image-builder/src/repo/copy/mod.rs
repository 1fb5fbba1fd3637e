//! Copies of a repository or of a part of it: mirrors, and what is exported for hosts that no network reaches.
//!
//! | file | holds |
//! |---|---|
//! | `pick` | which channels and releases are wanted |
//! | `catalogue` | what has to be there so that a host can verify and take these |
//! | `roots` | the roots of a copy: which is trusted, and whose they are |
//! | `stored` | the trusted metadata of a copy from the last time |
//! | `download` | one object, resumed where it was cut off |
//! | `folder` | the copy in a folder, in the order that leaves hosts something whole to read at every moment |
//! | `prune` | what a copy does not need any more |
//! | `file` | the copy in a single file |
//! | `fat` | what a FAT file system cannot hold |
//! | `room` | whether there is room for it, and what to do where it cannot be written |
//!
//! Everything is verified on its way, as a host would: a copy vouches for nothing, and neither does who is copied from.

pub(super) mod catalogue;
mod download;
mod fat;
mod file;
mod folder;
mod pick;
mod prune;
mod room;
mod roots;
mod stored;

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;
use upright_manifests::partial::Partial;
use upright_manifests::tuf::RoleStatus;

pub use pick::Pick;

use super::check::Source;
use super::error::{Error, Result};
use super::expiry;
use super::files::Files;
use super::progress::Progress;
use catalogue::Catalogue;

/// Where the files are kept of which not all has come yet.
const PARTIAL: &str = ".partial";

/// What is to be copied, and how.
pub struct Copy<'a> {
    /// Where from.
    pub source: &'a Source,
    /// The `root.json` to trust, from which the roots of a copy that is there lead on; none begins with its own oldest one.
    pub root: Option<Vec<u8>>,
    /// What of it.
    pub pick: &'a Pick,
    /// Whether what has expired is copied all the same.
    pub allow_expired: bool,
    /// Whether what is not referred to any more is removed.
    pub prune: bool,
    /// The time.
    pub now: Timestamp,
    /// What changes files.
    pub files: &'a dyn Files,
    /// Hears about steps.
    pub progress: &'a dyn Progress,
}

/// What a copy holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// Where it is.
    pub path: PathBuf,
    /// The channels.
    pub channels: Vec<String>,
    /// The releases that can be installed from it.
    pub releases: Vec<String>,
    /// The objects of these releases.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
    /// How many bytes of objects were copied this time.
    pub copied: u64,
    /// How many files were removed.
    pub pruned: usize,
    /// From when on hosts refuse it, if their configuration does not say otherwise.
    pub good_until: Timestamp,
    /// The metadata and when it expires.
    pub metadata: Vec<RoleStatus>,
    /// The part of its repository that this is; none if it is all of it.
    pub part: Option<Partial>,
    /// What should be there, and was not at the source as it was signed.
    pub missing: Vec<String>,
    /// What is worth knowing.
    pub notes: Vec<String>,
    /// What `path` is.
    pub form: Form,
}

/// What a copy was written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// A single file.
    File,
    /// A folder.
    Folder,
}

impl Copied {
    /// Fails if it is not all of what was to be copied.
    pub fn require_all(&self, place: &str) -> Result<()> {
        match self.missing.is_empty() {
            true => Ok(()),
            false => Err(Error::Unverified(format!(
                "{} is up to date but for what {place} does not have: {}; let its operator run `upright-build check`",
                self.path.display(),
                first(&self.missing)
            ))),
        }
    }

    fn of(path: &Path, form: Form, catalogue: &Catalogue) -> Self {
        Self {
            path: path.to_owned(),
            channels: catalogue.channels.iter().cloned().collect(),
            releases: catalogue.releases.iter().cloned().collect(),
            objects: catalogue.objects.len(),
            bytes: catalogue.objects.values().map(|object| object.size).sum(),
            copied: 0,
            pruned: 0,
            good_until: catalogue.good_until(),
            metadata: catalogue.status.clone(),
            part: catalogue.part.clone(),
            missing: Vec::new(),
            notes: catalogue.notes.clone(),
            form,
        }
    }
}

/// Copies into a folder: a mirror, or a medium. What is there already stays, as far as it is what it should be.
pub fn into_folder(copy: &Copy<'_>, folder: &Path) -> Result<Copied> {
    folder::copy(copy, folder).map_err(|error| room::advise(error, 0))
}

/// Copies into a single file, whose bytes depend on what is copied alone.
pub fn into_file(copy: &Copy<'_>, path: &Path) -> Result<Copied> {
    file::copy(copy, path)
}

/// Refuses metadata that hosts would not take.
fn require_good(copy: &Copy<'_>, catalogue: &mut Catalogue) -> Result<()> {
    let Some(expired) = expiry::expired(&catalogue.status, copy.now) else { return Ok(()) };
    let place = copy.source.place();
    if copy.allow_expired {
        catalogue.notes.push(format!(
            "hosts take it only if `offline-expiry` in their configuration allows that: {expired} where it is published"
        ));
        return Ok(());
    }
    Err(Error::Unverified(format!(
        "hosts refuse what {place} offers: {expired} where it is published, or copy it all the same with --allow-expired"
    )))
}

/// The first few lines, and how many there are besides.
fn first(lines: &[String]) -> String {
    const FEW: usize = 3;
    let more = lines.len().saturating_sub(FEW);
    let told = lines.iter().take(FEW).map(String::as_str).collect::<Vec<_>>().join("; ");
    if more > 0 { format!("{told}; and {more} more") } else { told }
}

/// Reads a small file of this machine; `None` if it is not there.
fn read_own(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("read", path)(error)),
    }
}
