//! What a publish will do, as a value: decided from what is built and what is published, without touching either.

use std::fmt;

use serde::Serialize;
use upright_manifests::channel::{Channel, FORMAT, MAX_HISTORY, Wave, Window};
use upright_manifests::digest::Digest;
use upright_manifests::name::ChannelName;
use upright_manifests::release::Release;
use upright_manifests::version::Version;

use super::fit;
use crate::repo::build::Build;
use crate::repo::config::Config;
use crate::repo::error::{Error, Result};
use crate::repo::published::PublishedRelease;
use upright_manifests::bytes::human;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The release to publish.
    pub version: Version,
    /// The channel that is to point at it.
    pub channel: ChannelName,
    /// The channel that it is promoted from, and that points at it.
    pub from: Option<ChannelName>,
    /// The rollout's waves; `None` leaves those of an unchanged pointer, and gives a new one none.
    pub waves: Option<Vec<Wave>>,
    /// Why no host may start yet; `None` leaves it as it is, and a new pointer without.
    pub hold: Option<String>,
    /// Hosts on an older version than this must pass through a release in between first.
    pub floor: Option<Version>,
    /// Whether the channel may point at a release that is not newer than its last.
    pub allow_downgrade: bool,
    /// How many former releases get a delta, if not as many as `upright.toml` says.
    pub edges: Option<usize>,
}

/// What is known when the plan is made.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What `upright.toml` says.
    pub config: &'a Config,
    /// All builds in the workspace.
    pub builds: &'a [Build],
    /// The releases that are published in the channel's compartment.
    pub releases: &'a [PublishedRelease],
    /// The channels of the compartment that point at something.
    pub channels: &'a [Channel],
    /// The release to promote, as the channel it comes from has it.
    pub promoted: Option<&'a PublishedRelease>,
}

/// What a publish will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The release.
    pub version: Version,
    /// The channel that will point at it.
    pub channel: ChannelName,
    /// The compartment it is listed in: the channel's own, or that of all channels without a team.
    pub compartment: Option<ChannelName>,
    /// Whether the release is not published in the compartment yet.
    pub new_release: bool,
    /// The manifest of another compartment that it takes over, objects and all.
    pub relisted: Option<Digest>,
    /// Hosts on an older version than this must pass through a release in between first.
    pub floor: Option<Version>,
    /// Deltas to make.
    pub make: Vec<Edge>,
    /// Releases that there are deltas from already.
    pub have: Vec<Version>,
    /// Releases the channel's hosts may come from that get no delta.
    pub dropped: Vec<Dropped>,
    /// What the channel will say.
    pub pointer: Pointer,
    /// Whether that differs from what it says now.
    pub moves: bool,
    /// Releases that will no longer be offered.
    pub retired: Vec<Version>,
}

/// A delta to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Edge {
    /// The release it starts from.
    pub from: Version,
    /// The dm-verity root hash of the image it starts from.
    pub from_root_hash: Digest,
}

/// A release that gets no delta.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// The release.
    pub from: Version,
    /// Why.
    pub why: Why,
}

/// Why a release gets no delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Why {
    /// Its image is the very same.
    SameImage,
    /// Neither its build nor that of the new release may be missing.
    NoBuild,
    /// Its hosts must pass through another release first.
    BelowFloor,
    /// As many newer ones as are asked for get one.
    BeyondEdges {
        /// How many are asked for.
        edges: usize,
    },
    /// All deltas together would take more room than `delta-budget` allows.
    OverBudget {
        /// Bytes of the delta.
        delta: u64,
        /// Bytes that newer ones leave of the budget.
        left: u64,
    },
    /// The delta came out larger than the full payload.
    NotSmaller {
        /// Bytes of the delta.
        delta: u64,
        /// Bytes of the full payload.
        full: u64,
    },
}

/// What a channel says, but for the manifest's digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pointer {
    /// The releases it pointed at before, newest first.
    pub history: Vec<Version>,
    /// Why no host may start, if so.
    pub hold: Option<String>,
    /// The rollout.
    pub waves: Vec<Wave>,
    /// When hosts may reboot.
    pub windows: Vec<Window>,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameImage => f.write_str("its image is the same"),
            Self::NoBuild => f.write_str("its build is not in this workspace"),
            Self::BeyondEdges { edges } => {
                write!(f, "the newest {edges} get one (`edges` in upright.toml, or --edges)")
            }
            Self::BelowFloor => f.write_str("its hosts must pass through the floor first"),
            Self::OverBudget { delta, left } => {
                write!(
                    f,
                    "its delta of {} is more than the {} left of delta-budget",
                    human(*delta),
                    human(*left)
                )
            }
            Self::NotSmaller { delta, full } => {
                write!(f, "its delta of {} is not smaller than the full {}", human(*delta), human(*full))
            }
        }
    }
}

