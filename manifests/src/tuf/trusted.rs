//! The checks between one document and the next: TUF 1.0, sections 5.3 to 5.6, without the fetching.
//!
//! A document enters [`Trusted`] only through the function that makes all of its checks. Numbers in
//! comments are the specification's.

use std::collections::BTreeMap;

use jiff::Timestamp as Time;
use upright_keys::{KeyId, RoleKeys, TufKey};

use super::document::Document;
use super::error::Problem;
use super::schema::{Body, MetaFile, Root, Snapshot, Targets, Timestamp};
use super::seen::Seen;

/// What is trusted so far in a refresh.
pub(super) struct Trusted {
    pub(super) root: Document<Root>,
    pub(super) timestamp: Option<Document<Timestamp>>,
    pub(super) snapshot: Option<Document<Snapshot>>,
    pub(super) targets: Option<Document<Targets>>,
    /// What may not be older than it was, though the host may have lost the documents that say so.
    pub(super) seen: Option<Seen>,
}

/// Who appoints the keys that must have signed a document.
pub(super) struct Appointment<'a> {
    pub(super) keys: &'a BTreeMap<KeyId, TufKey>,
    pub(super) role: &'a RoleKeys,
    /// The delegating document, for messages.
    pub(super) delegator: &'a str,
}

impl Trusted {
    /// 5.2: the root that was stored or shipped with the host. Its expiry does not matter yet.
    pub(super) fn start(root: &[u8]) -> Result<Self, Problem> {
        let root = Document::sound_root(root)?;
        Ok(Self { root, timestamp: None, snapshot: None, targets: None, seen: None })
    }

    /// 5.3.4 to 5.3.7: the root that follows the trusted one.
    pub(super) fn follow_root(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        // 5.3.4: signed by those whom it appoints itself, and by those whom the trusted root appoints.
        let new = Document::sound_root(bytes)?;
        self.root.leads_to(&new)?;
        // 5.3.5: exactly the next version. 5.3.6: it may have expired, a newer one may follow.
        let next = next_version(&self.root);
        expect_not_older("root.json", new.version(), self.root.version())?;
        expect_version(&new, next)?;
        // 5.3.7
        self.root = new;
        Ok(())
    }

    /// 5.3.10: no newer root exists, so this one must be in force.
    pub(super) fn check_root(&self, now: Time) -> Result<(), Problem> {
        expect_unexpired(&self.root, now)
    }

    /// Takes over what the host has seen before; the root is the newest that the repository has.
    pub(super) fn remember(&mut self, seen: &Seen) -> Result<(), Problem> {
        // 5.3.5, of the chain as a whole
        expect_not_older("root.json", self.root.version(), seen.root)?;
        // 5.3.11
        self.seen = seen.is_signed_as(&self.root.signed).then(|| seen.clone());
        Ok(())
    }

    /// 5.4.2 to 5.4.4: a timestamp from the repository. False if it is the trusted one's version, and
    /// therefore not looked at any further.
    pub(super) fn update_timestamp(&mut self, bytes: &[u8], now: Time) -> Result<bool, Problem> {
        let new = Document::<Timestamp>::parse(bytes)?;
        // 5.4.2
        verify(&new, &appointed(&self.root.signed, "timestamp")?)?;
        if let Some(seen) = &self.seen {
            // 5.4.3.1 and 5.4.3.2, where there is no trusted one
            expect_not_older("timestamp.json", new.version(), seen.timestamp)?;
            let snapshot = new.signed.snapshot().map_or(0, |file| file.version);
            expect_not_older("snapshot.json", snapshot, seen.snapshot)?;
        }
        if let Some(old) = &self.timestamp {
            // 5.4.3.1: not older than the trusted one; the same version changes nothing, whatever it says.
            expect_not_older("timestamp.json", new.version(), old.version())?;
            if new.version() == old.version() {
                expect_unexpired(old, now)?;
                return Ok(false);
            }
            // 5.4.3.2: nor may the snapshot be older that it points at.
            let [new, old] =
                [&new, old].map(|timestamp| timestamp.signed.snapshot().map(|file| file.version));
            expect_not_older("snapshot.json", new.unwrap_or(0), old.unwrap_or(0))?;
        }
        // 5.4.4
        expect_unexpired(&new, now)?;
        self.timestamp = Some(new);
        Ok(true)
    }

    /// 5.5.2 to 5.5.6: the snapshot that the timestamp points at.
    pub(super) fn update_snapshot(
        &mut self,
        bytes: &[u8],
        file: &MetaFile,
        now: Time,
    ) -> Result<(), Problem> {
        // 5.5.2
        expect_listed(bytes, file)?;
        let new = Document::<Snapshot>::parse(bytes)?;
        // 5.5.3
        verify(&new, &appointed(&self.root.signed, "snapshot")?)?;
        // 5.5.4
        expect_version(&new, file.version)?;
        // 5.5.5: everything the trusted snapshot lists is still there, and not older.
        let trusted = self.snapshot.iter().flat_map(|snapshot| &snapshot.signed.meta);
        let trusted = trusted.map(|(name, file)| (name, file.version));
        let seen = self.seen.iter().flat_map(|seen| &seen.listed);
        for (name, old) in trusted.chain(seen.map(|(name, version)| (name, *version))) {
            let listed = new.signed.meta.get(name);
            let listed = listed.ok_or_else(|| Problem::Removed { role: name.chars().take(80).collect() })?;
            expect_not_older(name, listed.version, old)?;
        }
        // 5.5.6
        expect_unexpired(&new, now)?;
        self.snapshot = Some(new);
        Ok(())
    }

