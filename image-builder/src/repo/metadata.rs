//! The publisher's side of TUF: makes, extends, rotates and refreshes a repository's metadata.
//!
//! Works on documents in memory and does no I/O: it takes bytes and gives back files in the order in which
//! they must be uploaded, the timestamp last, because that one makes the others visible.
//!
//! ```text
//! create ──┐                                  ┌─> sign ─> [N.root.json, N.targets.json, N.<team>.json ...,
//! open ────┴─> set_target, set_role, delegate ┘            N.snapshot.json, timestamp.json]
//! ```

mod delegate;
mod open;
mod sign;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use sign::{Ceremony, Lack, Need, Signed, Unsigned};

use jiff::{SignedDuration, Timestamp as Time};
use upright_keys::{EnvelopeError, KeyId, PublicKey, RoleKeys, SignError};
use upright_manifests::digest::Digest;
use upright_manifests::tuf::schema::{
    Body, DelegatedRole, Extra, Hashes, Header, Root, Snapshot, TOP_LEVEL, TargetFile, Targets, Timestamp,
};
use upright_manifests::tuf::{RoleStatus, TufError, names};

/// A repository's metadata, being edited.
#[derive(Clone)]
pub struct Metadata {
    lifetimes: Lifetimes,
    root: Draft<Root>,
    /// `targets`.
    targets: Draft<Targets>,
    /// Delegated roles by name, whoever delegates to them.
    delegated: BTreeMap<String, Draft<Targets>>,
    /// Delegated roles whose documents cannot be used, and why.
    unusable: BTreeMap<String, TufError>,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifetimes {
    /// The root.
    pub root: SignedDuration,
    /// Targets, and delegated roles that are not named below.
    pub targets: SignedDuration,
    /// Delegated roles by name.
    pub delegated: BTreeMap<String, SignedDuration>,
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
    #[error("{role} cannot be signed: {lacks}; give the other keys too")]
    Signers {
        /// The role.
        role: String,
        /// The signatures that it lacks, in words.
        lacks: String,
    },
    /// A signer failed.
    #[error("{role} cannot be signed: {error}")]
    Sign {
        /// The role.
        role: String,
        /// Why.
        error: SignError,
    },
    /// A document that others signed is not the one that would be signed now.
    #[error(
        "{0} was staged for something else than would be signed now: what is published, upright.toml or its expiry has \
         changed; remove it, stage it again and have it signed again"
    )]
    Stale(String),
    /// No version follows the published one.
    #[error(
        "{0} has the highest version that there is, as someone with the online keys may have raised it; replace the keys of \
         snapshot and timestamp in the same rotation, after which hosts count from 1 again"
    )]
    LastVersion(String),
    /// A delegated role's document is refused, so that nothing can be added to it.
    #[error(
        "the document of {role} cannot be used: {error}; bring back a copy of it, or give the team a new key and run \
         `upright-build rotate`, which begins it anew"
    )]
    Unusable {
        /// The role.
        role: String,
        /// Why.
        error: TufError,
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
    /// No role of this name.
    #[error(
        "there is no role {0:?}: root, targets, snapshot, timestamp or a delegated one expected; a team of upright.toml \
         becomes one with `upright-build rotate`"
    )]
    Role(String),
    /// A date beyond what can be written.
    #[error("a lifetime from {0} on ends beyond the calendar")]
    Calendar(Time),
    /// The document cannot be written.
    #[error("{role} cannot be written: {error}")]
    Write {
        /// The role.
        role: String,
        /// Why.
        error: EnvelopeError,
    },
}

