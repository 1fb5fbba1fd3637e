//! The roots that a copy holds: which of them is trusted, and whose they are.
//!
//! A root counts if its own keys have signed it and it has the version by which it is served; anything else is damaged, tells
//! nothing, and is written anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use upright_manifests::tuf::schema::Root;
use upright_manifests::tuf::{Document, limits, names};

use super::catalogue::Catalogue;
use super::read_own;
use crate::repo::check::Source;
use crate::repo::error::{Error, Result};

/// A root that is trusted.
pub(super) struct Trusted {
    /// What it says.
    pub(super) root: Document<Root>,
    /// Its file.
    pub(super) bytes: Vec<u8>,
}

impl Trusted {
    /// A root by its bytes.
    fn new(bytes: &[u8]) -> Option<Self> {
        let root = Document::sound_root(bytes).ok()?;
        Some(Self { root, bytes: bytes.to_owned() })
    }

    /// The root by the name of `version`.
    fn of(version: u64, bytes: &[u8]) -> Option<Self> {
        Self::new(bytes).filter(|trusted| trusted.root.version() == version)
    }

    /// The root by the name of `version` if it is one to go on to from this one.
    fn follow(&self, version: u64, bytes: &[u8]) -> Option<Self> {
        Self::of(version, bytes).filter(|next| self.root.leads_to(&next.root).is_ok())
    }

    /// The next root, if `held` has later ones: the copy's own, or where that is damaged or not there, that of `source`. Where
    /// neither has it, the first later one that this root's keys have signed is next: what is gone takes nothing
    /// back that the copy has seen.
    fn next(&self, held: &Held, source: &Source) -> Result<Option<Self>> {
        let version = self.root.version().saturating_add(1);
        let mut later = held.range(version..);
        if later.clone().next().is_none() {
            return Ok(None);
        }
        if let Some(next) = held.get(&version).and_then(|bytes| self.follow(version, bytes)) {
            return Ok(Some(next));
        }
        let name = names::served_name("root", Some(version));
        let fetched = source.read(&format!("metadata/{name}"), limits::ROOT)?;
        let fetched = fetched.and_then(|bytes| self.follow(version, &bytes));
        Ok(fetched.or_else(|| later.find_map(|(version, bytes)| self.follow(*version, bytes))))
    }
}

/// The files of roots in a folder, by the versions in their names.
type Held = BTreeMap<u64, Vec<u8>>;

/// The newest root to which a chain leads in `folder`, mended by what `source` has: from `given` on, or where that is not known from
/// the oldest one in the folder. `None` where there is nothing to begin with.
pub(super) fn newest(folder: &Path, source: &Source, given: Option<&[u8]>) -> Result<Option<Trusted>> {
    let held = held(folder)?;
    let first = match given {
        Some(given) => Trusted::new(given),
        None => held.iter().find_map(|(version, bytes)| Trusted::of(*version, bytes)),
    };
    let Some(mut newest) = first else { return Ok(None) };
    while let Some(next) = newest.next(&held, source)? {
        newest = next;
    }
    Ok(Some(newest))
}

fn held(folder: &Path) -> Result<Held> {
    let metadata = folder.join("metadata");
    let entries = match fs::read_dir(&metadata) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Held::new()),
        Err(error) => return Err(Error::file("read", &metadata)(error)),
    };
    let mut held = Held::new();
    for entry in entries {
        let name = entry.map_err(Error::file("read", &metadata))?.file_name();
        if let Some(version) = name.to_str().and_then(version_of)
            && let Some(bytes) = read_own(&metadata.join(&name))?
        {
            held.insert(version, bytes);
        }
    }
    Ok(held)
}

/// The version of a root by the name of its file; `01.root.json` is none that anybody asks for.
fn version_of(name: &str) -> Option<u64> {
    let version = name.strip_suffix(".root.json")?.parse().ok()?;
    (names::served_name("root", Some(version)) == name).then_some(version)
}

/// Refuses a folder whose roots are not those of `catalogue`: hosts that read it must not find two publishers in it, nor a root that
/// leads nowhere.
pub(super) fn require_ours(folder: &Path, source: &Source, catalogue: &Catalogue) -> Result<()> {
    let ours = catalogue.metadata.iter().filter_map(|(name, bytes)| Some((version_of(name)?, bytes)));
    let ours: BTreeMap<u64, &Vec<u8>> = ours.collect();
    let newest = ours.keys().max().copied().unwrap_or(0);
    let (shown, place) = (folder.display(), source.place());
    for (version, bytes) in held(folder)? {
        let name = names::served_name("root", Some(version));
        let there = Trusted::of(version, &bytes);
        match (there, ours.get(&version).and_then(|ours| Trusted::of(version, ours))) {
            (Some(there), Some(ours)) if !there.root.says_the_same_as(&ours.root) => {
                return Err(Error::refused(format!(
                    "{shown} holds another repository, whose {name} differs; name another folder, or empty this one"
                )));
            }
            (Some(_), None) if version > newest => {
                return Err(Error::refused(format!(
                    "{shown} holds {name}, to which nothing leads that {place} has: it is another publisher's, or {place} lacks roots; \
                     let its operator run `upright-build check`, or name another folder"
                )));
            }
            (None, None) if version > newest => {
                return Err(Error::Unverified(format!(
                    "{shown} has a damaged {name}, and {place} has none to write in its place: it may have gone back to an older state; \
                     copy from where the newest one is, or remove the file if there never was one"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}
