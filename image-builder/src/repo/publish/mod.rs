//! Publishing: a plan as a value, then its execution.
//!
//! Objects are written first, then manifest and channel, then the signed metadata with the timestamp last: that one small
//! file makes a release visible. A publish that is cut off before leaves what was published as it was.

mod execute;
mod fit;
mod objects;
mod plan;
mod prove;
mod rollout;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use upright_manifests::digest::Digest;
use upright_manifests::name::ChannelName;
use upright_manifests::version::Version;

pub use plan::{Dropped, Edge, Facts, Plan, Pointer, Request, Why};
pub use rollout::{Rollout, rollout};

use super::build::Build;
use super::error::{Error, Result};
use super::files::Files;
use super::metadata::Metadata;
use super::progress::Progress;
use super::published::Published;
use super::signers::Signers;
use super::workspace::Workspace;

/// The roles that sign a release.
pub const SIGNING: [&str; 3] = ["targets", "snapshot", "timestamp"];

/// How long before the root's expiry a publish begins to warn.
const WARN_ROOT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What publishing works on.
#[derive(Clone, Copy)]
pub struct Bench<'a> {
    /// The workspace, which the caller has locked.
    pub workspace: &'a Workspace,
    /// Who signs; [`SIGNING`] at least.
    pub signers: &'a Signers,
    /// Where files are changed.
    pub files: &'a dyn Files,
    /// Who hears how far it is.
    pub progress: &'a dyn Progress,
    /// The time that signatures start from.
    pub now: Timestamp,
}

/// What was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The release.
    pub version: Version,
    /// The channel.
    pub channel: ChannelName,
    /// Whether anything had to be done.
    pub changed: bool,
    /// The SHA-256 of the release's manifest.
    pub manifest: Digest,
    /// Bytes of the root image.
    pub image: u64,
    /// Bytes of the full payload.
    pub full: u64,
    /// Bytes of the chunk index.
    pub chunks: u64,
    /// Bytes of the UKI.
    pub uki: u64,
    /// Bytes of the delta that composes the UKI.
    pub uki_delta: u64,
    /// The deltas that lead to the release.
    pub edges: Vec<EdgeSize>,
    /// Releases the channel's hosts may come from that get no delta.
    pub dropped: Vec<Dropped>,
    /// Releases that are no longer offered.
    pub retired: Vec<Version>,
}

/// A delta and its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EdgeSize {
    /// The release it starts from.
    pub from: Version,
    /// Bytes of the delta.
    pub size: u64,
}

/// Decides what a publish will do, and refuses what cannot be published. Changes nothing.
pub fn prepare(bench: &Bench<'_>, request: &Request) -> Result<(Published, Plan)> {
    let workspace = bench.workspace;
    let published = Published::read(workspace)?;
    let builds = Build::all(workspace)?;
    if builds.iter().any(|build| build.version == request.version) {
        Build::require(workspace, &request.version)?;
    }
    let facts = Facts {
        config: &workspace.config,
        builds: &builds,
        releases: &published.releases,
        channels: &published.channels,
    };
    let plan = Plan::new(facts, request)?;
    check_root(bench, &published.metadata)?;
    bench.signers.require(&published.metadata, &SIGNING)?;
    Ok((published, plan))
}

/// Publishes. What is published already is a success that changes nothing.
pub fn publish(bench: &Bench<'_>, request: &Request) -> Result<Outcome> {
    let (published, plan) = prepare(bench, request)?;
    execute::execute(bench, published, plan)
}

/// A release under a root that has expired reaches no host.
fn check_root(bench: &Bench<'_>, metadata: &Metadata) -> Result<()> {
    let status = metadata.status();
    let Some(root) = status.iter().find(|status| status.role == "root") else { return Ok(()) };
    let left = root.expires.duration_since(bench.now);
    if left <= SignedDuration::ZERO {
        return Err(Error::refused(format!(
            "the repository's root expired on {}, and hosts refuse all that it vouches for; sign a new one with \
             `upright-build refresh --role root`",
            root.expires
        )));
    }
    if left < WARN_ROOT {
        bench.progress.note(&format!(
            "the repository's root expires on {}: sign a new one soon with `upright-build refresh --role root`",
            root.expires
        ));
    }
    Ok(())
}
