//! Which role speaks for a target: TUF 1.0, section 5.6.7.
//!
//! Roles are visited in pre-order, each only when its turn comes, and each is checked against the role that
//! delegates to it on this path, however it was checked before.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp as Time;

use super::client::{RoleStatus, Target};
use super::error::{Problem, TufError};
use super::limits;
use super::names;
use super::schema::{Delegations, Header, MetaFile, TargetFile, Targets};
use super::trusted::{Appointment, Trusted, accept_targets};

/// A search under way.
pub(super) struct Search {
    target: String,
    started: bool,
    /// Roles still to visit, the next one last.
    stack: Vec<Visit>,
    /// Roles that were asked, and how they stand.
    visited: BTreeMap<String, RoleStatus>,
    /// What was found, and the role that lists it.
    found: Option<(String, TargetFile)>,
}

/// A role to visit, on behalf of the role that delegates to it.
#[derive(Clone)]
struct Visit {
    delegations: Arc<Delegations>,
    index: usize,
    delegator: String,
}

impl Search {
    pub(super) fn new(target: &str) -> Self {
        Self {
            target: target.to_owned(),
            started: false,
            stack: Vec::new(),
            visited: BTreeMap::new(),
            found: None,
        }
    }

    /// Goes on with what is stored: the role to fetch next and its entry in the snapshot, or none when the
    /// search is over.
    pub(super) fn advance(
        &mut self,
        trusted: &Trusted,
        files: &BTreeMap<String, Vec<u8>>,
        now: Time,
    ) -> Result<Option<(String, MetaFile)>, TufError> {
        if !self.started {
            self.started = true;
            if let Some(targets) = &trusted.targets {
                self.look_into("targets", &targets.signed);
            }
        }
        while self.found.is_none() {
            let Some(name) = self.next_role()? else { break };
            let file = trusted.targets_file(&name).cloned();
            // Left out, it would let a role of lower priority speak in its place.
            let file = file.ok_or_else(|| TufError::new(names::stored_name(&name), Problem::NotListed))?;
            let usable = files.get(&names::stored_name(&name)).and_then(|bytes| {
                let visit = self.stack.last()?;
                accept_targets(bytes, &file, &visit.appointment()?, now).ok()
            });
            let Some(document) = usable else { return Ok(Some((name, file))) };
            self.leave(&name, &document.signed);
        }
        Ok(None)
    }

    /// Takes in the document of the role that [`Search::advance`] asked for, and tells its name.
    pub(super) fn accept(&mut self, trusted: &Trusted, bytes: &[u8], now: Time) -> Result<String, Problem> {
        let visit = self.stack.last().cloned().ok_or(Problem::NotListed)?;
        let name = visit.name().ok_or(Problem::NotListed)?.to_owned();
        let file = trusted.targets_file(&name).ok_or(Problem::NotListed)?;
        let appointment = visit.appointment().ok_or(Problem::NotListed)?;
        let document = accept_targets(bytes, file, &appointment, now)?;
        self.leave(&name, &document.signed);
        Ok(name)
    }

    /// The delegated roles that were asked so far.
    pub(super) fn visited(&self) -> &BTreeMap<String, RoleStatus> {
        &self.visited
    }

    /// What was found, when the search is over.
    pub(super) fn target(&self, consistent_snapshot: bool) -> Result<Target, TufError> {
        let error = |problem| TufError::new(self.target.chars().take(255).collect::<String>(), problem);
        let (role, file) = self.found.as_ref().ok_or_else(|| error(Problem::UnknownTarget))?;
        if file.hashes.prefix().is_none() {
            return Err(error(Problem::Unusable));
        }
        let fetch_path = names::fetch_path(&self.target, &file.hashes, consistent_snapshot);
        Ok(Target {
            path: self.target.clone(),
            role: role.clone(),
            length: file.length,
            hashes: file.hashes.clone(),
            fetch_path: fetch_path.ok_or_else(|| error(Problem::Unusable))?,
        })
    }

    /// The role on top of the stack, once those that were visited before are gone from it.
    fn next_role(&mut self) -> Result<Option<String>, TufError> {
        while let Some(visit) = self.stack.last() {
            match visit.name().filter(|name| !self.visited.contains_key(*name)) {
                // 5.6.7.1: visited already, and it did not list the target.
                None => self.stack.pop(),
                Some(_) if self.visited.len() >= limits::DELEGATIONS => {
                    let problem = Problem::TooManyDelegations(limits::DELEGATIONS);
                    return Err(TufError::new(self.target.chars().take(255).collect::<String>(), problem));
                }
                Some(name) => return Ok(Some(name.to_owned())),
            };
        }
        Ok(None)
    }

    fn leave(&mut self, name: &str, targets: &Targets) {
        self.stack.pop();
        let Header { version, expires, .. } = targets.header;
        self.visited.insert(name.to_owned(), RoleStatus { role: name.to_owned(), version, expires });
        self.look_into(name, targets);
    }

    /// Takes the target from the role that lists it, or puts the roles it delegates to on the stack.
    fn look_into(&mut self, name: &str, targets: &Targets) {
        if let Some(file) = targets.targets.get(&self.target) {
            self.found = Some((name.to_owned(), file.clone()));
            return;
        }
        let Some(delegations) = &targets.delegations else { return };
        let delegations = Arc::new(delegations.clone());
        let mut visits = Vec::new();
        for (index, role) in delegations.roles.iter().enumerate() {
            if names::speaks_for(role, &self.target) {
                visits.push(Visit { delegations: delegations.clone(), index, delegator: name.to_owned() });
                if role.terminating {
                    // 5.6.7.2.1: what waits elsewhere in the tree is not asked any more.
                    self.stack.clear();
                    break;
                }
            }
        }
        self.stack.extend(visits.into_iter().rev());
    }
}

impl Visit {
    fn name(&self) -> Option<&str> {
        self.delegations.roles.get(self.index).map(|role| role.name.as_str())
    }

    fn appointment(&self) -> Option<Appointment<'_>> {
        let role = &self.delegations.roles.get(self.index)?.keys;
        Some(Appointment { keys: &self.delegations.keys, role, delegator: &self.delegator })
    }
}
