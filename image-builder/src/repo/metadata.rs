//! The publisher's side of TUF: makes, extends, rotates and refreshes a repository's metadata.
//!
//! Works on documents in memory and does no I/O: it takes bytes and gives back files in the order in which
//! they must be uploaded, the timestamp last, because that one makes the others visible.
//!
//! ```text
//! create ──┐                        ┌─> sign ─> [N.root.json, N.targets.json, N.snapshot.json, timestamp.json]
//! open ────┴─> set_target, set_role ┘
//! ```

mod open;
mod sign;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp as Time};
use upright_keys::{EnvelopeError, PublicKey, RoleKeys, SignError, ThresholdError};
use upright_manifests::digest::Digest;
use upright_manifests::tuf::schema::{
    Body, Extra, Hashes, Header, Root, Snapshot, TOP_LEVEL, TargetFile, Targets, Timestamp,
};
use upright_manifests::tuf::{RoleStatus, TufError, names};

/// A repository's metadata, being edited.
#[derive(Clone)]
pub struct Metadata {
    lifetimes: Lifetimes,
    root: Draft<Root>,
    /// `targets`.
    targets: Draft<Targets>,
    snapshot: Draft<Snapshot>,
    timestamp: Draft<Timestamp>,
}

/// A document: its body, and whether that is still the one that is published.
#[derive(Clone)]
struct Draft<T> {
    /// The body as published, if it ever was.
    published: Option<T>,
    body: T,
    changed: bool,
}

/// Which keys sign for a role, and how many of them must.
#[derive(Debug, Clone)]
pub struct RoleSpec {
    /// The keys.
    pub keys: Vec<PublicKey>,
    /// How many of them must sign.
    pub threshold: u32,
}

/// Who signs for the four top-level roles.
#[derive(Debug, Clone)]
pub struct Roles {
    /// Appoints everyone else; offline.
    pub root: RoleSpec,
    /// Vouches for releases and channels; offline where that is possible.
    pub targets: RoleSpec,
    /// Says which documents belong together; online.
    pub snapshot: RoleSpec,
    /// Says which snapshot is the newest; online.
    pub timestamp: RoleSpec,
}

/// For how long each role's documents are good once signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// The root.
    pub root: SignedDuration,
    /// Targets, top-level and delegated.
    pub targets: SignedDuration,
    /// The snapshot.
    pub snapshot: SignedDuration,
    /// The timestamp.
    pub timestamp: SignedDuration,
}

/// A file to write to the repository's `metadata/` folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataFile {
    /// Its name, without a folder.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Why metadata cannot be opened, changed or signed.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// What is published is refused, as a host would refuse it.
    #[error("published metadata: {0}")]
    Published(#[from] TufError),
    /// A published file cannot be read.
    #[error("cannot read published metadata {name}: {source}")]
    Read {
        /// The file's name.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Too few of the keys that a role needs were given.
    #[error(
        "{role} cannot be signed: {error} (under the keys of {under}); give the other keys too, one of: {missing}"
    )]
    Signers {
        /// The role.
        role: &'static str,
        /// Whose keys: those of the published root or of the new one.
        under: &'static str,
        /// How many signatures there are and how many are needed.
        error: ThresholdError,
        /// The ids, shortened, of keys that have not signed.
        missing: String,
    },
    /// A signer failed.
    #[error("{role} cannot be signed: {error}")]
    Sign {
        /// The role.
        role: &'static str,
        /// Why.
        error: SignError,
    },
    /// A threshold that the keys cannot meet, or none at all.
    #[error("role {role} has {keys} different keys and a threshold of {threshold}; it needs 1 to {keys}")]
    Threshold {
        /// The role.
        role: String,
        /// How many different keys it has.
        keys: usize,
        /// The threshold.
        threshold: u32,
    },
    /// No top-level role of this name.
    #[error("there is no role {0:?}: root, targets, snapshot or timestamp expected")]
    Role(String),
    /// A date beyond what can be written.
    #[error("a lifetime from {0} on ends beyond the calendar")]
    Calendar(Time),
    /// The document cannot be written.
    #[error("{role} cannot be written: {error}")]
    Write {
        /// The role.
        role: &'static str,
        /// Why.
        error: EnvelopeError,
    },
}

impl Default for Lifetimes {
    /// Root a year, targets 90 days, snapshot and timestamp 7 days.
    fn default() -> Self {
        let days = |days: i64| SignedDuration::from_hours(days * 24);
        Self { root: days(365), targets: days(90), snapshot: days(7), timestamp: days(7) }
    }
}