impl Plan {
    /// Decides what to do, or refuses.
    pub fn new(facts: Facts<'_>, request: &Request) -> Result<Self> {
        let version = &request.version;
        let build = facts.builds.iter().find(|build| build.version == *version);
        let listed = facts.releases.iter().find(|release| release.release.version == *version);
        if let (Some(listed), Some(promoted)) = (listed, facts.promoted) {
            refuse_other_release(request, &listed.release, &promoted.release)?;
        }
        let published = listed.or(facts.promoted);
        let current = facts.channels.iter().find(|channel| channel.channel == request.channel);
        let root_hash = match (build, published) {
            (Some(build), published) => {
                if let Some(published) = published {
                    refuse_other_content(build, &published.release)?;
                }
                fit::check(facts, build, current)?;
                build.root.verity.root_hash
            }
            (None, Some(published)) => published.release.root.verity.root_hash,
            (None, None) => {
                return Err(Error::refused(format!(
                    "{version} is neither built nor published{}; run `upright-build build SOURCE --version {version}`",
                    match facts.config.compartment(&request.channel) {
                        Some(channel) => format!(" in {channel}, whose team has releases of its own"),
                        None => String::new(),
                    }
                )));
            }
        };
        refuse_downgrade(request, current)?;
        let floor = floor(request, published)?;
        let pointer = pointer(request, current);
        // What no host would accept is refused before anything is encoded; the digest does not matter yet.
        let file = pointer.channel(facts.config, &request.channel, version, root_hash).to_bytes();
        file.map_err(|error| Error::refused(error.to_string()))?;
        let mut plan = Self {
            version: version.clone(),
            channel: request.channel.clone(),
            compartment: facts.config.compartment(&request.channel),
            new_release: listed.is_none(),
            relisted: published.filter(|_| listed.is_none()).map(|promoted| promoted.manifest),
            make: Vec::new(),
            have: Vec::new(),
            dropped: Vec::new(),
            moves: !current.is_some_and(|current| current.version == *version && says(current, &pointer)),
            retired: Vec::new(),
            floor,
            pointer,
        };
        let edges = request.edges.unwrap_or(facts.config.edges);
        for (newer, from) in plan.pointer.history.iter().enumerate() {
            match edge(facts, &plan, published, build, root_hash, from) {
                Ok(None) => plan.have.push(from.clone()),
                _ if newer >= edges => {
                    plan.dropped.push(Dropped { from: from.clone(), why: Why::BeyondEdges { edges } });
                }
                Ok(Some(edge)) => plan.make.push(edge),
                Err(why) => plan.dropped.push(Dropped { from: from.clone(), why }),
            }
        }
        plan.retired = retired(facts, &plan, edges);
        Ok(plan)
    }

    /// Whether all that is asked for is published already.
    pub fn is_done(&self) -> bool {
        !self.new_release && !self.moves && self.make.is_empty() && self.retired.is_empty()
    }
}

impl Pointer {
    /// The channel file that says so about the manifest with this digest.
    pub fn channel(
        &self,
        config: &Config,
        name: &ChannelName,
        version: &Version,
        manifest: Digest,
    ) -> Channel {
        Channel {
            format: FORMAT,
            os: config.os.clone(),
            arch: config.arch,
            channel: name.clone(),
            version: version.clone(),
            manifest,
            history: self.history.clone(),
            hold: self.hold.clone(),
            waves: self.waves.clone(),
            windows: self.windows.clone(),
        }
    }
}

/// A delta to make, none to make, or why there will not be one.
fn edge(
    facts: Facts<'_>,
    plan: &Plan,
    published: Option<&PublishedRelease>,
    build: Option<&Build>,
    root_hash: Digest,
    from: &Version,
) -> Result<Option<Edge>, Why> {
    if plan.floor.as_ref().is_some_and(|floor| floor.is_newer_than(from)) {
        return Err(Why::BelowFloor);
    }
    let source = facts.builds.iter().find(|build| build.version == *from);
    let listed = facts.releases.iter().find(|release| release.release.version == *from);
    let from_root_hash = listed
        .map(|listed| listed.release.root.verity.root_hash)
        .or(source.map(|source| source.root.verity.root_hash))
        .ok_or(Why::NoBuild)?;
    if from_root_hash == root_hash {
        return Err(Why::SameImage);
    }
    let has = |release: &&Release| release.deltas.iter().any(|edge| edge.from_root_hash == from_root_hash);
    if published.map(|published| &published.release).filter(has).is_some() {
        return Ok(None);
    }
    let usable = build.is_some() && source.is_some_and(|s| s.root.verity.root_hash == from_root_hash);
    usable.then(|| Some(Edge { from: from.clone(), from_root_hash })).ok_or(Why::NoBuild)
}

