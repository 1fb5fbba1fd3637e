//! The client's workflow (TUF 1.0, section 5) as a state machine: what to fetch, what to keep, in which order.
//!
//! It reads no clock and does no I/O. The caller asks [`Client::step`] what is needed, does it, and asks
//! again; [`Client::refresh`] and [`Client::target`] are that loop. Numbers in comments are the
//! specification's.

mod walk;

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp as Time;
use serde::Serialize;

pub use walk::Delegated;

use super::document::{Document, Summary};
use super::error::{Problem, TufError};
use super::limits;
use super::names;
use super::schema::{Body, Hashes, MetaFile};
use super::search::Search;
use super::seen::Seen;
use super::trusted::{Trusted, accept_targets, expect_listed, expect_unexpired, next_version};
use crate::digest::Digest;

/// What a host has kept of earlier refreshes.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// The trusted root: the stored `root.json`, or the one that came with the image.
    pub root: Vec<u8>,
    /// All other stored files by name (`timestamp.json`, ...), byte for byte as they were handed out.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// What the client needs from the outside before it can go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// Fetch this file, and hand it to [`Client::supply`].
    Fetch(Fetch),
    /// Keep these bytes durably under this name, replacing what was there, before the next step.
    Persist {
        /// The file's name in the host's store; never holds a `/`.
        name: String,
        /// The document, byte for byte as it was fetched.
        bytes: Vec<u8>,
    },
    /// Remove the file of this name durably, if there is one, before the next step.
    Forget {
        /// The file's name in the host's store.
        name: String,
    },
    /// Nothing: the refresh or the search is complete.
    Done,
}

/// A file of the repository's `metadata/` folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// Its name, escaped for use in an address; never holds a `/`.
    pub name: String,
    /// The role it belongs to, as the documents spell it.
    pub role: String,
    /// The most bytes it may have. Read one byte more at most, and hand over what was read: the client
    /// refuses what is longer.
    pub max_length: u64,
}

/// What came of a [`Fetch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The file's bytes.
    Bytes(Vec<u8>),
    /// The server says that there is no such file.
    NotFound,
}

/// A target that the publisher has signed, and where to fetch it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The target path.
    pub path: String,
    /// The role that lists it: `targets`, or a delegated role's name.
    pub role: String,
    /// Its length in bytes.
    pub length: u64,
    /// Its hashes; at least one is of a known algorithm.
    pub hashes: Hashes,
    /// Where the repository serves it, relative to the root of the targets.
    pub fetch_path: String,
}

/// How a role stands, for status and warnings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleStatus {
    /// `root`, `timestamp`, `snapshot`, `targets`, or a delegated role's name.
    pub role: String,
    /// The version that is trusted.
    pub version: u64,
    /// From then on it is refused.
    pub expires: Time,
}

/// The repository and the store, for [`Client::refresh`] and [`Client::target`].
pub trait Outside {
    /// What a failure is told as.
    type Error: From<TufError>;

    /// Fetches a file of `metadata/`.
    fn fetch(&mut self, file: &Fetch) -> Result<Answer, Self::Error>;
    /// Keeps a file durably: written aside, synced, renamed, the folder synced.
    fn persist(&mut self, name: &str, bytes: &[u8]) -> Result<(), Self::Error>;
    /// Removes a file durably, if it is there.
    fn forget(&mut self, name: &str) -> Result<(), Self::Error>;
}

/// One refresh, and the searches for targets that follow it. The time is the caller's and stays the same
/// throughout (5.1).
pub struct Client {
    now: Time,
    trusted: Trusted,
    files: BTreeMap<String, Vec<u8>>,
    state: State,
    roots: u32,
    pending: Option<Pending>,
    effects: VecDeque<Need>,
    failure: Option<TufError>,
    found: Option<Target>,
    consulted: BTreeMap<String, RoleStatus>,
    /// What the host has seen before, as far as it remembers that beside the documents.
    seen: Option<Seen>,
    /// What was stored and is of no use any more.
    dropped: Vec<TufError>,
    /// A root to keep in the place of a damaged one, unless a newer one is.
    root_in_place: Option<Vec<u8>>,
}

/// A file that was asked for, and the length that is signed for it if there is one.
struct Pending {
    file: Fetch,
    signed_length: Option<u64>,
}

enum State {
    Root,
    Timestamp,
    Snapshot,
    Targets,
    Ready,
    Searching(Search),
}