impl Default for Lifetimes {
    /// Root a year, targets 90 days, snapshot and timestamp 7 days.
    fn default() -> Self {
        let days = |days: i64| SignedDuration::from_hours(days * 24);
        let delegated = BTreeMap::new();
        Self { root: days(365), targets: days(90), delegated, snapshot: days(7), timestamp: days(7) }
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
        let targets = Targets { header: header("targets"), ..delegate::nothing() };
        let snapshot = Snapshot { header: header("snapshot"), meta: BTreeMap::new(), extra: Extra::new() };
        let timestamp = Timestamp { header: header("timestamp"), meta: BTreeMap::new(), extra: Extra::new() };
        let mut metadata = Self {
            lifetimes,
            root: Draft::new(root),
            targets: Draft::new(targets),
            delegated: BTreeMap::new(),
            unusable: BTreeMap::new(),
            snapshot: Draft::new(snapshot),
            timestamp: Draft::new(timestamp),
        };
        metadata.set_role("root", &roles.root)?;
        metadata.set_role("targets", &roles.targets)?;
        metadata.set_role("snapshot", &roles.snapshot)?;
        metadata.set_role("timestamp", &roles.timestamp)?;
        Ok(metadata)
    }

    /// Lists a target, or replaces its entry, in the role that [`Metadata::role_of`] says. `path` is relative to the
    /// repository's root.
    pub fn set_target(&mut self, path: &str, length: u64, sha256: Digest) -> Result<(), MetadataError> {
        let role = self.role_of(path).to_owned();
        self.set_target_of(&role, path, length, sha256)
    }

    /// The same in `role`, which may be top-level targets wherever others have a say too: its own word comes first.
    pub fn set_target_of(
        &mut self,
        role: &str,
        path: &str,
        length: u64,
        sha256: Digest,
    ) -> Result<(), MetadataError> {
        let hashes = Hashes::sha256_only(sha256);
        let entry = TargetFile { length, hashes, extra: Extra::new() };
        let draft = self.listing(role)?;
        let old = draft.body.targets.insert(path.to_owned(), entry.clone());
        draft.changed |= old != Some(entry);
        Ok(())
    }

    /// Takes a target off the list where hosts find it; false if it was not there.
    pub fn remove_target(&mut self, path: &str) -> Result<bool, MetadataError> {
        let role = self.role_of(path).to_owned();
        let draft = self.listing(&role)?;
        let removed = draft.body.targets.remove(path).is_some();
        draft.changed |= removed;
        Ok(removed)
    }

    /// The role whose word on `path` hosts take: `targets` if it lists it, else the first role it delegates the path to.
    pub fn role_of(&self, path: &str) -> &str {
        let targets = &self.targets.body;
        match targets.delegate(path).filter(|_| !targets.targets.contains_key(path)) {
            Some(role) => &role.name,
            None => "targets",
        }
    }

    /// The entry of a target where hosts find it. What a delegated role delegates further is not looked into.
    pub fn target(&self, path: &str) -> Option<&TargetFile> {
        match self.role_of(path) {
            "targets" => self.targets.body.targets.get(path),
            role => self.delegated.get(role)?.body.targets.get(path),
        }
    }

    /// All that roles list, whether or not hosts take their word on it: role, path, entry.
    pub fn listed(&self) -> impl Iterator<Item = (&str, &str, &TargetFile)> {
        let delegated = self.delegated.iter().map(|(name, draft)| (name.as_str(), draft));
        [("targets", &self.targets)].into_iter().chain(delegated).flat_map(|(role, draft)| {
            draft.body.targets.iter().map(move |(path, entry)| (role, path.as_str(), entry))
        })
    }

    /// Delegated roles whose documents cannot be used, and why.
    pub fn unusable(&self) -> &BTreeMap<String, TufError> {
        &self.unusable
    }

    /// The keys and the threshold of a role, and who appoints them: `root`, or `targets`.
    pub fn role(&self, role: &str) -> Option<(&RoleKeys, &'static str)> {
        let delegated = || Some((&self.delegation(role)?.keys, "targets"));
        self.root.body.roles.get(role).map(|keys| (keys, "root")).or_else(delegated)
    }

