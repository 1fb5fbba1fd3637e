//! What a rotation changes, as values: found by comparing `upright.toml` with what is published.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use upright_keys::{KeyId, Passphrase, PublicKey, RoleKeys};

use crate::repo::config::Role;
use crate::repo::error::Result;
use crate::repo::metadata::{Metadata, MetadataError, RoleSpec};
use crate::repo::signers::public;
use crate::repo::workspace::Workspace;

/// What `upright.toml` wants.
pub struct Wanted {
    roles: Vec<(&'static str, RoleSpec)>,
    teams: Vec<Team>,
    /// What the names of this workspace's teams' roles start with.
    prefix: String,
}

struct Team {
    role: String,
    spec: RoleSpec,
    paths: Vec<String>,
}

/// One thing that changes. Roles go by the names that metadata has for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum Change {
    /// A key may sign.
    AddKey {
        /// For this role.
        role: String,
        /// The key.
        key: KeyId,
    },
    /// A key may not sign any more.
    RemoveKey {
        /// For this role.
        role: String,
        /// The key.
        key: KeyId,
    },
    /// Another number of keys must sign.
    Threshold {
        /// For this role.
        role: String,
        /// How many did.
        from: u32,
        /// How many do.
        to: u32,
    },
    /// A team signs for some paths.
    AddTeam {
        /// The team's role.
        role: String,
        /// The paths, as patterns.
        paths: Vec<String>,
        /// Its keys.
        keys: Vec<KeyId>,
        /// How many of them must sign.
        threshold: u32,
    },
    /// A team signs for other paths than before.
    Paths {
        /// The team's role.
        role: String,
        /// The paths, as patterns.
        paths: Vec<String>,
    },
    /// A team begins anew, because what it has published cannot be used.
    BeginAnew {
        /// The team's role.
        role: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A team does not sign any more, and what it signed is not offered any more.
    RemoveTeam {
        /// The team's role.
        role: String,
    },
}

impl Wanted {
    /// Reads what `upright.toml` says, and the public keys that it names.
    pub fn read(workspace: &Workspace, passphrase: Option<&Passphrase>) -> Result<Self> {
        let config = &workspace.config;
        let spec = |role: &Role| public::spec(workspace, role, passphrase);
        let roles = config.roles().into_iter().map(|(name, role)| Ok((name, spec(role)?)));
        let teams = config.teams.iter().map(|(name, team)| {
            let (role, paths) = (config.team_role(name), config.team_paths(team));
            Ok(Team { role, spec: spec(&team.role())?, paths })
        });
        Ok(Self {
            roles: roles.collect::<Result<_>>()?,
            teams: teams.collect::<Result<_>>()?,
            prefix: config.team_prefix(),
        })
    }

    /// Whether a team has this role.
    pub(super) fn has_team(&self, role: &str) -> bool {
        self.teams.iter().any(|team| team.role == role)
    }
}

/// What has to change so that `metadata` says what is wanted.
pub(super) fn between(metadata: &Metadata, wanted: &Wanted) -> Vec<Change> {
    let mut changes = Vec::new();
    for (role, spec) in &wanted.roles {
        if let Some((published, _)) = metadata.role(role) {
            changes.extend(keys(role, published, spec));
        }
    }
    for Team { role, spec, paths } in &wanted.teams {
        match metadata.delegations().find(|delegated| delegated.name == *role) {
            None => changes.push(Change::AddTeam {
                role: role.clone(),
                paths: paths.clone(),
                keys: ids(spec).into_iter().collect(),
                threshold: spec.threshold,
            }),
            Some(published) => {
                let mut terms = keys(role, &published.keys, spec);
                if published.paths.as_ref() != Some(paths) || !published.terminating {
                    terms.push(Change::Paths { role: role.clone(), paths: paths.clone() });
                }
                if let (false, Some(error)) = (terms.is_empty(), metadata.unusable().get(role)) {
                    terms.push(Change::BeginAnew { role: role.clone(), reason: error.to_string() });
                }
                changes.extend(terms);
            }
        }
    }
    let ours = metadata.delegations().map(|delegated| &delegated.name);
    let gone = ours.filter(|role| role.starts_with(&wanted.prefix) && !wanted.has_team(role));
    changes.extend(gone.map(|role| Change::RemoveTeam { role: role.clone() }));
    changes
}

/// Makes the changes.
pub(super) fn apply(
    metadata: &mut Metadata,
    wanted: &Wanted,
    changes: &[Change],
) -> Result<(), MetadataError> {
    let before = metadata.clone();
    let changes_role = |role: &str| changes.iter().any(|change| change.role() == role);
    for (role, spec) in wanted.roles.iter().filter(|(role, _)| changes_role(role)) {
        metadata.set_role(role, spec)?;
    }
    for change in changes {
        if let Change::RemoveTeam { role } = change {
            metadata.end_delegation(role);
        }
    }
    let changing: Vec<&Team> = wanted.teams.iter().filter(|team| changes_role(&team.role)).collect();
    for Team { role, spec, paths } in &changing {
        metadata.delegate(role, spec, paths)?;
    }
    // The keys of other teams are not needed, whatever they list.
    let roles: Vec<String> = changing.iter().map(|team| team.role.clone()).collect();
    metadata.settle(&before, &roles)
}

fn ids(spec: &RoleSpec) -> BTreeSet<KeyId> {
    spec.keys.iter().map(PublicKey::tuf_id).collect()
}

fn keys(role: &str, published: &RoleKeys, spec: &RoleSpec) -> Vec<Change> {
    let (old, new): (BTreeSet<KeyId>, _) = (published.keyids.iter().cloned().collect(), ids(spec));
    let add = |key: &KeyId| Change::AddKey { role: role.to_owned(), key: key.clone() };
    let remove = |key: &KeyId| Change::RemoveKey { role: role.to_owned(), key: key.clone() };
    let mut changes: Vec<Change> = new.difference(&old).map(add).collect();
    changes.extend(old.difference(&new).map(remove));
    if published.threshold != spec.threshold {
        let (from, to) = (published.threshold, spec.threshold);
        changes.push(Change::Threshold { role: role.to_owned(), from, to });
    }
    changes
}

impl Change {
    /// The role that changes.
    pub fn role(&self) -> &str {
        match self {
            Self::AddKey { role, .. }
            | Self::RemoveKey { role, .. }
            | Self::Threshold { role, .. }
            | Self::AddTeam { role, .. }
            | Self::Paths { role, .. }
            | Self::BeginAnew { role, .. }
            | Self::RemoveTeam { role } => role,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddKey { role, key } => write!(f, "{role}: key {} may sign", key.short()),
            Self::RemoveKey { role, key } => write!(f, "{role}: key {} may not sign any more", key.short()),
            Self::Threshold { role, from, to } => write!(f, "{role}: {to} keys must sign instead of {from}"),
            Self::AddTeam { role, paths, keys, threshold } => {
                let keys: Vec<String> = keys.iter().map(KeyId::short).collect();
                write!(f, "{role}: new, {threshold} of {} sign for {}", keys.join(" "), paths.join(" "))
            }
            Self::Paths { role, paths } => {
                write!(f, "{role}: signs for {}, and nothing else", paths.join(" "))
            }
            Self::BeginAnew { role, reason } => {
                write!(
                    f,
                    "{role}: offers nothing until it publishes again, because its document cannot be used: {reason}"
                )
            }
            Self::RemoveTeam { role } => {
                write!(f, "{role}: ends, and what it signed is not offered any more until others publish it")
            }
        }
    }
}
