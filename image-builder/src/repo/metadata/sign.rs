//! Signing: new versions, new expiries, and the files in the order of their upload.
//!
//! What lacks signatures is not an error as such: it may be carried to the machines that hold the other keys, and taken in
//! again with their signatures ([`Ceremony`]).

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp as Time};
use serde::Serialize;
use upright_keys::json::Json;
use upright_keys::{Envelope, EnvelopeError, KeyId, RoleKeys, Signer, TufKey};
use upright_manifests::tuf::limits;
use upright_manifests::tuf::names;
use upright_manifests::tuf::schema::{Body, Header, MetaFile, Root};

use super::{Draft, Metadata, MetadataError, MetadataFile};

/// Who signs, when, and what has been signed elsewhere.
pub struct Ceremony<'a> {
    /// Keys of any role, in any order; each signs what its roles need.
    pub signers: &'a [&'a dyn Signer],
    /// The time that lifetimes start from.
    pub now: Time,
    /// Documents that were signed on other machines, by file name; those that are not needed are passed over.
    pub staged: BTreeMap<String, Envelope>,
}

/// What came of signing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signed {
    /// All of it, in the order in which it must be uploaded.
    Complete(Vec<MetadataFile>),
    /// Nothing has changed, because these lack signatures.
    Lacking(Vec<Unsigned>),
}

/// A document that lacks signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsigned {
    /// Its role.
    pub role: String,
    /// The document, with the signatures that it has.
    pub file: MetadataFile,
    /// What is missing; not empty.
    pub lacks: Vec<Lack>,
}

/// Signatures that a document lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lack {
    /// Whose keys are meant: those of the published root or of the new one, or those that targets names.
    pub under: &'static str,
    /// How many valid signatures there are.
    pub have: usize,
    /// How many are needed.
    pub need: u32,
    /// The keys that could sign and have not.
    pub keys: Vec<KeyId>,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.keys.iter().map(KeyId::short).collect();
        let Self { under, have, need, .. } = self;
        write!(
            f,
            "it has {have} of the {need} signatures that {under} asks for; not from {}",
            keys.join(", ")
        )
    }
}

/// A document that will be signed, and by whom it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Need {
    /// The role.
    pub role: String,
    /// The version that the document will have.
    pub version: u64,
    /// Whose keys are meant.
    pub under: &'static str,
    /// How many of them must sign.
    pub threshold: u32,
    /// The keys.
    pub keys: Vec<KeyId>,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, version, under, threshold, .. } = self;
        let keys: Vec<String> = self.keys.iter().map(KeyId::short).collect();
        write!(f, "{role} version {version}: to be signed by {threshold} of {} ({under})", keys.join(" "))
    }
}

