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

use jiff::Timestamp;
use serde::Serialize;
use upright_manifests::channel::{Channel, Wave};
use upright_manifests::digest::Digest;
use upright_manifests::name::ChannelName;
use upright_manifests::release::Cost;
use upright_manifests::version::Version;

pub(super) use execute::release_path;
pub use plan::{Dropped, Edge, Facts, Plan, Pointer, Request, Why};
pub use rollout::{Rollout, rollout};

use super::build::Build;
use super::config::Config;
use super::error::{Error, Result};
use super::files::Files;
use super::metadata::Metadata;
use super::progress::Progress;
use super::published::{Published, PublishedRelease};
use super::signers::Signers;
use super::workspace::Workspace;
use super::{clock, expiry};

/// The roles that sign what is published in `channel`.
pub fn signing(config: &Config, channel: &ChannelName) -> [String; 3] {
    [config.signing_role(channel), "snapshot".into(), "timestamp".into()]
}

/// What publishing works on.
#[derive(Clone, Copy)]
pub struct Bench<'a> {
    /// The workspace, which the caller has locked.
    pub workspace: &'a Workspace,
    /// Who signs; the roles of [`signing`] at least.
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
    /// The channel's waves; with none, everyone may take the release.
    pub waves: Vec<Wave>,
    /// Why no host may take it yet, if so.
    pub hold: Option<String>,
}

/// A delta and its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EdgeSize {
    /// The release it starts from.
    pub from: Version,
    /// Bytes of the delta.
    pub size: u64,
    /// What applying it takes.
    pub cost: Option<Cost>,
}

/// Decides what a publish will do, and refuses what cannot be published. Changes nothing.
pub fn prepare(bench: &Bench<'_>, request: &Request) -> Result<(Published, Plan)> {
    let workspace = bench.workspace;
    let published = Published::read(workspace)?;
    let builds = Build::all(workspace)?;
    if builds.iter().any(|build| build.version == request.version) {
        Build::require(workspace, &request.version)?;
    }
    let config = &workspace.config;
    config.require_channel(&request.channel)?;
    check_roles(config, &published, &request.channel)?;
    let compartment = config.compartment(&request.channel);
    let releases = published.releases.iter().filter(|listed| listed.compartment == compartment);
    let channels = published.channels.iter().filter(|c| config.compartment(&c.channel) == compartment);
    let (releases, channels) = (releases.cloned().collect::<Vec<_>>(), channels.cloned().collect::<Vec<_>>());
    let facts = Facts {
        config,
        builds: &builds,
        releases: &releases,
        channels: &channels,
        promoted: promoted(&published, request)?,
    };
    let plan = Plan::new(facts, request)?;
    let roles = signing(config, &request.channel);
    check_expiry(bench, &published.metadata, if plan.is_done() { &[] } else { &roles })?;
    clock::check(bench, &published.metadata)?;
    if let Some(time) = time_of(&plan, facts) {
        clock::check_release(bench.now, &plan.version, time)?;
    }
    bench.signers.require(config, &published.metadata, &roles)?;
    Ok((published, plan))
}

/// The time of the release that is published.
fn time_of(plan: &Plan, facts: Facts<'_>) -> Option<Timestamp> {
    let built = facts.builds.iter().find(|build| build.version == plan.version).map(|build| build.time);
    let listed =
        facts.releases.iter().map(|listed| &listed.release).find(|listed| listed.version == plan.version);
    built.or(listed.map(|listed| listed.time)).or(facts.promoted.map(|promoted| promoted.release.time))
}

/// The release that is promoted.
fn promoted<'a>(published: &'a Published, request: &Request) -> Result<Option<&'a PublishedRelease>> {
    let Some(from) = &request.from else { return Ok(None) };
    let channel = published.channel(from).filter(|channel| channel.version == request.version);
    let Some(channel) = channel else {
        let at = published.channel(from).map_or("nothing".to_owned(), |channel| channel.version.to_string());
        return Err(Error::refused(format!(
            "{from} points at {at}, not at {0}; promote what it points at, or publish {0} to {1} directly",
            request.version, request.channel
        )));
    };
    // Its own digest binds what is promoted to what its hosts run.
    match published.pointed(channel).filter(|listed| listed.manifest == channel.manifest) {
        Some(listed) => Ok(Some(listed)),
        None => Err(Error::Unverified(format!(
            "{from} points at a manifest of {} that is not listed; publish it to {from} again first",
            request.version
        ))),
    }
}

/// Fails unless metadata has each channel signed by whom `upright.toml` says, or where what signs `channel` is damaged. A
/// signature of anyone else would not count, or take a channel away from its team; and what is no longer needed is judged
/// by compartments.
pub(super) fn check_roles(config: &Config, published: &Published, channel: &ChannelName) -> Result<()> {
    for channel in &config.channels {
        let wanted = config.signing_role(channel);
        let found = published.metadata.role_of(&Channel::target_path(&config.os, config.arch, channel));
        // Whatever others have a say in, the word of top-level targets comes first.
        let found = if config.is_team(found) { found } else { "targets" };
        if found != wanted {
            return Err(Error::refused(format!(
                "{channel} is signed by {} according to upright.toml, but by {} according to what is published; say in \
                 upright.toml what should hold and make it so with `upright-build rotate`",
                config.short_name(&wanted),
                config.short_name(found)
            )));
        }
    }
    published.require_whole(&config.signing_role(channel))
}

/// Publishes. What is published already is a success that changes nothing.
pub fn publish(bench: &Bench<'_>, request: &Request) -> Result<Outcome> {
    let (published, plan) = prepare(bench, request)?;
    execute::execute(bench, published, plan)
}

/// A release under a root or targets that have expired reaches no host, unless they are about to be signed anew.
pub(super) fn check_expiry(bench: &Bench<'_>, metadata: &Metadata, signed: &[String]) -> Result<()> {
    let mut status = metadata.status();
    status.retain(|role| matches!(role.role.as_str(), "root" | "targets") && !signed.contains(&role.role));
    if let Some(expired) = expiry::expired(&status, bench.now) {
        return Err(Error::refused(format!("hosts would refuse all that is published: {expired}")));
    }
    expiry::warnings(&status, bench.now).for_each(|line| bench.progress.note(&line));
    Ok(())
}
