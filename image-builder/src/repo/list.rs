//! What a workspace has built and published, for people and programs.

use jiff::Timestamp;
use serde::Serialize;
use upright_manifests::channel::Channel;
use upright_manifests::tuf::RoleStatus;
use upright_manifests::version::Version;

use super::build::Build;
use super::error::Result;
use super::publish::EdgeSize;
use super::published::Published;
use super::workspace::Workspace;

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// Versions that are built or published, oldest first.
    pub releases: Vec<Row>,
    /// What channels point at.
    pub channels: Vec<Channel>,
    /// The metadata and when it expires.
    pub metadata: Vec<RoleStatus>,
}

/// A version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The version.
    pub version: Version,
    /// Its release time.
    pub time: Timestamp,
    /// Whether its build is in the workspace.
    pub built: bool,
    /// The channels that point at it.
    pub channels: Vec<String>,
    /// Bytes of the root image.
    pub image: u64,
    /// Bytes of the full payload, if it is published.
    pub full: Option<u64>,
    /// The deltas that lead to it.
    pub edges: Vec<EdgeSize>,
}

/// Lists what is in `workspace`.
pub fn list(workspace: &Workspace) -> Result<Listing> {
    let published = Published::read(workspace)?;
    let builds = Build::all(workspace)?;
    let mut rows: Vec<Row> = published
        .releases
        .iter()
        .map(|listed| {
            let release = &listed.release;
            let channels =
                published.channels.iter().filter(|channel| published.pointed(channel) == Some(listed));
            let edge = |edge: &upright_manifests::release::DeltaEdge| EdgeSize {
                from: edge.from.clone(),
                size: edge.delta.size,
                cost: edge.delta.cost,
            };
            Row {
                version: release.version.clone(),
                time: release.time,
                built: builds.iter().any(|build| build.version == release.version),
                channels: channels.map(|channel| channel.channel.to_string()).collect(),
                image: release.root.size,
                full: Some(release.root.full.size),
                edges: release.deltas.iter().map(edge).collect(),
            }
        })
        .collect();
    let unpublished = builds
        .iter()
        .filter(|build| published.releases.iter().all(|listed| listed.release.version != build.version));
    rows.extend(unpublished.map(|build| Row {
        version: build.version.clone(),
        time: build.time,
        built: true,
        channels: Vec::new(),
        image: build.root.size,
        full: None,
        edges: Vec::new(),
    }));
    rows.sort_by(|a, b| a.version.age(&b.version).then_with(|| a.version.as_str().cmp(b.version.as_str())));
    Ok(Listing {
        releases: rows,
        channels: published.channels.clone(),
        metadata: published.metadata.status(),
    })
}