fn refuse_other_content(build: &Build, published: &Release) -> Result<()> {
    let same = build.root.verity.root_hash == published.root.verity.root_hash
        && build.uki.sha256 == published.uki.sha256;
    match same {
        true => Ok(()),
        false => Err(Error::refused(format!(
            "{} is published with root hash {}, but this build of it has {}; hosts would run different systems under \
             one name: build it again under a new version",
            build.version,
            published.root.verity.root_hash.short(),
            build.root.verity.root_hash.short()
        ))),
    }
}

/// A name that means one system in one compartment and another in the other is no promotion.
fn refuse_other_release(request: &Request, listed: &Release, promoted: &Release) -> Result<()> {
    let (has, given) = (listed.root.verity.root_hash, promoted.root.verity.root_hash);
    if has == given && listed.uki.sha256 == promoted.uki.sha256 {
        return Ok(());
    }
    Err(Error::refused(format!(
        "{} is listed for {} already, with root hash {}, and what is promoted has {}; build it under a new version",
        request.version,
        request.channel,
        has.short(),
        given.short()
    )))
}

fn refuse_downgrade(request: &Request, current: Option<&Channel>) -> Result<()> {
    let Some(current) = current else { return Ok(()) };
    let (version, last) = (&request.version, &current.version);
    if version == last || version.is_newer_than(last) || request.allow_downgrade {
        return Ok(());
    }
    Err(Error::refused(format!(
        "{version} is not newer than {last}, which {} points at; publish a newer version, or say --allow-downgrade to \
         send its hosts back",
        request.channel
    )))
}

fn floor(request: &Request, published: Option<&PublishedRelease>) -> Result<Option<Version>> {
    let version = &request.version;
    match (&request.floor, published) {
        (Some(floor), _) if floor.is_newer_than(version) => Err(Error::refused(format!(
            "the floor {floor} is newer than {version} itself; no host could ever take it"
        ))),
        (Some(floor), Some(published)) if published.release.floor.as_ref() != Some(floor) => {
            let has =
                published.release.floor.as_ref().map_or("no floor".into(), |f| format!("the floor {f}"));
            Err(Error::refused(format!(
                "{version} is published with {has} and cannot change; publish a new version with --floor {floor}"
            )))
        }
        (floor, published) => {
            Ok(published.map_or_else(|| floor.clone(), |published| published.release.floor.clone()))
        }
    }
}

fn pointer(request: &Request, current: Option<&Channel>) -> Pointer {
    let Some(current) = current else {
        return Pointer {
            history: Vec::new(),
            hold: request.hold.clone(),
            waves: request.waves.clone().unwrap_or_default(),
            windows: Vec::new(),
        };
    };
    if current.version == request.version {
        return Pointer {
            history: current.history.clone(),
            hold: request.hold.clone().or_else(|| current.hold.clone()),
            waves: request.waves.clone().unwrap_or_else(|| current.waves.clone()),
            windows: current.windows.clone(),
        };
    }
    let mut history = vec![current.version.clone()];
    let older = current.history.iter().filter(|version| **version != request.version);
    history.extend(older.take(MAX_HISTORY - 1).cloned());
    Pointer {
        history,
        hold: request.hold.clone(),
        waves: request.waves.clone().unwrap_or_default(),
        windows: current.windows.clone(),
    }
}

fn says(channel: &Channel, pointer: &Pointer) -> bool {
    channel.history == pointer.history
        && channel.hold == pointer.hold
        && channel.waves == pointer.waves
        && channel.windows == pointer.windows
}

/// The releases beyond the newest `keep` that no channel points at or has deltas from.
fn retired(facts: Facts<'_>, plan: &Plan, edges: usize) -> Vec<Version> {
    let others = facts.channels.iter().filter(|channel| channel.channel != plan.channel);
    let needed: Vec<&Version> = others
        .flat_map(|channel| {
            std::iter::once(&channel.version).chain(channel.history.iter().take(facts.config.edges))
        })
        .chain(std::iter::once(&plan.version))
        .chain(plan.pointer.history.iter().take(edges))
        .collect();
    let spare = facts.releases.iter().rev().map(|published| &published.release.version);
    spare.filter(|version| !needed.contains(version)).skip(facts.config.keep).cloned().collect()
}
