//! Signing: new versions, new expiries, and the files in the order of their upload.

use jiff::{SignedDuration, Timestamp as Time};
use upright_keys::json::Json;
use upright_keys::{Envelope, EnvelopeError, RoleKeys, Signer};
use upright_manifests::tuf::names;
use upright_manifests::tuf::schema::{Body, Header, MetaFile, Root};

use super::{Draft, Metadata, MetadataError, MetadataFile};

impl Metadata {
    /// Signs whatever has changed, and with it the snapshot and the timestamp, as of `now`.
    ///
    /// `signers` may hold keys of any role, in any order; each signs what its roles need. Returns the files
    /// in the order in which they must be uploaded. Without a change, nothing is signed and nothing returned.
    /// When it fails, nothing has changed.
    pub fn sign(&mut self, signers: &[&dyn Signer], now: Time) -> Result<Vec<MetadataFile>, MetadataError> {
        let mut next = self.clone();
        let files = next.sign_in_order(signers, now)?;
        *self = next;
        Ok(files)
    }

    fn sign_in_order(
        &mut self,
        signers: &[&dyn Signer],
        now: Time,
    ) -> Result<Vec<MetadataFile>, MetadataError> {
        let mut files = Vec::new();
        if self.root.changed {
            files.push(self.sign_root(signers, now)?);
        }
        let root = &self.root.body;
        if self.targets.changed {
            let bytes = finish(&mut self.targets, root, signers, now, self.lifetimes.targets)?;
            self.snapshot.body.meta.insert("targets.json".into(), entry(&self.targets, &bytes));
            self.snapshot.changed = true;
            files.push(file(&self.targets, bytes));
        }
        if self.snapshot.changed {
            let bytes = finish(&mut self.snapshot, root, signers, now, self.lifetimes.snapshot)?;
            self.timestamp.body.meta.insert("snapshot.json".into(), entry(&self.snapshot, &bytes));
            self.timestamp.changed = true;
            files.push(file(&self.snapshot, bytes));
        }
        if self.timestamp.changed {
            let bytes = finish(&mut self.timestamp, root, signers, now, self.lifetimes.timestamp)?;
            files.push(MetadataFile { name: names::served_name("timestamp", None), bytes });
        }
        Ok(files)
    }

    /// Signs the snapshot and the timestamp anew, so that they do not expire; targets and root only if they
    /// have changed.
    pub fn refresh(
        &mut self,
        signers: &[&dyn Signer],
        now: Time,
    ) -> Result<Vec<MetadataFile>, MetadataError> {
        let mut next = self.clone();
        next.snapshot.changed = true;
        let files = next.sign_in_order(signers, now)?;
        *self = next;
        Ok(files)
    }

    /// A new root is signed by the keys that the published one appoints, and by those it appoints itself.
    fn sign_root(&mut self, signers: &[&dyn Signer], now: Time) -> Result<MetadataFile, MetadataError> {
        let draft = &mut self.root;
        draft.stamp(now, self.lifetimes.root)?;
        let old = draft.published.as_ref();
        let authorities: Vec<_> = old
            .map(|old| ("the published root", old))
            .into_iter()
            .chain([("the new root", &draft.body)])
            .collect();
        let bytes = sign_body("root", &draft.body, &authorities, signers)?;
        draft.published = Some(draft.body.clone());
        draft.changed = false;
        Ok(file(draft, bytes))
    }
}

impl<T: Body> Draft<T> {
    fn stamp(&mut self, now: Time, lifetime: SignedDuration) -> Result<(), MetadataError> {
        let version = self.published.as_ref().map_or(0, |body| body.header().version) + 1;
        let expires = now.checked_add(lifetime).map_err(|_| MetadataError::Calendar(now))?;
        *self.body.header_mut() = Header::new(T::TYPE, version, expires);
        Ok(())
    }
}

/// Stamps and signs a document whose keys the root appoints.
fn finish<T: Body + Clone>(
    draft: &mut Draft<T>,
    root: &Root,
    signers: &[&dyn Signer],
    now: Time,
    lifetime: SignedDuration,
) -> Result<Vec<u8>, MetadataError> {
    draft.stamp(now, lifetime)?;
    let bytes = sign_body(T::TYPE, &draft.body, &[("the root", root)], signers)?;
    draft.published = Some(draft.body.clone());
    draft.changed = false;
    Ok(bytes)
}

fn sign_body<T: Body>(
    role: &'static str,
    body: &T,
    authorities: &[(&'static str, &Root)],
    signers: &[&dyn Signer],
) -> Result<Vec<u8>, MetadataError> {
    let write = |error: EnvelopeError| MetadataError::Write { role, error };
    let text = serde_json::to_vec(body).map_err(|_| write(EnvelopeError::Shape("it has no JSON form")))?;
    let mut envelope = Envelope::unsigned(Json::parse(&text).map_err(|error| write(error.into()))?);
    let appointed = |signer: &&&dyn Signer| {
        let id = signer.public().tuf_id();
        authorities.iter().any(|(_, root)| keys_of(root, role).is_some_and(|keys| keys.keyids.contains(&id)))
    };
    for signer in signers.iter().filter(appointed) {
        envelope.sign(*signer).map_err(|error| MetadataError::Sign { role, error })?;
    }
    let canonical = envelope.signed.canonical();
    for (under, root) in authorities {
        let keys = keys_of(root, role).ok_or_else(|| MetadataError::Role(role.to_owned()))?;
        keys.verify(&root.keys, &canonical, envelope.signatures()).map_err(|error| {
            let unsigned = keys.keyids.iter().filter(|id| !envelope.signatures.contains_key(id));
            let missing = unsigned.map(|id| id.short()).collect::<Vec<_>>().join(", ");
            MetadataError::Signers { role, under, error, missing }
        })?;
    }
    Ok(envelope.to_bytes())
}

fn keys_of<'a>(root: &'a Root, role: &str) -> Option<&'a RoleKeys> {
    root.roles.get(role)
}

fn entry<T: Body>(draft: &Draft<T>, bytes: &[u8]) -> MetaFile {
    MetaFile::of(draft.body.header().version, bytes)
}

fn file<T: Body>(draft: &Draft<T>, bytes: Vec<u8>) -> MetadataFile {
    MetadataFile { name: names::served_name(T::TYPE, Some(draft.body.header().version)), bytes }
}
