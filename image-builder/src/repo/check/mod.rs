//! Audits a repository as a host would see it: the chain of trust, each target, each object it names.
//!
//! Of a copy that says that it holds a part of its repository, that part has to be there, and what was left out is counted. What holds
//! no part has to be whole.
//!
//! An audit goes on after a finding, so that one run tells all that is wrong. Only what makes it impossible to go on, such as a
//! server that is down, is an error.

mod objects;
mod source;
pub(super) mod trust;

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;
use upright_manifests::channel::Channel;
use upright_manifests::digest::Digest;
use upright_manifests::partial::Partial;
use upright_manifests::release::Release;
use upright_manifests::tuf::RoleStatus;

pub use source::Source;

use super::copy::catalogue::Catalogue;
use super::error::Result;
use super::progress::Progress;

/// What an audit found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The metadata and when it expires.
    pub metadata: Vec<RoleStatus>,
    /// The part of its repository that a copy is to have; none if that is all of it.
    pub part: Option<Partial>,
    /// How many releases are listed, whether they are there or not.
    pub listed: usize,
    /// How many releases are there.
    pub releases: usize,
    /// How many channels point at one.
    pub channels: usize,
    /// How many objects were read, and found to be what was signed.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong.
    pub errors: Vec<String>,
    /// What will go wrong soon, or is odd.
    pub warnings: Vec<String>,
}

/// A release and its manifest's digest.
struct Listed {
    path: String,
    release: Release,
    manifest: Digest,
}

/// A channel, and the role that lists it.
struct Pointer {
    channel: Channel,
    role: String,
}

/// Audits what `source` offers, or the part of it that it says it has, trusting `root`, a `root.json`, as a host does that shipped
/// with it.
pub fn check(source: &Source, root: Vec<u8>, now: Timestamp, progress: &dyn Progress) -> Result<Report> {
    let part = source.part()?;
    audit(source, root, part, now, progress)
}

/// The same of what has to be whole, whatever it says of itself.
pub fn check_whole(
    source: &Source,
    root: Vec<u8>,
    now: Timestamp,
    progress: &dyn Progress,
) -> Result<Report> {
    audit(source, root, None, now, progress)
}

fn audit(
    source: &Source,
    root: Vec<u8>,
    part: Option<Partial>,
    now: Timestamp,
    progress: &dyn Progress,
) -> Result<Report> {
    let mut report = Report::default();
    let Some(targets) = trust::follow(source, root, now, &mut report)? else { return Ok(report) };
    let catalogue = part.as_ref().map(|part| Catalogue::of_part(source, &targets, part)).transpose()?;
    report.part = part;
    report.errors.extend(catalogue.iter().flat_map(|catalogue| catalogue.missing.iter().cloned()));
    let mut releases = Vec::new();
    let mut channels = Vec::new();
    for target in &targets {
        let is_release = target.path.starts_with("releases/");
        report.listed += usize::from(is_release);
        // What is to be there of a part was read already.
        let bytes = match &catalogue {
            Some(catalogue) => catalogue.documents.get(&target.place).cloned(),
            None => trust::target(source, target, &mut report)?,
        };
        let Some(bytes) = bytes else { continue };
        if is_release {
            match Release::parse(&bytes) {
                Ok(release) => {
                    let (path, manifest) = (target.path.clone(), Digest::of(&bytes));
                    misplaced(&path, &release_place(&release, &path), &mut report);
                    releases.push(Listed { path, release, manifest });
                }
                Err(error) => report.errors.push(format!("{}: {error}", target.path)),
            }
        } else if target.path.starts_with("channels/") {
            match Channel::parse(&bytes) {
                Ok(channel) => {
                    let at = Channel::target_path(&channel.os, channel.arch, &channel.channel);
                    misplaced(&target.path, &at, &mut report);
                    channels.push(Pointer { channel, role: target.role.clone() });
                }
                Err(error) => report.errors.push(format!("{}: {error}", target.path)),
            }
        }
    }
    for listed in &releases {
        check_time(listed, &mut report);
    }
    report.channels = channels.len();
    for channel in &channels {
        check_channel(channel, &releases, &mut report);
    }
    let wanted = |path: &str| catalogue.as_ref().is_none_or(|catalogue| catalogue.objects.contains_key(path));
    let mut seen = BTreeSet::new();
    for Listed { release, manifest, .. } in &releases {
        // Of some, a part has the manifest alone.
        if !wanted(release.root.full.path.as_str()) {
            continue;
        }
        report.releases += 1;
        if seen.insert(*manifest) {
            objects::check(source, release, &wanted, &mut report, progress)?;
        }
    }
    Ok(report)
}

/// Where this manifest belongs, in the listing that `path` is of.
fn release_place(release: &Release, path: &str) -> String {
    let Release { os, arch, version, .. } = release;
    let channel = path.split('/').nth(3).filter(|_| path.split('/').count() == 5);
    match channel.and_then(|channel| channel.parse().ok()) {
        Some(channel) => Release::channel_path(os, *arch, &channel, version),
        None => Release::target_path(os, *arch, version),
    }
}

/// Hosts never take it to be earlier than their image was made.
fn check_time(Listed { path, release, .. }: &Listed, report: &mut Report) {
    let timestamp = report.metadata.iter().find(|role| role.role == "timestamp");
    if let Some(timestamp) = timestamp.filter(|timestamp| release.time >= timestamp.expires) {
        report.errors.push(format!(
            "hosts refuse {path}: it is of {:.0}, and the timestamp expires on {:.0}; build it under a new version with an earlier \
             --time",
            release.time, timestamp.expires
        ));
    }
}

fn misplaced(path: &str, at: &str, report: &mut Report) {
    if path != at {
        report.errors.push(format!("hosts refuse what {path} lists: it belongs to {at}"));
    }
}

fn check_channel(Pointer { channel, role }: &Pointer, releases: &[Listed], report: &mut Report) {
    let (os, name, version) = (&channel.os, &channel.channel, &channel.version);
    // As hosts look for it: a team has a listing of its own.
    let own = (role != "targets").then(|| Release::channel_path(os, channel.arch, name, version));
    let paths = own.into_iter().chain([Release::target_path(os, channel.arch, version)]);
    let mut found = paths.filter_map(|path| releases.iter().find(|listed| listed.path == path));
    let listed = found.next();
    match listed {
        None => report.errors.push(format!("channel {name} points at {version}, which is not offered")),
        Some(listed) if listed.manifest != channel.manifest => {
            report
                .errors
                .push(format!("channel {name} points at another manifest of {version} than the one offered"));
        }
        Some(_) => {}
    }
    if let Some(reason) = &channel.hold {
        report.warnings.push(format!("channel {name} is on hold: {reason}"));
    }
}
