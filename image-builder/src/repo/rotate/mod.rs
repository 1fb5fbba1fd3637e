//! Makes the published root and delegations say what `upright.toml` says: which keys sign for which role, and which teams
//! sign which channels.

mod change;

use std::path::Path;

use serde::Serialize;
use upright_keys::Passphrase;
use upright_manifests::channel::Channel;
use upright_manifests::digest::Digest;
use upright_manifests::name::ChannelName;

pub use change::{Change, Wanted};

use super::ceremony::{self, Staged};
use super::clock;
use super::error::{Error, Result};
use super::metadata::{Metadata, MetadataError, Need};
use super::publish::{Bench, release_path};
use super::published::Published;

/// A rotation that is decided, and not carried out yet.
pub struct Plan {
    published: Published,
    /// What changes.
    pub changes: Vec<Change>,
    /// Who must sign.
    pub needs: Vec<Need>,
    /// Manifests to list in a team's compartment: place in the repository, content.
    objects: Vec<(String, Vec<u8>)>,
}

/// What a rotation did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// What changes.
    pub changes: Vec<Change>,
    /// What lacks signatures; if anything does, nothing has changed yet.
    pub staged: Vec<Staged>,
}

/// Decides what has to change. Nothing does so far.
pub fn prepare(bench: &Bench<'_>, passphrase: Option<&Passphrase>) -> Result<Plan> {
    let wanted = Wanted::read(bench.workspace, passphrase)?;
    let mut published = Published::read(bench.workspace)?;
    clock::check(bench, &published.metadata)?;
    let changes = change::between(&published.metadata, &wanted);
    let joining = joining(bench, &published, &wanted)?;
    change::apply(&mut published.metadata, &wanted, &changes).map_err(refused)?;
    let mut objects = Vec::new();
    for Joining { role, path, bytes } in joining {
        let (length, sha256) = (bytes.len() as u64, Digest::of(&bytes));
        published.metadata.set_target_of(&role, &path, length, sha256).map_err(refused)?;
        let place = published.metadata.fetch_path(&path);
        objects.push((place.ok_or_else(|| Error::Failed(format!("{path} has no place")))?, bytes));
    }
    let needs = published.metadata.needs().map_err(refused)?;
    Ok(Plan { published, changes, needs, objects })
}

/// Signs and publishes. Without a change, nothing is done.
pub fn rotate(bench: &Bench<'_>, mut plan: Plan, stage: Option<&Path>) -> Result<Outcome> {
    let staged = match plan.changes.is_empty() {
        true => Vec::new(),
        false => ceremony::publish(bench, &mut plan.published, &plan.objects, stage)?,
    };
    Ok(Outcome { changes: plan.changes, staged })
}

/// A manifest that a team is to list.
struct Joining {
    role: String,
    path: String,
    bytes: Vec<u8>,
}

/// The manifests that a channel takes along when it gets a team, because its hosts run them or are to.
fn joining(bench: &Bench<'_>, published: &Published, wanted: &Wanted) -> Result<Vec<Joining>> {
    let config = &bench.workspace.config;
    let mut manifests = Vec::new();
    for channel in &published.channels {
        let name = &channel.channel;
        let path = Channel::target_path(&config.os, config.arch, name);
        let role = config.signing_role(name);
        if !wanted.has_team(&role) || published.metadata.role_of(&path) == role {
            continue;
        }
        let versions = std::iter::once(&channel.version).chain(channel.history.iter().take(config.edges));
        for version in versions {
            let to = release_path(config, Some(name), version);
            let from = source(published, name, version);
            if let Some(from) = from.map(|from| release_path(config, from, version)) {
                let bytes = published.content(bench.workspace, &from)?;
                manifests.push(Joining { role: role.clone(), path: to, bytes });
            }
        }
    }
    Ok(manifests)
}

/// The compartment in which a channel's release is listed so far.
fn source<'a>(
    published: &Published,
    channel: &'a ChannelName,
    version: &upright_manifests::version::Version,
) -> Option<Option<&'a ChannelName>> {
    [Some(channel), None].into_iter().find(|compartment| published.release(*compartment, version).is_some())
}

fn refused(error: MetadataError) -> Error {
    Error::refused(error.to_string())
}

impl Plan {
    /// The metadata as it will be.
    pub fn metadata(&self) -> &Metadata {
        &self.published.metadata
    }
}
