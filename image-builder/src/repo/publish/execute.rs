//! Carries a plan out.

use std::collections::BTreeMap;
use std::path::PathBuf;

use upright_manifests::channel::Channel;
use upright_manifests::digest::Digest;
use upright_manifests::name::ChannelName;
use upright_manifests::release::{DeltaEdge, FORMAT, Release, RootImage, Uki};
use upright_manifests::version::Version;

use super::objects::Encoder;
use super::plan::{Dropped, Plan};
use super::{Bench, EdgeSize, Outcome};
use crate::repo::build::Build;
use crate::repo::config::Config;
use crate::repo::error::{Error, Result};
use crate::repo::files::{STAGING, make_folder, replace};
use crate::repo::metadata::{Metadata, MetadataError};
use crate::repo::published::{Published, PublishedRelease};
use crate::repo::sweep::sweep;

/// Does what `plan` says; `published` is what it was made from.
pub(super) fn execute(bench: &Bench<'_>, mut published: Published, mut plan: Plan) -> Result<Outcome> {
    let staging = bench.workspace.repository().join(STAGING);
    bench.files.remove(&staging).map_err(Error::file("empty", &staging))?;
    if plan.is_done() {
        let release = listed(&published, &plan).map(|release| release.release.clone());
        let release = release.ok_or_else(|| Error::Failed("the plan is not of this repository".into()))?;
        // The publish before may have been cut off while it did this.
        sweep(&bench.workspace.repository(), &published, bench.files, bench.now)?;
        return outcome(&release, plan, false);
    }
    make_folder(bench.files, &staging)?;
    let release = release(bench, &published, &mut plan)?;
    let changed = list(bench, &mut published, &plan, &release)?;
    if changed {
        sign(bench, &mut published)?;
        // What was just listed or retired counts, so what is offered is read anew.
        published = Published::read(bench.workspace)?;
    }
    sweep(&bench.workspace.repository(), &published, bench.files, bench.now)?;
    bench.files.remove(&staging).map_err(Error::file("remove", &staging))?;
    outcome(&release, plan, changed)
}

/// The release as it is listed in the plan's compartment, or in the one it is taken over from.
fn listed<'a>(published: &'a Published, plan: &Plan) -> Option<&'a PublishedRelease> {
    let relisted = |manifest: Digest| {
        let mut releases = published.releases.iter();
        releases.find(|listed| listed.manifest == manifest)
    };
    match plan.relisted {
        Some(manifest) => relisted(manifest),
        None => published.release(plan.compartment.as_ref(), &plan.version),
    }
}

/// The manifest, with everything it names in its place.
fn release(bench: &Bench<'_>, published: &Published, plan: &mut Plan) -> Result<Release> {
    let builds = Build::all(bench.workspace)?;
    let find = |version: &Version| builds.iter().find(|build| build.version == *version);
    let listed = listed(published, plan).map(|listed| listed.release.clone());
    let Some(build) = find(&plan.version) else {
        return listed.ok_or_else(|| Error::Failed(format!("the build of {} went away", plan.version)));
    };
    let mut encoder = Encoder::new(bench.workspace, bench.files, bench.progress, build);
    let mut release = match listed {
        Some(listed) => listed,
        None => {
            let before: Vec<&Build> = plan.make.iter().filter_map(|edge| find(&edge.from)).collect();
            let objects = encoder.objects(&before)?;
            manifest(build, plan.floor.clone(), objects)
        }
    };
    let budget = bench.workspace.config.delta_budget.map_or(u64::MAX, |budget| budget.0);
    for edge in std::mem::take(&mut plan.make) {
        let Some(source) = find(&edge.from) else { continue };
        let taken: u64 = release.deltas.iter().map(|edge| edge.delta.size).sum();
        let left = budget.saturating_sub(taken);
        match encoder.delta(source, &edge, &release.root, left)? {
            Ok(made) => {
                release.deltas.push(made);
                plan.make.push(edge);
            }
            Err(why) => plan.dropped.push(Dropped { from: edge.from, why }),
        }
    }
    sort(&mut release.deltas);
    Ok(release)
}

fn manifest(build: &Build, floor: Option<Version>, objects: super::objects::Objects) -> Release {
    Release {
        format: FORMAT,
        os: build.os.clone(),
        arch: build.arch,
        version: build.version.clone(),
        time: build.time,
        floor,
        commit: Some(build.commit),
        base: build.followed.clone(),
        root: RootImage {
            size: build.root.size,
            sha256: build.root.sha256,
            verity: build.root.verity.clone(),
            full: objects.full,
            chunks: objects.chunks,
        },
        uki: Uki {
            size: build.uki.size,
            sha256: build.uki.sha256,
            compose: objects.compose,
            certificates: build.uki.certificate.into_iter().collect(),
        },
        deltas: Vec::new(),
        versioned: build.versioned.clone(),
    }
}