    /// Where hosts fetch a listed target: `<folder>/<sha256>.<name>` (TUF 1.0, section 5.7.3).
    pub fn fetch_path(&self, path: &str) -> Option<String> {
        self.place(path, self.target(path)?)
    }

    /// Where hosts fetch a target with this entry; a place within the repository.
    pub fn place(&self, path: &str, entry: &TargetFile) -> Option<String> {
        let place = names::fetch_path(path, &entry.hashes, self.root.body.consistent_snapshot)?;
        // A delegated role may list any path at all.
        place.split('/').all(|part| !matches!(part, "" | "." | "..")).then_some(place)
    }

    /// Appoints new keys for a top-level role; the root is signed anew with the others, and where the keys
    /// of a role change, that role's document too.
    pub fn set_role(&mut self, role: &str, spec: &RoleSpec) -> Result<(), MetadataError> {
        if !TOP_LEVEL.contains(&role) {
            return Err(MetadataError::Role(role.to_owned()));
        }
        let (ids, threshold) = (spec.ids(role)?, spec.threshold);
        let root = &mut self.root.body;
        root.keys.extend(spec.keys.iter().map(|key| (key.tuf_id(), key.to_tuf())));
        let extra = root.roles.remove(role).map(|old| old.extra).unwrap_or_default();
        let keyids = ids.into_iter().collect();
        root.roles.insert(role.to_owned(), RoleKeys { keyids, threshold, extra });
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
            role => self.draft(role)?.changed = true,
        }
        Ok(())
    }

    /// Version and expiry of each role's published document, the top-level roles first.
    pub fn status(&self) -> Vec<RoleStatus> {
        fn row<T: Body>(role: &str, draft: &Draft<T>) -> Option<RoleStatus> {
            let Header { version, expires, .. } = draft.published.as_ref()?.header().clone();
            Some(RoleStatus { role: role.to_owned(), version, expires })
        }
        let top = [
            row("root", &self.root),
            row("targets", &self.targets),
            row("snapshot", &self.snapshot),
            row("timestamp", &self.timestamp),
        ];
        top.into_iter().chain(self.delegated.iter().map(|(name, draft)| row(name, draft))).flatten().collect()
    }

    /// When the published timestamp was signed, if its lifetime was then what it is now.
    pub fn signed(&self) -> Option<Time> {
        let published = self.timestamp.published.as_ref()?;
        published.header().expires.checked_sub(self.lifetimes.timestamp).ok()
    }

    /// The document of `targets` or of a delegated role.
    fn listing(&mut self, role: &str) -> Result<&mut Draft<Targets>, MetadataError> {
        match role {
            "targets" => Ok(&mut self.targets),
            role => self.draft(role),
        }
    }

    /// A delegated role's document.
    fn draft(&mut self, role: &str) -> Result<&mut Draft<Targets>, MetadataError> {
        if let Some(error) = self.unusable.get(role) {
            return Err(MetadataError::Unusable { role: role.to_owned(), error: error.clone() });
        }
        self.delegated.get_mut(role).ok_or_else(|| MetadataError::Role(role.to_owned()))
    }

    fn delegation(&self, role: &str) -> Option<&DelegatedRole> {
        let mut roles = self.targets.body.delegations.iter().flat_map(|delegations| &delegations.roles);
        roles.find(|delegated| delegated.name == role)
    }
}

impl RoleSpec {
    /// The ids of the keys, each once; there must be as many as the threshold.
    fn ids(&self, role: &str) -> Result<BTreeSet<KeyId>, MetadataError> {
        let ids: BTreeSet<_> = self.keys.iter().map(PublicKey::tuf_id).collect();
        let (keys, threshold) = (ids.len(), self.threshold);
        match threshold == 0 || u64::from(threshold) > keys as u64 {
            true => Err(MetadataError::Threshold { role: role.to_owned(), keys, threshold }),
            false => Ok(ids),
        }
    }
}

impl<T> Draft<T> {
    fn new(body: T) -> Self {
        Self { published: None, body, changed: true }
    }
}
