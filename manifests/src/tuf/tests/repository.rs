//! A repository whose every document can be bent, and the host that follows it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp as Time};
use upright_keys::json::Json;
use upright_keys::{Envelope, KeyPair, RoleKeys, Signer};

use crate::digest::Digest;
use crate::tuf::schema::*;
use crate::tuf::{Answer, Client, Delegated, Fetch, Outside, Seen, Stored, Target, TufError};

pub(super) fn now() -> Time {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

pub(super) fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

pub(super) fn key(seed: u8) -> KeyPair {
    KeyPair::from_seed([seed; 32])
}

/// The seeds of the keys that sign for each role at first.
const SEEDS: [(&str, u8); 4] = [("root", 1), ("targets", 2), ("snapshot", 3), ("timestamp", 4)];

pub(super) struct Repository {
    pub(super) root: Root,
    pub(super) targets: BTreeMap<String, Targets>,
    pub(super) snapshot: Snapshot,
    pub(super) timestamp: Timestamp,
    /// Seeds of the keys that sign for each role.
    pub(super) signers: BTreeMap<String, Vec<u8>>,
    pub(super) served: BTreeMap<String, Vec<u8>>,
}

impl Repository {
    /// Version 1 of everything, with one target.
    pub(super) fn new() -> Self {
        let header = |kind| Header::new(kind, 0, now() + days(30));
        let root = Root {
            header: header("root"),
            consistent_snapshot: true,
            keys: BTreeMap::new(),
            roles: BTreeMap::new(),
            extra: Extra::new(),
        };
        let mut repository = Self {
            root,
            targets: [("targets".to_owned(), empty_targets())].into(),
            snapshot: Snapshot { header: header("snapshot"), meta: BTreeMap::new(), extra: Extra::new() },
            timestamp: Timestamp { header: header("timestamp"), meta: BTreeMap::new(), extra: Extra::new() },
            signers: BTreeMap::new(),
            served: BTreeMap::new(),
        };
        for (role, seed) in SEEDS {
            repository.appoint(role, &[seed], 1);
        }
        repository.add_target("targets", "file", b"content");
        repository.publish_root();
        repository.publish();
        repository
    }

    /// Appoints the keys of `seeds` to a top-level role; the next documents are signed with them.
    pub(super) fn appoint(&mut self, role: &str, seeds: &[u8], threshold: u32) {
        let keys = seeds.iter().map(|seed| *key(*seed).public());
        self.root.keys.extend(keys.clone().map(|key| (key.tuf_id(), key.to_tuf())));
        self.root.roles.insert(role.into(), RoleKeys::new(keys.map(|key| key.tuf_id()).collect(), threshold));
        self.signers.insert(role.into(), seeds.to_vec());
    }

    pub(super) fn add_target(&mut self, role: &str, path: &str, content: &[u8]) {
        let hashes = Hashes::sha256_only(Digest::of(content));
        let file = TargetFile { length: content.len() as u64, hashes, extra: Extra::new() };
        self.targets.get_mut(role).unwrap().targets.insert(path.into(), file);
    }

    /// Has `delegator` delegate `paths` to `role`, signed with the key of `seed`.
    pub(super) fn delegate(
        &mut self,
        delegator: &str,
        role: &str,
        paths: &[&str],
        terminating: bool,
        seed: u8,
    ) {
        let public = *key(seed).public();
        let empty = || Delegations { keys: BTreeMap::new(), roles: Vec::new(), extra: Extra::new() };
        let delegations = self.targets.get_mut(delegator).unwrap().delegations.get_or_insert_with(empty);
        delegations.keys.insert(public.tuf_id(), public.to_tuf());
        delegations.roles.push(DelegatedRole {
            name: role.into(),
            terminating,
            paths: Some(paths.iter().map(|path| (*path).to_owned()).collect()),
            path_hash_prefixes: None,
            keys: RoleKeys::new(vec![public.tuf_id()], 1),
        });
        self.targets.entry(role.into()).or_insert_with(empty_targets);
        self.signers.insert(role.into(), vec![seed]);
    }

    /// Publishes the next root, signed by the keys of the last one too.
    pub(super) fn publish_root(&mut self) {
        self.root.header.version += 1;
        let mut seeds = vec![SEEDS[0].1];
        seeds.extend(&self.signers["root"]);
        let bytes = signed(&self.root, &seeds);
        self.served.insert(format!("{}.root.json", self.root.header.version), bytes);
    }

    /// Publishes the next version of all targets documents, of the snapshot and of the timestamp.
    pub(super) fn publish(&mut self) {
        for role in self.targets.keys().cloned().collect::<Vec<_>>() {
            self.targets.get_mut(&role).unwrap().header.version += 1;
            self.serve_targets(&role);
        }
        self.publish_snapshot();
    }

    pub(super) fn publish_snapshot(&mut self) {
        self.snapshot.header.version += 1;
        self.serve_snapshot();
        self.publish_timestamp();
    }

    pub(super) fn publish_timestamp(&mut self) {
        self.timestamp.header.version += 1;
        self.serve_timestamp();
    }

    pub(super) fn serve_targets(&mut self, role: &str) {
        let body = &self.targets[role];
        let bytes = signed(body, &self.signers[role]);
        self.snapshot.meta.insert(format!("{role}.json"), MetaFile::of(body.header.version, &bytes));
        self.served.insert(format!("{}.{role}.json", body.header.version), bytes);
    }

    pub(super) fn serve_snapshot(&mut self) {
        let bytes = signed(&self.snapshot, &self.signers["snapshot"]);
        let version = self.snapshot.header.version;
        self.timestamp.meta.insert("snapshot.json".into(), MetaFile::of(version, &bytes));
        self.served.insert(format!("{version}.snapshot.json"), bytes);
    }

    pub(super) fn serve_timestamp(&mut self) {
        let bytes = signed(&self.timestamp, &self.signers["timestamp"]);
        self.served.insert("timestamp.json".into(), bytes);
    }
}

pub(super) fn empty_targets() -> Targets {
    Targets {
        header: Header::new("targets", 0, now() + days(30)),
        targets: BTreeMap::new(),
        delegations: None,
        extra: Extra::new(),
    }
}

pub(super) fn signed<T: Body>(body: &T, seeds: &[u8]) -> Vec<u8> {
    let json = Json::parse(&serde_json::to_vec(body).unwrap()).unwrap();
    let mut envelope = Envelope::unsigned(json);
    seeds.iter().for_each(|seed| envelope.sign(&key(*seed)).unwrap());
    envelope.to_bytes()
}

/// A host: what it has stored, what it asked for, and after how many effects its power goes.
#[derive(Default, Clone)]
pub(super) struct Host {
    pub(super) stored: BTreeMap<String, Vec<u8>>,
    pub(super) requests: Vec<String>,
    pub(super) effects: usize,
    pub(super) power_cut_after: Option<usize>,
    /// What it remembers beside the documents, if it does.
    pub(super) seen: Option<Seen>,
    /// The documents that the last refresh found damaged.
    pub(super) dropped: Vec<String>,
}

/// A host on its way to a repository.
struct Visit<'a> {
    host: &'a mut Host,
    served: &'a BTreeMap<String, Vec<u8>>,
}