    /// Takes over a stored timestamp: its signatures must be those of the root's present keys, its expiry does
    /// not matter. False if it was signed by other keys, which is how a rotation of the role's keys shows.
    pub(super) fn restore_timestamp(&mut self, bytes: &[u8]) -> Result<bool, Problem> {
        self.timestamp = restored(bytes, &appointed(&self.root.signed, "timestamp")?)?;
        Ok(self.timestamp.is_some())
    }

    /// Like [`Trusted::restore_timestamp`], for the snapshot.
    pub(super) fn restore_snapshot(&mut self, bytes: &[u8]) -> Result<bool, Problem> {
        self.snapshot = restored(bytes, &appointed(&self.root.signed, "snapshot")?)?;
        Ok(self.snapshot.is_some())
    }

    /// The entry of the snapshot in the trusted timestamp.
    pub(super) fn snapshot_file(&self) -> Option<&MetaFile> {
        self.timestamp.as_ref()?.signed.snapshot()
    }

    /// The entry of a targets role in the trusted snapshot.
    pub(super) fn targets_file(&self, role: &str) -> Option<&MetaFile> {
        self.snapshot.as_ref()?.signed.meta.get(&format!("{role}.json"))
    }

    /// Who appoints the top-level targets role.
    pub(super) fn targets_appointment(&self) -> Result<Appointment<'_>, Problem> {
        appointed(&self.root.signed, "targets")
    }
}

/// A stored document that the present keys have signed; none if it names too few of them as its signers. One that names them
/// and does not hold was valid when it was stored, and is damaged: taking it for one from before a rotation would
/// make the host forget what it has seen. An id is not covered by the signature beside it, so a damaged one changes nothing:
/// a signature of a present key counts under any.
fn restored<T: Body>(bytes: &[u8], appointment: &Appointment<'_>) -> Result<Option<Document<T>>, Problem> {
    let stored = Document::<T>::parse(bytes)?;
    match stored.verify_under_any_id(appointment.keys, appointment.role) {
        Ok(()) => Ok(Some(stored)),
        Err(_) if stored.claims(appointment.role) as u64 >= appointment.role.threshold.into() => {
            verify(&stored, appointment).map(|()| Some(stored))
        }
        Err(_) => Ok(None),
    }
}

/// 5.6.2 to 5.6.5: a targets document, top-level or delegated.
pub(super) fn accept_targets(
    bytes: &[u8],
    file: &MetaFile,
    appointment: &Appointment<'_>,
    now: Time,
) -> Result<Document<Targets>, Problem> {
    // 5.6.2
    expect_listed(bytes, file)?;
    let new = Document::<Targets>::parse(bytes)?;
    // 5.6.3
    verify(&new, appointment)?;
    // 5.6.4
    expect_version(&new, file.version)?;
    // 5.6.5
    expect_unexpired(&new, now)?;
    Ok(new)
}

/// The version after a root's.
pub(super) fn next_version(root: &Document<Root>) -> u64 {
    // Versions end at 2^53.
    root.version().saturating_add(1)
}

/// Whether `bytes` have the length and the hashes under which a document is listed.
pub(super) fn expect_listed(bytes: &[u8], file: &MetaFile) -> Result<(), Problem> {
    let found = bytes.len() as u64;
    if let Some(expected) = file.length.filter(|length| *length != found) {
        return Err(Problem::Length { expected, found });
    }
    file.hashes.as_ref().map_or(Ok(()), |hashes| hashes.check(bytes)).map_err(Problem::Hash)
}

/// Whether it is still in force at `now`.
pub(super) fn expect_unexpired<T: Body>(document: &Document<T>, now: Time) -> Result<(), Problem> {
    match document.expires() {
        expired if expired <= now => Err(Problem::Expired { expired, now }),
        _ => Ok(()),
    }
}

pub(super) fn appointed<'a>(root: &'a Root, role: &str) -> Result<Appointment<'a>, Problem> {
    let role =
        root.roles.get(role).ok_or_else(|| Problem::Malformed(format!("no {role} role is appointed")))?;
    Ok(Appointment { keys: &root.keys, role, delegator: "root" })
}

pub(super) fn verify<T: Body>(document: &Document<T>, appointment: &Appointment<'_>) -> Result<(), Problem> {
    document.verify(appointment.keys, appointment.role).map_err(|error| Problem::Signatures {
        delegator: appointment.delegator.chars().take(80).collect(),
        error,
    })
}

fn expect_version<T: Body>(document: &Document<T>, expected: u64) -> Result<(), Problem> {
    match document.version() {
        found if found == expected => Ok(()),
        found => Err(Problem::Version { expected, found }),
    }
}

fn expect_not_older(what: &str, offered: u64, seen: u64) -> Result<(), Problem> {
    match offered < seen {
        true => Err(Problem::Rollback { what: what.chars().take(80).collect(), offered, seen }),
        false => Ok(()),
    }
}