impl Stored {
    /// What a host trusts that has `stored` and whose image came with `shipped`: the newer root of the two, so
    /// that an image can bring trust further, and never takes it back.
    ///
    /// A stored root that cannot be read is an error: trust that is lost is not guessed at.
    pub fn new(shipped: Option<Vec<u8>>, mut stored: BTreeMap<String, Vec<u8>>) -> Result<Self, TufError> {
        let damaged = |problem| TufError::new("root.json", Problem::Stored(Box::new(problem)));
        let root = match (stored.remove("root.json"), shipped) {
            (Some(stored), Some(shipped)) => {
                let stored_version = Summary::of(&stored).map_err(damaged)?.version;
                let newer = Summary::of(&shipped).is_ok_and(|summary| summary.version > stored_version);
                if newer { shipped } else { stored }
            }
            (Some(root), None) | (None, Some(root)) => root,
            (None, None) => return Err(TufError::new("root.json", Problem::NoTrust)),
        };
        Ok(Self { root, files: stored })
    }
}

impl Client {
    /// A client that starts from what the host has stored (5.2), at the time `now` (5.1).
    pub fn new(stored: Stored, now: Time) -> Result<Self, TufError> {
        let trusted = Trusted::start(&stored.root)
            .map_err(|problem| TufError::new("root.json", Problem::Stored(Box::new(problem))))?;
        Ok(Self {
            now,
            trusted,
            files: stored.files,
            state: State::Root,
            roots: 0,
            pending: None,
            effects: VecDeque::new(),
            failure: None,
            found: None,
            consulted: BTreeMap::new(),
            seen: None,
            dropped: Vec::new(),
            root_in_place: None,
        })
    }

    /// Like [`Self::new`] with [`Stored::new`], for a host that remembers what it has `seen`: what is damaged of the stored documents is
    /// fetched anew, since nothing older is taken than what was seen.
    pub fn remembering(
        shipped: Option<Vec<u8>>,
        mut stored: BTreeMap<String, Vec<u8>>,
        seen: Seen,
        now: Time,
    ) -> Result<Self, TufError> {
        let started = Stored::new(shipped.clone(), stored.clone()).and_then(|stored| Self::new(stored, now));
        let client = match (started, shipped) {
            (Err(damaged), Some(shipped)) if stored.remove("root.json").is_some() => {
                // The chain leads on from the root that was shipped, as far as it was followed before.
                let mut client = Self::new(Stored::new(Some(shipped.clone()), stored)?, now)?;
                client.root_in_place = Some(shipped);
                client.dropped.push(damaged);
                client
            }
            (started, _) => started?,
        };
        Ok(Self { seen: Some(seen), ..client })
    }

    /// Brings the top-level roles up to date.
    pub fn refresh<O: Outside>(&mut self, outside: &mut O) -> Result<(), O::Error> {
        loop {
            match self.step()? {
                Need::Fetch(file) => {
                    let answer = outside.fetch(&file)?;
                    self.supply(answer)?;
                }
                Need::Persist { name, bytes } => outside.persist(&name, &bytes)?,
                Need::Forget { name } => outside.forget(&name)?,
                Need::Done => return Ok(()),
            }
        }
    }

    /// Looks for a target, after bringing the top-level roles up to date if that has not been done.
    pub fn target<O: Outside>(&mut self, path: &str, outside: &mut O) -> Result<Target, O::Error> {
        self.refresh(outside)?;
        self.find(path);
        self.refresh(outside)?;
        Ok(self.found().ok_or_else(|| TufError::new(path, Problem::UnknownTarget))?)
    }

    /// What is needed next. A [`Need::Fetch`] is repeated until it is answered.
    pub fn step(&mut self) -> Result<Need, TufError> {
        loop {
            if let Some(failure) = &self.failure {
                return Err(failure.clone());
            }
            if let Some(effect) = self.effects.pop_front() {
                return Ok(effect);
            }
            if let Some(pending) = &self.pending {
                return Ok(Need::Fetch(pending.file.clone()));
            }
            if matches!(self.state, State::Ready) {
                return Ok(Need::Done);
            }
            let advanced = self.advance();
            self.settle(advanced)?;
        }
    }

    /// Answers the last [`Need::Fetch`]; without one, nothing happens.
    pub fn supply(&mut self, answer: Answer) -> Result<(), TufError> {
        let Some(Pending { file, signed_length }) = self.pending.take() else { return Ok(()) };
        let accepted = match answer {
            Answer::Bytes(bytes) if bytes.len() as u64 > file.max_length => {
                let found = bytes.len() as u64;
                Err(match signed_length {
                    Some(expected) => Problem::Length { expected, found },
                    None => Problem::TooLong { limit: file.max_length, found },
                })
            }
            Answer::Bytes(bytes) => self.accept(bytes),
            // Only the next root may be missing: that ends the chain.
            Answer::NotFound if matches!(self.state, State::Root) => {
                let finished = self.finish_root();
                return self.settle(finished);
            }
            Answer::NotFound => Err(Problem::NotFound),
        };
        self.settle(accepted.map_err(|problem| TufError::new(file.name, problem)))
    }