/// Newest source first, so that a manifest does not depend on the order in which its deltas were made.
fn sort(deltas: &mut [DeltaEdge]) {
    deltas.sort_by(|a, b| b.from.age(&a.from).then_with(|| b.from.as_str().cmp(a.from.as_str())));
}

/// Writes manifest and channels under the names that the metadata will give them; whether there is anything to sign.
fn list(bench: &Bench<'_>, published: &mut Published, plan: &Plan, release: &Release) -> Result<bool> {
    let config = &bench.workspace.config;
    let mut targets: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let bytes = release.to_bytes().map_err(|error| Error::Failed(error.to_string()))?;
    let manifest = Digest::of(&bytes);
    targets.insert(release_path(config, plan.compartment.as_ref(), &release.version), bytes);
    let mut channels = vec![plan.pointer.channel(config, &plan.channel, &release.version, manifest)];
    // New edges change the manifest, and every channel that points at it names its digest.
    let others = published.channels.iter().filter(|channel| {
        config.compartment(&channel.channel) == plan.compartment
            && channel.version == release.version
            && channel.channel != plan.channel
            && channel.manifest != manifest
    });
    channels.extend(others.map(|channel| Channel { manifest, ..channel.clone() }));
    for channel in channels {
        let bytes = channel.to_bytes().map_err(|error| Error::Failed(error.to_string()))?;
        targets.insert(Channel::target_path(&config.os, config.arch, &channel.channel), bytes);
    }
    let role = config.signing_role(&plan.channel);
    let mut changed = false;
    for (path, bytes) in &targets {
        changed |= set(bench, &mut published.metadata, &role, path, bytes)?;
    }
    for version in &plan.retired {
        let path = release_path(config, plan.compartment.as_ref(), version);
        changed |= published.metadata.remove_target(&path).map_err(unsigned)?;
    }
    Ok(changed)
}

/// Where a release is listed.
pub(in crate::repo) fn release_path(
    config: &Config,
    compartment: Option<&ChannelName>,
    version: &Version,
) -> String {
    match compartment {
        Some(channel) => Release::channel_path(&config.os, config.arch, channel, version),
        None => Release::target_path(&config.os, config.arch, version),
    }
}

/// Lists a target in `role` and writes it where hosts fetch it; false if it is listed already.
pub(in crate::repo) fn set(
    bench: &Bench<'_>,
    metadata: &mut Metadata,
    role: &str,
    path: &str,
    bytes: &[u8],
) -> Result<bool> {
    let sha256 = Digest::of(bytes);
    if metadata.target(path).and_then(|entry| entry.hashes.sha256()) == Some(sha256) {
        return Ok(false);
    }
    metadata.set_target_of(role, path, bytes.len() as u64, sha256).map_err(unsigned)?;
    let place = metadata.fetch_path(path);
    let place = place.ok_or_else(|| Error::Failed(format!("{path} has no place in the repository")))?;
    replace(bench.files, &staging(bench), &bench.workspace.repository().join(place), bytes)?;
    Ok(true)
}

fn unsigned(error: MetadataError) -> Error {
    Error::Failed(error.to_string())
}

/// Signs what changed and writes the metadata, the timestamp last.
pub(super) fn sign(bench: &Bench<'_>, published: &mut Published) -> Result<()> {
    let files = published
        .metadata
        .sign(&bench.signers.all(), bench.now)
        .map_err(|error| Error::Failed(error.to_string()))?;
    let folder = bench.workspace.repository().join("metadata");
    files
        .iter()
        .try_for_each(|file| replace(bench.files, &staging(bench), &folder.join(&file.name), &file.bytes))
}

fn staging(bench: &Bench<'_>) -> PathBuf {
    bench.workspace.repository().join(STAGING)
}

fn outcome(release: &Release, plan: Plan, changed: bool) -> Result<Outcome> {
    let bytes = release.to_bytes().map_err(|error| Error::Failed(error.to_string()))?;
    Ok(Outcome {
        version: plan.version,
        channel: plan.channel,
        changed,
        manifest: Digest::of(&bytes),
        image: release.root.size,
        full: release.root.full.size,
        chunks: release.root.chunks.size,
        uki: release.uki.size,
        uki_delta: release.uki.compose.size,
        edges: release
            .deltas
            .iter()
            .map(|edge| EdgeSize { from: edge.from.clone(), size: edge.delta.size, cost: edge.delta.cost })
            .collect(),
        dropped: plan.dropped,
        retired: plan.retired,
        waves: plan.pointer.waves,
        hold: plan.pointer.hold,
    })
}