impl Host {
    /// A host that has followed the repository up to here.
    pub(super) fn following(repository: &Repository) -> Self {
        let mut host = Self::default();
        host.refresh(repository).unwrap();
        host.requests.clear();
        host
    }

    pub(super) fn client(&self, repository: &Repository, now: Time) -> Result<Client, TufError> {
        let shipped = repository.served.get("1.root.json").cloned();
        match self.seen.clone() {
            None => Client::new(Stored::new(shipped, self.stored.clone())?, now),
            Some(seen) => Client::remembering(shipped, self.stored.clone(), seen, now),
        }
    }

    pub(super) fn refresh(&mut self, repository: &Repository) -> Result<(), TufError> {
        self.refresh_at(repository, now())
    }

    pub(super) fn refresh_at(&mut self, repository: &Repository, now: Time) -> Result<(), TufError> {
        let mut client = self.client(repository, now)?;
        client.refresh(&mut Visit { host: self, served: &repository.served })?;
        self.dropped = client.dropped().iter().map(|error| error.document.clone()).collect();
        // Who remembered goes on to.
        self.seen = self.seen.take().and_then(|_| client.seen());
        Ok(())
    }

    /// A host that has followed the repository up to here, and also remembers beside the documents what it has seen.
    pub(super) fn remembering(repository: &Repository) -> Self {
        let mut host = Self::following(repository);
        host.seen = host
            .client(repository, now())
            .and_then(|mut client| {
                client.refresh(&mut Visit { host: &mut host, served: &repository.served })?;
                Ok(client.seen())
            })
            .unwrap();
        host.requests.clear();
        host
    }

    pub(super) fn target(&mut self, repository: &Repository, path: &str) -> Result<Target, TufError> {
        let mut client = self.client(repository, now())?;
        client.target(path, &mut Visit { host: self, served: &repository.served })
    }

    pub(super) fn delegated(&mut self, repository: &Repository) -> Vec<Delegated> {
        let mut client = self.client(repository, now()).unwrap();
        client.delegated(&mut Visit { host: self, served: &repository.served }).unwrap()
    }

    pub(super) fn version(&self, name: &str) -> Option<u64> {
        self.stored.get(name).map(|bytes| crate::tuf::Summary::of(bytes).unwrap().version)
    }

    /// Counts an effect; false when the power is gone before it.
    fn has_power(&mut self) -> bool {
        self.effects += 1;
        self.power_cut_after.is_none_or(|after| self.effects <= after)
    }
}

/// The error of a host whose power went.
pub(super) const POWER_CUT: &str = "power cut";

fn power_cut() -> TufError {
    TufError::new(POWER_CUT, crate::tuf::Problem::NotFound)
}

impl Outside for Visit<'_> {
    type Error = TufError;

    fn fetch(&mut self, file: &Fetch) -> Result<Answer, TufError> {
        self.host.requests.push(file.name.clone());
        Ok(self.served.get(&file.name).cloned().map_or(Answer::NotFound, Answer::Bytes))
    }

    fn persist(&mut self, name: &str, bytes: &[u8]) -> Result<(), TufError> {
        if !self.host.has_power() {
            return Err(power_cut());
        }
        self.host.stored.insert(name.into(), bytes.to_vec());
        Ok(())
    }

    fn forget(&mut self, name: &str) -> Result<(), TufError> {
        if !self.host.has_power() {
            return Err(power_cut());
        }
        self.host.stored.remove(name);
        Ok(())
    }
}