    /// Starts to look for a target; the following steps find it (5.6.7). Call it when the refresh is done.
    pub fn find(&mut self, path: &str) {
        self.found = None;
        if matches!(self.state, State::Ready) {
            self.state = State::Searching(Search::new(path));
        }
    }

    /// The target that the last search found.
    pub fn found(&mut self) -> Option<Target> {
        self.found.take()
    }

    /// The roles that are trusted at this point.
    pub fn status(&self) -> Vec<RoleStatus> {
        fn row<T: Body>(document: &Document<T>) -> RoleStatus {
            RoleStatus { role: T::TYPE.into(), version: document.version(), expires: document.expires() }
        }
        let Trusted { root, timestamp, snapshot, targets, .. } = &self.trusted;
        let others = [timestamp.as_ref().map(row), snapshot.as_ref().map(row), targets.as_ref().map(row)];
        [Some(row(root))].into_iter().chain(others).flatten().collect()
    }

    /// What a host is to remember beside the documents, once the top-level roles are up to date.
    pub fn seen(&self) -> Option<Seen> {
        Seen::of(&self.trusted)
    }

    /// The stored documents that were damaged, and are fetched anew.
    pub fn dropped(&self) -> &[TufError] {
        &self.dropped
    }

    /// The delegated roles that searches have relied on so far, by name.
    pub fn consulted(&self) -> impl Iterator<Item = &RoleStatus> {
        self.consulted.values()
    }

    /// A failed refresh stays failed; a failed search leaves the client ready for another.
    fn settle(&mut self, outcome: Result<(), TufError>) -> Result<(), TufError> {
        let Err(error) = outcome else { return Ok(()) };
        self.pending = None;
        match self.state {
            State::Searching(_) => self.state = State::Ready,
            _ => self.failure = Some(error.clone()),
        }
        Err(error)
    }

    /// Goes on from a state in which nothing is pending.
    fn advance(&mut self) -> Result<(), TufError> {
        match &mut self.state {
            State::Root => {
                // 5.3.2, 5.3.3
                let name = names::served_name("root", Some(next_version(&self.trusted.root)));
                self.fetch(name, "root", None, limits::ROOT);
                Ok(())
            }
            State::Timestamp => {
                // 5.4.1
                let name = names::served_name("timestamp", None);
                self.fetch(name, "timestamp", None, limits::TIMESTAMP);
                Ok(())
            }
            State::Snapshot => self.advance_snapshot(),
            State::Targets => self.advance_targets(),
            State::Ready => Ok(()),
            State::Searching(_) => self.advance_search(),
        }
    }

    /// Takes in the document that was fetched.
    fn accept(&mut self, bytes: Vec<u8>) -> Result<(), Problem> {
        match &mut self.state {
            State::Root => {
                self.roots += 1;
                if self.roots > limits::ROOTS {
                    return Err(Problem::TooManyRoots(limits::ROOTS));
                }
                self.trusted.follow_root(&bytes)?;
                // 5.3.8; 5.3.9: the state stays, so that the next root is looked for.
                self.persist("root", bytes);
                self.root_in_place = None;
            }
            State::Timestamp => {
                if self.trusted.update_timestamp(&bytes, self.now)? {
                    // 5.4.5
                    self.persist("timestamp", bytes);
                }
                self.state = State::Snapshot;
            }
            State::Snapshot => {
                let file = self.trusted.snapshot_file().cloned().ok_or(Problem::NotListed)?;
                self.trusted.update_snapshot(&bytes, &file, self.now)?;
                // 5.5.7
                self.persist("snapshot", bytes);
                self.state = State::Targets;
            }
            State::Targets => {
                let file = self.trusted.targets_file("targets").ok_or(Problem::NotListed)?;
                let appointment = self.trusted.targets_appointment()?;
                let targets = accept_targets(&bytes, file, &appointment, self.now)?;
                self.trusted.targets = Some(targets);
                // 5.6.6
                self.persist("targets", bytes);
                self.state = State::Ready;
            }
            State::Searching(search) => {
                let role = search.accept(&self.trusted, &bytes, self.now)?;
                self.persist(&role, bytes);
            }
            State::Ready => {}
        }
        Ok(())
    }

