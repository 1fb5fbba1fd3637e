//! Audits a repository as a host would see it: the chain of trust, each target, each object it names.
//!
//! An audit goes on after a finding, so that one run tells all that is wrong. Only what makes it impossible to go on, such as a
//! server that is down, is an error.

mod objects;
mod source;
mod trust;

use jiff::Timestamp;
use serde::Serialize;
use upright_manifests::channel::Channel;
use upright_manifests::digest::Digest;
use upright_manifests::release::Release;
use upright_manifests::tuf::RoleStatus;

pub use source::Source;

use super::error::Result;
use super::progress::Progress;

/// What an audit found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The metadata and when it expires.
    pub metadata: Vec<RoleStatus>,
    /// How many releases are offered.
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
    release: Release,
    manifest: Digest,
}

/// Audits what `source` offers, trusting `root`, a `root.json`, as a host does that shipped with it.
pub fn check(source: &Source, root: Vec<u8>, now: Timestamp, progress: &dyn Progress) -> Result<Report> {
    let mut report = Report::default();
    let Some(targets) = trust::follow(source, root, now, &mut report)? else { return Ok(report) };
    let mut releases = Vec::new();
    let mut channels = Vec::new();
    for target in &targets {
        let Some(bytes) = trust::target(source, target, &mut report)? else { continue };
        if target.path.starts_with("releases/") {
            match Release::parse(&bytes) {
                Ok(release) => releases.push(Listed { release, manifest: Digest::of(&bytes) }),
                Err(error) => report.errors.push(format!("{}: {error}", target.path)),
            }
        } else if target.path.starts_with("channels/") {
            match Channel::parse(&bytes) {
                Ok(channel) => channels.push(channel),
                Err(error) => report.errors.push(format!("{}: {error}", target.path)),
            }
        }
    }
    report.releases = releases.len();
    report.channels = channels.len();
    for channel in &channels {
        check_channel(channel, &releases, &mut report);
    }
    for listed in &releases {
        objects::check(source, &listed.release, &mut report, progress)?;
    }
    Ok(report)
}

fn check_channel(channel: &Channel, releases: &[Listed], report: &mut Report) {
    let of_it = |listed: &&Listed| {
        let release = &listed.release;
        (&release.os, release.arch, &release.version) == (&channel.os, channel.arch, &channel.version)
    };
    let (name, version) = (&channel.channel, &channel.version);
    match releases.iter().find(of_it) {
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