impl Metadata {
    /// Who must sign what has changed so far; the snapshot and the timestamp follow.
    pub fn needs(&self) -> Result<Vec<Need>, MetadataError> {
        let mut needs = Vec::new();
        let mut need = |role: &str, version: u64, under: &'static str, keys: &RoleKeys| {
            let (threshold, keys) = (keys.threshold, keys.keyids.clone());
            needs.push(Need { role: role.to_owned(), version, under, threshold, keys });
        };
        if self.root.changed {
            let version = follow("root", self.root.version(), false)?;
            let old = self.root.published.as_ref().map(|root| ("the published root", root));
            for (under, root) in old.into_iter().chain([("the new root", &self.root.body)]) {
                root.roles.get("root").into_iter().for_each(|keys| need("root", version, under, keys));
            }
        }
        let delegated =
            self.delegated.iter().filter(|(_, draft)| draft.changed).map(|(name, _)| name.as_str());
        let targets = self.targets.changed.then_some("targets");
        for role in targets.into_iter().chain(delegated) {
            let version = match role {
                "targets" => follow(role, self.targets.version(), self.starts_over())?,
                role => follow(role, self.listed_version(role), self.starts_over())?,
            };
            if let Some((keys, by)) = self.role(role) {
                need(role, version, if by == "root" { "the root" } else { by }, keys);
            }
        }
        Ok(needs)
    }

    /// Whether hosts forget the versions that they have seen of all roles but the root: they do when the keys of one of the
    /// online roles are replaced.
    fn starts_over(&self) -> bool {
        let Some(published) = &self.root.published else { return false };
        let keys = |root: &Root, role: &str| root.roles.get(role).map(|role| role.keyids.clone());
        ["snapshot", "timestamp"].iter().any(|role| keys(published, role) != keys(&self.root.body, role))
    }

    /// Signs whatever has changed, and with it the snapshot and the timestamp, as of `now`.
    ///
    /// `signers` may hold keys of any role, in any order; each signs what its roles need. Returns the files
    /// in the order in which they must be uploaded. Without a change, nothing is signed and nothing returned.
    /// When it fails, nothing has changed.
    pub fn sign(&mut self, signers: &[&dyn Signer], now: Time) -> Result<Vec<MetadataFile>, MetadataError> {
        match self.sign_with(&Ceremony { signers, now, staged: BTreeMap::new() })? {
            Signed::Complete(files) => Ok(files),
            Signed::Lacking(lacking) => lacking.first().map_or(Ok(Vec::new()), |first| Err(first.error())),
        }
    }

    /// The same together with other machines: what lacks signatures of root, targets or a delegated role is told.
    pub fn sign_with(&mut self, ceremony: &Ceremony<'_>) -> Result<Signed, MetadataError> {
        let mut next = self.clone();
        let signed = next.sign_in_order(ceremony)?;
        if let Signed::Complete(_) = signed {
            *self = next;
        }
        Ok(signed)
    }

    fn sign_in_order(&mut self, ceremony: &Ceremony<'_>) -> Result<Signed, MetadataError> {
        let mut desk = Desk { ceremony, files: Vec::new(), lacking: Vec::new() };
        let over = self.starts_over();
        if self.root.changed {
            // Signed by the keys that the published root appoints, and by those it appoints itself (TUF 1.0, section 6.1).
            let new = self.root.body.clone();
            let old = self.root.published.clone();
            let old =
                old.as_ref().map(|root| Authority::root("the published root", root, "root")).transpose()?;
            let authorities: Vec<_> =
                old.into_iter().chain([Authority::root("the new root", &new, "root")?]).collect();
            let version = follow("root", self.root.version(), false)?;
            desk.sign(&mut self.root, "root", version, self.lifetimes.root, &authorities)?;
        }
        let root = &self.root.body;
        if self.targets.changed {
            let authority = Authority::root("the root", root, "targets")?;
            let version = follow("targets", self.targets.version(), over)?;
            let made =
                desk.sign(&mut self.targets, "targets", version, self.lifetimes.targets, &[authority])?;
            self.snapshot.body.meta.insert("targets.json".into(), made);
            self.snapshot.changed = true;
        }
        let changed: Vec<String> =
            self.delegated.iter().filter(|(_, draft)| draft.changed).map(|(name, _)| name.clone()).collect();
        for role in changed {
            let version = follow(&role, self.listed_version(&role), over)?;
            let lifetime = self.lifetimes.delegated.get(&role).copied().unwrap_or(self.lifetimes.targets);
            let Some(delegations) = &self.targets.body.delegations else { continue };
            let appointed = delegations.roles.iter().find(|delegated| delegated.name == role);
            let appointed = appointed.ok_or_else(|| MetadataError::Role(role.clone()))?;
            let authority = Authority { under: "targets", keys: &delegations.keys, role: &appointed.keys };
            let Some(draft) = self.delegated.get_mut(&role) else { continue };
            let made = desk.sign(draft, &role, version, lifetime, &[authority])?;
            self.snapshot.body.meta.insert(format!("{role}.json"), made);
            self.snapshot.changed = true;
        }
        if !desk.lacking.is_empty() {
            return Ok(Signed::Lacking(desk.lacking));
        }
        if self.snapshot.changed {
            let authority = Authority::root("the root", root, "snapshot")?;
            let version = follow("snapshot", self.snapshot.version(), over)?;
            let lifetime = self.lifetimes.snapshot;
            let made = desk.sign(&mut self.snapshot, "snapshot", version, lifetime, &[authority])?;
            self.timestamp.body.meta.insert("snapshot.json".into(), made);
            self.timestamp.changed = true;
        }
        if self.timestamp.changed {
            let authority = Authority::root("the root", root, "timestamp")?;
            let version = follow("timestamp", self.timestamp.version(), over)?;
            desk.sign(&mut self.timestamp, "timestamp", version, self.lifetimes.timestamp, &[authority])?;
        }
        // Documents that say what all others are cannot wait for anyone: those might change meanwhile.
        match desk.lacking.first() {
            Some(unsigned) => Err(unsigned.error()),
            None => Ok(Signed::Complete(desk.files)),
        }
    }
}

/// Who appoints the keys that must sign.
struct Authority<'a> {
    under: &'static str,
    keys: &'a BTreeMap<KeyId, TufKey>,
    role: &'a RoleKeys,
}

impl<'a> Authority<'a> {
    fn root(under: &'static str, root: &'a Root, role: &str) -> Result<Self, MetadataError> {
        let appointed = root.roles.get(role).ok_or_else(|| MetadataError::Role(role.to_owned()))?;
        Ok(Self { under, keys: &root.keys, role: appointed })
    }
}

