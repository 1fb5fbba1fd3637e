//! The four kinds of TUF document (TUF 1.0, sections 4.3 to 4.6), and what makes one well-formed.
//!
//! Members that the specification does not name are kept, so that a publisher that rewrites a document
//! loses nothing.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp as Time;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha512};
use upright_keys::json::Json;
use upright_keys::{KeyId, RoleKeys, TufKey, hex};

use super::limits;
use super::names;
use crate::digest::Digest;

/// Members that the specification does not name.
pub type Extra = BTreeMap<String, Json>;

/// The version of the specification that documents made here follow.
pub const SPEC_VERSION: &str = "1.0.33";

/// The names of the roles that a root document appoints.
pub const TOP_LEVEL: [&str; 4] = ["root", "targets", "snapshot", "timestamp"];

/// A kind of document.
pub trait Body: DeserializeOwned + Serialize {
    /// The `_type` of the kind.
    const TYPE: &'static str;

    /// The members that all kinds share.
    fn header(&self) -> &Header;

    /// The same, to be changed.
    fn header_mut(&mut self) -> &mut Header;

    /// What is wrong with this kind's own members, if anything.
    fn check(&self) -> Result<(), String>;
}

/// The members that all kinds of document share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Which kind it is.
    #[serde(rename = "_type")]
    pub kind: String,
    /// The version of the specification it follows.
    pub spec_version: String,
    /// Counts up with every change; at least 1.
    pub version: u64,
    /// From then on it is refused.
    pub expires: Time,
}

impl Header {
    /// A header of the kind `kind`; `expires` loses its fraction of a second, which the format lacks.
    pub fn new(kind: &str, version: u64, expires: Time) -> Self {
        let expires = Time::from_second(expires.as_second()).unwrap_or(expires);
        Self { kind: kind.into(), spec_version: SPEC_VERSION.into(), version, expires }
    }

    pub(super) fn check(&self, kind: &str) -> Result<(), String> {
        if self.kind != kind {
            let found: String = self.kind.chars().take(40).collect();
            return Err(format!("it is of type {found:?}, not {kind:?}"));
        }
        let mut parts = self.spec_version.split('.');
        if parts.next() != Some("1") || parts.next().is_none() {
            let found: String = self.spec_version.chars().take(40).collect();
            return Err(format!("it follows specification {found:?}, not 1.x"));
        }
        check_version(self.version)
    }
}

/// The trust anchor: which keys sign for which role (section 4.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// What all documents share.
    #[serde(flatten)]
    pub header: Header,
    /// Whether file names carry versions and hashes.
    #[serde(default)]
    pub consistent_snapshot: bool,
    /// All keys that the roles use.
    pub keys: BTreeMap<KeyId, TufKey>,
    /// The top-level roles.
    pub roles: BTreeMap<String, RoleKeys>,
    /// What the specification does not name.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The newest snapshot, signed often (section 4.6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamp {
    /// What all documents share.
    #[serde(flatten)]
    pub header: Header,
    /// `snapshot.json` alone.
    pub meta: BTreeMap<String, MetaFile>,
    /// What the specification does not name.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Which version of every targets document belongs together (section 4.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// What all documents share.
    #[serde(flatten)]
    pub header: Header,
    /// By file name, without the version that a consistent snapshot puts before it.
    pub meta: BTreeMap<String, MetaFile>,
    /// What the specification does not name.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Files to be fetched, and who else may speak for some of them (section 4.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// What all documents share.
    #[serde(flatten)]
    pub header: Header,
    /// By target path.
    pub targets: BTreeMap<String, TargetFile>,
    /// Roles that may speak for some target paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegations: Option<Delegations>,
    /// What the specification does not name.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A document as a snapshot or timestamp lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaFile {
    /// Its version.
    pub version: u64,
    /// Its length in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Its hashes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashes: Option<Hashes>,
    /// What the specification does not name.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A file as a targets document lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetFile {
    /// Its length in bytes.
    pub length: u64,
    /// Its hashes.
    pub hashes: Hashes,
    /// What the specification does not name, `custom` among it.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Hashes of a file, in hexadecimal digits by the name of the algorithm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hashes(pub BTreeMap<String, String>);

/// Roles that may speak for some of a role's target paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegations {
    /// All keys that the roles use.
    pub keys: BTreeMap<KeyId, TufKey>,
    /// The roles; the first that matches is asked first.
    pub roles: Vec<DelegatedRole>,
    /// What the specification does not name.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A role that another one delegates to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegatedRole {
    /// Its name.
    pub name: String,
    /// Whether a path that matches is looked for here and below only.
    pub terminating: bool,
    /// Patterns of target paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// First digits of target paths' SHA-256, instead of patterns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_hash_prefixes: Option<Vec<String>>,
    /// Its keys and threshold, and what the specification does not name.
    #[serde(flatten)]
    pub keys: RoleKeys,
}

/// Bytes do not match the hashes that were signed for them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// A hash differs.
    #[error("{0} differs from the signed one")]
    Differs(&'static str),
    /// No hash is of an algorithm that this program knows.
    #[error("no hash of a known algorithm (sha256, sha512) is signed for it")]
    Unknown,
}

