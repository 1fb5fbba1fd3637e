//! Delegations: roles of teams, which speak for some paths and for no others.
//!
//! Only top-level targets' own delegations are changed. Those of other publishers stay as they are.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp as Time;
use upright_keys::{KeyId, RoleKeys};
use upright_manifests::tuf::schema::{DelegatedRole, Delegations, Extra, Header, Targets};

use super::{Draft, Metadata, MetadataError, RoleSpec};

impl Metadata {
    /// Has `role` speak for the target paths that match `paths`, and nobody after it (a terminating delegation). It gets a new
    /// document, which lists nothing if it is new or its present one cannot be used.
    pub fn delegate(&mut self, role: &str, spec: &RoleSpec, paths: &[String]) -> Result<(), MetadataError> {
        let ids = spec.ids(role)?;
        let keys = RoleKeys::new(ids.into_iter().collect(), spec.threshold);
        let old = self.delegation(role).cloned();
        let delegations = self.targets.body.delegations.get_or_insert_with(no_delegations);
        for key in &spec.keys {
            // Another's role may use the same key, with a note of its own.
            delegations.keys.entry(key.tuf_id()).or_insert_with(|| key.to_tuf());
        }
        let new = DelegatedRole {
            name: role.to_owned(),
            terminating: true,
            paths: Some(paths.to_vec()),
            path_hash_prefixes: None,
            keys: RoleKeys { extra: old.iter().flat_map(|old| old.keys.extra.clone()).collect(), ..keys },
        };
        match delegations.roles.iter_mut().find(|delegated| delegated.name == role) {
            Some(delegated) => *delegated = new,
            // Before the others: its patterns are narrow, and a wide one that ends the search would hide it.
            None => delegations.roles.insert(0, new),
        }
        forget_keys(delegations, old.as_ref());
        self.targets.changed = true;
        self.unusable.remove(role);
        self.delegated.entry(role.to_owned()).or_insert_with(|| Draft::new(nothing()));
        self.renew(role)
    }

    /// Ends a delegation, and with it what the role listed. The snapshot goes on listing its document, because hosts take
    /// one that is left out for an attack.
    pub fn end_delegation(&mut self, role: &str) {
        let old = self.delegation(role).cloned();
        let Some(delegations) = &mut self.targets.body.delegations else { return };
        delegations.roles.retain(|delegated| delegated.name != role);
        forget_keys(delegations, old.as_ref());
        if delegations.roles.is_empty() && delegations.extra.is_empty() {
            self.targets.body.delegations = None;
        }
        self.targets.changed = true;
        self.delegated.remove(role);
        self.unusable.remove(role);
    }

    /// Moves what `targets` and `roles` list, and others of `roles` now speak for, to those; `before` is who spoke for it
    /// so far. What one of `roles` lists and does not speak for goes away.
    pub fn settle(&mut self, before: &Self, roles: &[String]) -> Result<(), MetadataError> {
        let named = |role: &str| roles.iter().any(|named| named == role);
        let mut moves = Vec::new();
        for (role, path, entry) in self.listed().filter(|(role, ..)| *role == "targets" || named(role)) {
            let to = self.targets.body.delegate(path).map_or("targets", |role| &role.name);
            let (stays, known) = (to == role, to == "targets" || named(to));
            // Top-level targets may speak for everything, so what others speak for too may stay there.
            if stays || (role == "targets" && !known) {
                continue;
            }
            // A role does not bequeath what it had no say in, nor does top-level targets vouch for what it did not list.
            let heir = (before.role_of(path) == role && named(to)).then(|| to.to_owned());
            moves.push((role.to_owned(), path.to_owned(), entry.clone(), heir));
        }
        for (from, path, entry, heir) in moves {
            let draft = if from == "targets" { &mut self.targets } else { self.draft(&from)? };
            draft.body.targets.remove(&path);
            draft.changed = true;
            if let Some(heir) = heir {
                self.draft(&heir)?.body.targets.entry(path).or_insert(entry);
            }
        }
        Ok(())
    }

    /// The names and terms of all roles that top-level targets delegates to.
    pub fn delegations(&self) -> impl Iterator<Item = &DelegatedRole> {
        self.targets.body.delegations.iter().flat_map(|delegations| &delegations.roles)
    }

    /// The highest version of a delegated role's document that hosts may have seen; 0 if they have seen none.
    pub(super) fn listed_version(&self, role: &str) -> u64 {
        self.snapshot.body.meta.get(&format!("{role}.json")).map_or(0, |file| file.version)
    }
}

/// Targets without anything in them.
pub(super) fn nothing() -> Targets {
    Targets {
        header: Header::new("targets", 0, Time::UNIX_EPOCH),
        targets: BTreeMap::new(),
        delegations: None,
        extra: Extra::new(),
    }
}

fn no_delegations() -> Delegations {
    Delegations { keys: BTreeMap::new(), roles: Vec::new(), extra: Extra::new() }
}

/// Removes the keys that only `old` used.
fn forget_keys(delegations: &mut Delegations, old: Option<&DelegatedRole>) {
    let used: BTreeSet<KeyId> =
        delegations.roles.iter().flat_map(|role| role.keys.keyids.iter().cloned()).collect();
    let unused = old.into_iter().flat_map(|old| &old.keys.keyids).filter(|id| !used.contains(id));
    unused.for_each(|id| {
        delegations.keys.remove(id);
    });
}
