//! All delegated roles of a repository, for who publishes or audits one; a host searches for one target at a time.
//!
//! Roles are visited level by level, once each, and checked against the first that delegates to them: those that top-level
//! targets names come before any that they name themselves, so that no team takes over or hides another by delegating to
//! its name. One that cannot be had is told with its reason. Whether a document has expired is for the caller to judge.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::Timestamp as Time;

use super::{Answer, Client, Outside, Pending};
use crate::tuf::error::{Problem, TufError};
use crate::tuf::limits;
use crate::tuf::names;
use crate::tuf::schema::{Delegations, Targets};
use crate::tuf::trusted::{Appointment, accept_targets};

/// A delegated role, and what it says.
#[derive(Debug, Clone)]
pub struct Delegated {
    /// Its name.
    pub name: String,
    /// The role that delegates to it.
    pub delegator: String,
    /// Its document, or why there is none that can be used.
    pub document: Result<Targets, TufError>,
}

/// A role to visit, on behalf of the role that delegates to it.
struct Visit {
    delegations: Arc<Delegations>,
    index: usize,
    delegator: String,
}

impl Client {
    /// Visits all delegated roles, after bringing the top-level roles up to date if that has not been done. Fails only
    /// where the top-level roles do, or the outside.
    pub fn delegated<O: Outside>(&mut self, outside: &mut O) -> Result<Vec<Delegated>, O::Error> {
        self.refresh(outside)?;
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        let mut bytes = 0_u64;
        let top = self.trusted.targets.as_ref().map(|targets| visits("targets", &targets.signed));
        let mut waiting: VecDeque<Visit> = top.into_iter().flatten().collect();
        while let Some(Visit { delegations, index, delegator }) = waiting.pop_front() {
            let Some(role) = delegations.roles.get(index) else { continue };
            if !seen.insert(role.name.clone()) {
                continue;
            }
            let name = role.name.clone();
            if let Some(problem) = beyond(seen.len(), bytes) {
                let document = Err(TufError::new(names::stored_name(&name), problem));
                found.push(Delegated { name, delegator, document });
                break;
            }
            let appointment =
                Appointment { keys: &delegations.keys, role: &role.keys, delegator: &delegator };
            let document = self.read_role(&name, &appointment, outside)?;
            if let Ok((targets, length)) = &document {
                bytes = bytes.saturating_add(*length);
                waiting.extend(visits(&name, targets));
            }
            found.push(Delegated { name, delegator, document: document.map(|(targets, _)| targets) });
        }
        Ok(found)
    }

    /// A delegated role's document and its length, from the store or from outside, whether or not it has expired.
    fn read_role<O: Outside>(
        &mut self,
        role: &str,
        appointment: &Appointment<'_>,
        outside: &mut O,
    ) -> Result<Result<(Targets, u64), TufError>, O::Error> {
        let name = names::stored_name(role);
        let Some(file) = self.trusted.targets_file(role).cloned() else {
            return Ok(Err(TufError::new(name, Problem::NotListed)));
        };
        let judge = |bytes: &[u8]| accept_targets(bytes, &file, appointment, Time::MIN);
        if let Some((Ok(document), length)) = self.files.get(&name).map(|bytes| (judge(bytes), bytes.len())) {
            return Ok(Ok((document.signed, length as u64)));
        }
        if let Err(error) = self.fetch_listed(role, &file, limits::TARGETS) {
            return Ok(Err(error));
        }
        let Some(Pending { file: fetch, .. }) = self.pending.take() else {
            return Ok(Err(TufError::new(name, Problem::NotFound)));
        };
        let found = match outside.fetch(&fetch)? {
            Answer::NotFound => Err(Problem::NotFound),
            Answer::Bytes(bytes) if bytes.len() as u64 > fetch.max_length => {
                Err(Problem::TooLong { limit: fetch.max_length, found: bytes.len() as u64 })
            }
            Answer::Bytes(bytes) => judge(&bytes).map(|document| (document, bytes)),
        };
        Ok(match found {
            Ok((document, bytes)) => {
                let length = bytes.len() as u64;
                // For the searches that may follow.
                self.files.insert(name, bytes);
                Ok((document.signed, length))
            }
            Err(problem) => Err(TufError::new(fetch.name, problem)),
        })
    }
}

/// Why no more roles are visited after `roles` with `bytes` in all; none if more may be.
fn beyond(roles: usize, bytes: u64) -> Option<Problem> {
    let (too_many, limit) = (roles > limits::ROLES, limits::DELEGATED);
    let too_long = (bytes > limit).then_some(Problem::TooLong { limit, found: bytes });
    too_many.then_some(Problem::TooManyDelegations(limits::ROLES)).or(too_long)
}

/// The roles that `targets` delegates to, in order.
fn visits(delegator: &str, targets: &Targets) -> Vec<Visit> {
    let Some(delegations) = &targets.delegations else { return Vec::new() };
    let delegations = Arc::new(delegations.clone());
    let visit = |index| Visit { delegations: delegations.clone(), index, delegator: delegator.to_owned() };
    (0..delegations.roles.len()).map(visit).collect()
}