/// A signing under way.
struct Desk<'a> {
    ceremony: &'a Ceremony<'a>,
    files: Vec<MetadataFile>,
    lacking: Vec<Unsigned>,
}

impl Desk<'_> {
    /// Stamps and signs a document; its entry for the document that lists it.
    fn sign<T: Body + Clone>(
        &mut self,
        draft: &mut Draft<T>,
        role: &str,
        version: u64,
        lifetime: SignedDuration,
        authorities: &[Authority<'_>],
    ) -> Result<MetaFile, MetadataError> {
        let now = self.ceremony.now;
        let expires = now.checked_add(lifetime).map_err(|_| MetadataError::Calendar(now))?;
        *draft.body.header_mut() = Header::new(T::TYPE, version, expires);
        let name = names::served_name(role, (T::TYPE != "timestamp").then_some(version));
        let mut envelope = unsigned(role, &draft.body)?;
        if let Some(staged) = self.ceremony.staged.get(&name) {
            // All but the time at which it was staged must be what would be signed now.
            let stale = || MetadataError::Stale(name.clone());
            let staged_expires: Time = staged
                .signed
                .get("expires")
                .and_then(Json::as_str)
                .and_then(|t| t.parse().ok())
                .ok_or_else(stale)?;
            draft.body.header_mut().expires = staged_expires;
            envelope = unsigned(role, &draft.body)?;
            if envelope.signed != staged.signed || staged_expires <= now || staged_expires > expires {
                return Err(stale());
            }
            envelope.signatures = staged.signatures.clone();
            let bytes = envelope.signed.canonical();
            let valid = |authority: &Authority<'_>, id: &KeyId, signature: &str| {
                let key = authority.keys.get(id).filter(|_| authority.role.keyids.contains(id));
                key.is_some_and(|key| key.verify(&bytes, signature).is_ok())
            };
            envelope
                .signatures
                .retain(|id, signature| authorities.iter().any(|authority| valid(authority, id, signature)));
        }
        let appointed = |id: &KeyId| authorities.iter().any(|authority| authority.role.keyids.contains(id));
        for signer in self.ceremony.signers.iter().filter(|signer| appointed(&signer.public().tuf_id())) {
            let failed = |error| MetadataError::Sign { role: role.to_owned(), error };
            envelope.sign(*signer).map_err(failed)?;
        }
        let lacks: Vec<Lack> =
            authorities.iter().filter_map(|authority| lack(authority, &envelope)).collect();
        let file = MetadataFile { name, bytes: envelope.to_bytes() };
        let entry = MetaFile::of(version, &file.bytes);
        match lacks.is_empty() {
            true => self.files.push(file),
            false => self.lacking.push(Unsigned { role: role.to_owned(), file, lacks }),
        }
        draft.published = Some(draft.body.clone());
        draft.changed = false;
        Ok(entry)
    }
}

fn unsigned<T: Body>(role: &str, body: &T) -> Result<Envelope, MetadataError> {
    let write = |error: EnvelopeError| MetadataError::Write { role: role.to_owned(), error };
    let text = serde_json::to_vec(body).map_err(|_| write(EnvelopeError::Shape("it has no JSON form")))?;
    Ok(Envelope::unsigned(Json::parse(&text).map_err(|error| write(error.into()))?))
}

/// The signatures that are missing, if any are.
fn lack(authority: &Authority<'_>, envelope: &Envelope) -> Option<Lack> {
    let Authority { under, keys, role } = authority;
    let error = role.verify(keys, &envelope.signed.canonical(), envelope.signatures()).err()?;
    let signed = |id: &&KeyId| envelope.signatures.contains_key(*id);
    let keys = role.keyids.iter().filter(|id| !signed(id)).cloned().collect();
    Some(Lack { under, have: error.valid, need: error.threshold, keys })
}

impl Unsigned {
    /// The same as an error, for who has nobody else to ask.
    pub fn error(&self) -> MetadataError {
        let lacks: Vec<String> = self.lacks.iter().map(Lack::to_string).collect();
        MetadataError::Signers { role: self.role.clone(), lacks: lacks.join(", and ") }
    }
}

impl<T: Body> Draft<T> {
    /// The published version; 0 if there is none.
    fn version(&self) -> u64 {
        self.published.as_ref().map_or(0, |body| body.header().version)
    }
}

/// The version of the document of `role` that follows `version`. A thief of the online keys may have raised it as far as it
/// goes; then it starts again where hosts forget what they have seen.
fn follow(role: &str, version: u64, starts_over: bool) -> Result<u64, MetadataError> {
    match version < limits::VERSION {
        true => Ok(version + 1),
        false if starts_over => Ok(1),
        false => Err(MetadataError::LastVersion(role.to_owned())),
    }
}