impl Hashes {
    /// Holds the SHA-256 `digest` alone.
    pub fn sha256_only(digest: Digest) -> Self {
        Self([("sha256".to_owned(), digest.to_string())].into())
    }

    /// The SHA-256, if there is a well-formed one.
    pub fn sha256(&self) -> Option<Digest> {
        self.0.get("sha256")?.parse().ok()
    }

    /// Checks `bytes` against each hash of a known algorithm; there must be one.
    pub fn check(&self, bytes: &[u8]) -> Result<(), HashError> {
        let mut known = 0;
        if let Some(expected) = self.0.get("sha256") {
            known += 1;
            if !expected.eq_ignore_ascii_case(&Digest::of(bytes).to_string()) {
                return Err(HashError::Differs("sha256"));
            }
        }
        if let Some(expected) = self.0.get("sha512") {
            known += 1;
            if !expected.eq_ignore_ascii_case(&hex::encode(&Sha512::digest(bytes))) {
                return Err(HashError::Differs("sha512"));
            }
        }
        if known == 0 { Err(HashError::Unknown) } else { Ok(()) }
    }

    /// The hash that a consistent snapshot puts before the file's name: SHA-256 if there is one.
    pub fn prefix(&self) -> Option<&str> {
        let hash = self.0.get("sha256").or_else(|| self.0.get("sha512"))?;
        hash.bytes().all(|b| b.is_ascii_hexdigit()).then_some(hash.as_str())
    }
}

impl MetaFile {
    /// An entry for a document of the given version and bytes.
    pub fn of(version: u64, bytes: &[u8]) -> Self {
        let hashes = Hashes::sha256_only(Digest::of(bytes));
        Self { version, length: Some(bytes.len() as u64), hashes: Some(hashes), extra: Extra::new() }
    }
}

impl Targets {
    /// The role that is asked first for a target that this document does not list itself.
    pub fn delegate(&self, target: &str) -> Option<&DelegatedRole> {
        let mut roles = self.delegations.iter().flat_map(|delegations| &delegations.roles);
        roles.find(|role| names::speaks_for(role, target))
    }
}

impl Timestamp {
    /// The entry of the snapshot.
    pub fn snapshot(&self) -> Option<&MetaFile> {
        self.meta.get("snapshot.json")
    }
}

impl Body for Root {
    const TYPE: &'static str = "root";

    fn header(&self) -> &Header {
        &self.header
    }

    fn header_mut(&mut self) -> &mut Header {
        &mut self.header
    }

    fn check(&self) -> Result<(), String> {
        for name in TOP_LEVEL {
            check_role(name, self.roles.get(name).ok_or_else(|| format!("it appoints no {name} role"))?)?;
        }
        Ok(())
    }
}

impl Body for Timestamp {
    const TYPE: &'static str = "timestamp";

    fn header(&self) -> &Header {
        &self.header
    }

    fn header_mut(&mut self) -> &mut Header {
        &mut self.header
    }

    fn check(&self) -> Result<(), String> {
        check_version(self.snapshot().ok_or("it does not list snapshot.json")?.version)
    }
}

impl Body for Snapshot {
    const TYPE: &'static str = "snapshot";

    fn header(&self) -> &Header {
        &self.header
    }

    fn header_mut(&mut self) -> &mut Header {
        &mut self.header
    }

    fn check(&self) -> Result<(), String> {
        if !self.meta.contains_key("targets.json") {
            return Err("it does not list targets.json".into());
        }
        self.meta.values().try_for_each(|file| check_version(file.version))
    }
}

impl Body for Targets {
    const TYPE: &'static str = "targets";

    fn header(&self) -> &Header {
        &self.header
    }

    fn header_mut(&mut self) -> &mut Header {
        &mut self.header
    }

    fn check(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for role in self.delegations.iter().flat_map(|delegations| &delegations.roles) {
            let name: String = role.name.chars().take(80).collect();
            if !names::is_role_name(&role.name) {
                return Err(format!(
                    "it delegates to a role named {name:?}: empty, longer than {} bytes or a top-level role",
                    limits::ROLE_NAME
                ));
            }
            if !seen.insert(&role.name) {
                return Err(format!("it delegates to the role {name:?} twice"));
            }
            if role.paths.is_some() == role.path_hash_prefixes.is_some() {
                return Err(format!("role {name:?} has not one of paths and path_hash_prefixes"));
            }
            check_role(&name, &role.keys)?;
        }
        Ok(())
    }
}

fn check_version(version: u64) -> Result<(), String> {
    // The next version must be countable, and every other implementation able to read it as an integer.
    match version {
        1..=limits::VERSION => Ok(()),
        _ => Err(format!("version {version} is not between 1 and 2^53")),
    }
}

fn check_role(name: &str, role: &RoleKeys) -> Result<(), String> {
    if role.threshold == 0 {
        return Err(format!("role {name:?} needs no signature"));
    }
    let unique: BTreeSet<_> = role.keyids.iter().collect();
    match unique.len() == role.keyids.len() {
        true => Ok(()),
        false => Err(format!("role {name:?} lists a key twice")),
    }
}