impl Metadata {
    /// Metadata of a new repository without targets; nothing is published until it is signed.
    pub fn create(roles: &Roles, lifetimes: Lifetimes, now: Time) -> Result<Self, MetadataError> {
        // Every draft counts as changed, so that signing sets versions and expiries.
        let header = |kind| Header::new(kind, 0, now);
        let root = Root {
            header: header("root"),
            consistent_snapshot: true,
            keys: BTreeMap::new(),
            roles: BTreeMap::new(),
            extra: Extra::new(),
        };
        let targets = Targets {
            header: header("targets"),
            targets: BTreeMap::new(),
            delegations: None,
            extra: Extra::new(),
        };
        let snapshot = Snapshot { header: header("snapshot"), meta: BTreeMap::new(), extra: Extra::new() };
        let timestamp = Timestamp { header: header("timestamp"), meta: BTreeMap::new(), extra: Extra::new() };
        let mut metadata = Self {
            lifetimes,
            root: Draft::new(root),
            targets: Draft::new(targets),
            snapshot: Draft::new(snapshot),
            timestamp: Draft::new(timestamp),
        };
        metadata.set_role("root", &roles.root)?;
        metadata.set_role("targets", &roles.targets)?;
        metadata.set_role("snapshot", &roles.snapshot)?;
        metadata.set_role("timestamp", &roles.timestamp)?;
        Ok(metadata)
    }

    /// Lists a target, or replaces its entry. `path` is relative to the repository's root.
    pub fn set_target(&mut self, path: &str, length: u64, sha256: Digest) {
        let hashes = Hashes::sha256_only(sha256);
        let entry = TargetFile { length, hashes, extra: Extra::new() };
        let old = self.targets.body.targets.insert(path.to_owned(), entry.clone());
        self.targets.changed |= old != Some(entry);
    }

    /// Takes a target off the list; false if it was not on it.
    pub fn remove_target(&mut self, path: &str) -> bool {
        let removed = self.targets.body.targets.remove(path).is_some();
        self.targets.changed |= removed;
        removed
    }

    /// All targets by path.
    pub fn targets(&self) -> &BTreeMap<String, TargetFile> {
        &self.targets.body.targets
    }

    /// The keys and the threshold that the root appoints for a top-level role.
    pub fn role(&self, role: &str) -> Option<&RoleKeys> {
        self.root.body.roles.get(role)
    }

    /// Where hosts fetch a listed target: `<folder>/<sha256>.<name>` (TUF 1.0, section 5.7.3).
    pub fn fetch_path(&self, path: &str) -> Option<String> {
        let hashes = &self.targets.body.targets.get(path)?.hashes;
        names::fetch_path(path, hashes, self.root.body.consistent_snapshot)
    }

    /// Appoints new keys for a top-level role; the root is signed anew with the others, and where the keys
    /// of a role change, that role's document too.
    pub fn set_role(&mut self, role: &str, spec: &RoleSpec) -> Result<(), MetadataError> {
        if !TOP_LEVEL.contains(&role) {
            return Err(MetadataError::Role(role.to_owned()));
        }
        let ids: BTreeSet<_> = spec.keys.iter().map(PublicKey::tuf_id).collect();
        let (keys, threshold) = (ids.len(), spec.threshold);
        if threshold == 0 || u64::from(threshold) > keys as u64 {
            return Err(MetadataError::Threshold { role: role.to_owned(), keys, threshold });
        }
        let root = &mut self.root.body;
        root.keys.extend(spec.keys.iter().map(|key| (key.tuf_id(), key.to_tuf())));
        root.roles.insert(role.to_owned(), RoleKeys::new(ids.into_iter().collect(), threshold));
        let used: BTreeSet<_> = root.roles.values().flat_map(|role| &role.keyids).collect();
        root.keys.retain(|id, _| used.contains(id));
        self.renew("root")?;
        self.renew(role)
    }

    /// Has a role's document signed anew, with a new version and a new expiry, though nothing else changes.
    pub fn renew(&mut self, role: &str) -> Result<(), MetadataError> {
        match role {
            "root" => self.root.changed = true,
            "targets" => self.targets.changed = true,
            "snapshot" => self.snapshot.changed = true,
            "timestamp" => self.timestamp.changed = true,
            _ => return Err(MetadataError::Role(role.to_owned())),
        }
        Ok(())
    }

    /// Version and expiry of each role's published document.
    pub fn status(&self) -> Vec<RoleStatus> {
        fn row<T: Body>(draft: &Draft<T>) -> Option<RoleStatus> {
            let Header { kind, version, expires, .. } = draft.published.as_ref()?.header().clone();
            Some(RoleStatus { role: kind, version, expires })
        }
        let rows = [row(&self.root), row(&self.targets), row(&self.snapshot), row(&self.timestamp)];
        rows.into_iter().flatten().collect()
    }
}

impl<T> Draft<T> {
    fn new(body: T) -> Self {
        Self { published: None, body, changed: true }
    }
}