    fn finish_root(&mut self) -> Result<(), TufError> {
        // Before anything that is stored is judged by the root, which has to be the one that it was kept under, or a later one.
        if let Some(seen) = &self.seen {
            self.trusted.remember(seen).map_err(|problem| TufError::new("root.json", problem))?;
        }
        // 5.3.10
        self.trusted.check_root(self.now).map_err(|problem| TufError::new("root.json", problem))?;
        if let Some(bytes) = self.root_in_place.take() {
            self.persist("root", bytes);
        }
        // 5.3.11: a role whose keys were rotated is recognised by stored documents that name others as their
        // signers. Unlike a comparison of the old root with the new, that also holds when power went
        // after the new root was kept.
        let timestamp = self.restore("timestamp.json", Trusted::restore_timestamp)?;
        let snapshot = self.restore("snapshot.json", Trusted::restore_snapshot)?;
        if !(timestamp && snapshot) {
            (self.trusted.timestamp, self.trusted.snapshot) = (None, None);
            for name in ["timestamp.json", "snapshot.json"] {
                if self.files.remove(name).is_some() {
                    self.effects.push_back(Need::Forget { name: name.into() });
                }
            }
        }
        self.state = State::Timestamp;
        Ok(())
    }

    /// Takes over a stored document; nothing stored is as good as valid. Damaged is an error, unless the host remembers what it has seen:
    /// then it is as good as nothing, and what is fetched takes its place.
    fn restore(
        &mut self,
        name: &str,
        restore: fn(&mut Trusted, &[u8]) -> Result<bool, Problem>,
    ) -> Result<bool, TufError> {
        let Some(bytes) = self.files.get(name) else { return Ok(true) };
        let restored = restore(&mut self.trusted, bytes)
            .map_err(|problem| TufError::new(name, Problem::Stored(Box::new(problem))));
        match restored {
            Err(damaged) if self.seen.is_some() => {
                self.files.remove(name);
                self.dropped.push(damaged);
                // What is remembered stands in for it; where the keys were replaced, it counts no more than what other keys have signed.
                Ok(self.trusted.seen.is_some())
            }
            restored => restored,
        }
    }

    fn advance_snapshot(&mut self) -> Result<(), TufError> {
        let file = self.trusted.snapshot_file().cloned();
        let file = file.ok_or_else(|| TufError::new("snapshot.json", Problem::NotListed))?;
        let current = self.files.get("snapshot.json").zip(self.trusted.snapshot.as_ref());
        let is_current = current.is_some_and(|(bytes, snapshot)| {
            snapshot.version() == file.version
                && expect_listed(bytes, &file).is_ok()
                && expect_unexpired(snapshot, self.now).is_ok()
        });
        if is_current {
            self.state = State::Targets;
            return Ok(());
        }
        // 5.5.1
        self.fetch_listed("snapshot", &file, limits::SNAPSHOT)
    }

    fn advance_targets(&mut self) -> Result<(), TufError> {
        let listed = self.trusted.targets_file("targets").cloned();
        let file = listed.ok_or_else(|| TufError::new("targets.json", Problem::NotListed))?;
        if let Some(bytes) = self.files.get("targets.json") {
            let appointment =
                self.trusted.targets_appointment().map_err(|problem| TufError::new("root.json", problem))?;
            if let Ok(targets) = accept_targets(bytes, &file, &appointment, self.now) {
                self.trusted.targets = Some(targets);
                self.state = State::Ready;
                return Ok(());
            }
        }
        // 5.6.1
        self.fetch_listed("targets", &file, limits::TARGETS)
    }

    fn advance_search(&mut self) -> Result<(), TufError> {
        let State::Searching(search) = &mut self.state else { return Ok(()) };
        match search.advance(&self.trusted, &self.files, self.now)? {
            Some((role, file)) => self.fetch_listed(&role, &file, limits::TARGETS),
            None => {
                self.consulted.extend(search.visited().clone());
                let target = search.target(self.trusted.root.signed.consistent_snapshot)?;
                self.found = Some(target);
                self.state = State::Ready;
                Ok(())
            }
        }
    }

    fn fetch_listed(&mut self, role: &str, file: &MetaFile, limit: u64) -> Result<(), TufError> {
        // 5.3.12: a consistent snapshot serves documents under their version.
        let version = self.trusted.root.signed.consistent_snapshot.then_some(file.version);
        let name = names::served_name(role, version);
        match file.length {
            Some(found) if found > limit => Err(TufError::new(name, Problem::TooLong { limit, found })),
            signed_length => {
                self.fetch(name, role, signed_length, limit);
                Ok(())
            }
        }
    }

    fn fetch(&mut self, name: String, role: &str, signed_length: Option<u64>, limit: u64) {
        let file = Fetch { name, role: role.into(), max_length: signed_length.unwrap_or(limit) };
        self.pending = Some(Pending { file, signed_length });
    }

    fn persist(&mut self, role: &str, bytes: Vec<u8>) {
        let name = names::stored_name(role);
        if role != "root" {
            self.files.insert(name.clone(), bytes.clone());
        }
        self.effects.push_back(Need::Persist { name, bytes });
    }
}

impl Target {
    /// Its SHA-256.
    pub fn sha256(&self) -> Result<Digest, TufError> {
        self.hashes.sha256().ok_or_else(|| TufError::new(&self.path, Problem::Unusable))
    }
}
