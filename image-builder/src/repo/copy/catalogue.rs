//! What has to be in a copy so that a host can verify and take what was picked.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use upright_manifests::channel::Channel;
use upright_manifests::digest::Digest;
use upright_manifests::name::RepoPath;
use upright_manifests::release::{Blob, PartedBlob, Release};
use upright_manifests::tuf::schema::Root;
use upright_manifests::tuf::{Document, RoleStatus, Stored, Summary, limits, names};

use super::pick::Pick;
use crate::repo::check::trust::{self, Target};
use crate::repo::check::{Report, Source};
use crate::repo::error::{Error, Result};

/// What a copy holds.
#[derive(Default)]
pub(super) struct Catalogue {
    /// The metadata that was fetched, in the order in which it becomes visible: the timestamp is last.
    pub(super) metadata: Vec<(String, Vec<u8>)>,
    /// Release manifests and channel files, by their place in the repository.
    pub(super) documents: BTreeMap<String, Vec<u8>>,
    /// What releases name, by its place.
    pub(super) objects: BTreeMap<String, Object>,
    /// The channels.
    pub(super) channels: BTreeSet<String>,
    /// The releases whose objects are wanted.
    pub(super) releases: BTreeSet<String>,
    /// The newest time of any of them.
    pub(super) time: Option<Timestamp>,
    /// How the top-level roles stand.
    pub(super) status: Vec<RoleStatus>,
    /// What is worth knowing.
    pub(super) notes: Vec<String>,
}

/// A file that a release names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Object {
    /// Its length in bytes.
    pub(super) size: u64,
    /// Its SHA-256.
    pub(super) sha256: Digest,
}

impl Catalogue {
    /// When the first of the top-level roles expires.
    pub(super) fn good_until(&self) -> Timestamp {
        self.status.iter().map(|role| role.expires).min().unwrap_or(Timestamp::MIN)
    }

    /// Follows the chain of trust from `stored` on and takes what `pick` says. Documents that `local` has are not fetched.
    pub(super) fn gather(
        source: &Source,
        local: Option<&Source>,
        stored: &Stored,
        pick: &Pick,
        now: Timestamp,
    ) -> Result<Self> {
        let mut report = Report::default();
        let refused = |error: &dyn std::fmt::Display| {
            Error::Unverified(format!("hosts refuse what {} offers: {error}", source.place()))
        };
        let chain = trust::list(source, stored, now, &mut report)?.map_err(|error| refused(&error))?;
        let mut catalogue = Self { status: chain.status, ..Self::default() };
        catalogue.metadata = metadata(chain.files, stored);
        older_roots(source, stored, &mut catalogue)?;
        catalogue.metadata.sort_by_key(|(name, _)| rank(name));
        // What is wrong with one team's listing is in nobody else's way.
        catalogue.notes.append(&mut report.errors);
        let (targets, elsewhere): (Vec<_>, Vec<_>) =
            chain.targets.into_iter().partition(|target| is_document(&target.path));
        let left_out = |Target { role, path, .. }: &Target| {
            format!("{role} lists {path:?}, which is no channel and no release: left out")
        };
        catalogue.notes.extend(elsewhere.iter().map(left_out));
        let mut gathering =
            Gathering { source, local, targets: &targets, pick, catalogue, read: BTreeMap::new() };
        gathering.take_all()?;
        Ok(gathering.catalogue)
    }
}

/// Whether a listed path is that of a channel or a release. Who lists is trusted with nothing but these.
fn is_document(path: &str) -> bool {
    path.parse::<RepoPath>().is_ok() && (path.starts_with("channels/") || path.starts_with("releases/"))
}

/// What was fetched and is in force. A timestamp of the version that is stored changes nothing.
fn metadata(mut files: BTreeMap<String, Vec<u8>>, stored: &Stored) -> Vec<(String, Vec<u8>)> {
    let version = |bytes: &Vec<u8>| Summary::of(bytes).ok().map(|summary| summary.version);
    let same = |fetched: &Vec<u8>| {
        stored.files.get("timestamp.json").is_some_and(|old| version(old) == version(fetched))
    };
    if files.get("timestamp.json").is_some_and(same) {
        files.remove("timestamp.json");
    }
    files.into_iter().collect()
}

/// Hosts may have any root that there was: each leads to the next.
fn older_roots(source: &Source, stored: &Stored, catalogue: &mut Catalogue) -> Result<()> {
    let parse = |bytes: &[u8]| Document::<Root>::parse(bytes).ok();
    let Some(trusted) = parse(&stored.root) else { return Ok(()) };
    let mut next = trusted;
    catalogue.metadata.push((names::served_name("root", Some(next.version())), stored.root.clone()));
    for version in (1..next.version()).rev().take(limits::ROOTS as usize) {
        let name = names::served_name("root", Some(version));
        let bytes = source.read(&format!("metadata/{name}"), limits::ROOT)?;
        let found = bytes.and_then(|bytes| Some((parse(&bytes)?, bytes)));
        let leads_on = |root: &Document<Root>| {
            root.version() == version
                && root
                    .signed
                    .roles
                    .get("root")
                    .is_some_and(|role| next.verify(&root.signed.keys, role).is_ok())
        };
        match found.filter(|(root, _)| leads_on(root)) {
            Some((root, bytes)) => {
                catalogue.metadata.push((name, bytes));
                next = root;
            }
            None => {
                catalogue.notes.push(format!(
                    "{name} cannot be had, so hosts whose image came with it or an older one cannot take anything from this copy"
                ));
                break;
            }
        }
    }
    Ok(())
}

/// The place of a document in the order in which metadata becomes visible.
fn rank(name: &str) -> (u8, u64, String) {
    let number = name.split_once('.').and_then(|(number, _)| number.parse().ok()).unwrap_or(0);
    let is = |role: &str| name == format!("{number}.{role}.json") || name == format!("{role}.json");
    let kind = match () {
        () if is("targets") => 1,
        () if is("snapshot") => 2,
        // A new root may be one of new keys, with which the timestamp that is there is not signed.
        () if is("root") => 3,
        () if is("timestamp") => 4,
        () => 0,
    };
    (kind, number, name.to_owned())
}

/// A catalogue that is being made.
struct Gathering<'a> {
    source: &'a Source,
    local: Option<&'a Source>,
    targets: &'a [Target],
    pick: &'a Pick,
    catalogue: Catalogue,
    /// Manifests that were read, by path, and whether their objects are wanted.
    read: BTreeMap<String, bool>,
}

impl<'a> Gathering<'a> {
    fn take_all(&mut self) -> Result<()> {
        let targets = self.targets;
        for target in targets.iter().filter(|target| target.path.starts_with("channels/")) {
            let taken = self.channel(target);
            self.tolerate(target, taken)?;
        }
        for target in targets.iter().filter(|target| target.path.starts_with("releases/")) {
            if self.pick.takes_version(last(&target.path)) {
                let taken = self.release(target, true);
                self.tolerate(target, taken)?;
            }
        }
        if self.pick.is_all() {
            for target in targets {
                let taken = self.document(target).map(drop);
                self.tolerate(target, taken)?;
            }
        }
        self.expect_everything()
    }

    /// Where everything is copied, what is wrong with a team's files keeps nobody else's from being copied.
    fn tolerate(&mut self, target: &Target, taken: Result<()>) -> Result<()> {
        match taken {
            Err(Error::Unverified(line)) if self.pick.is_all() && target.role != "targets" => {
                self.catalogue.notes.push(format!("{}: {line}", target.role));
                Ok(())
            }
            taken => taken,
        }
    }

    /// A channel file, if it is wanted or leads to a release that is.
    fn channel(&mut self, target: &Target) -> Result<()> {
        let name = last(&target.path);
        let wanted = self.pick.takes_channel(name);
        if !wanted && self.pick.versions.is_empty() {
            return Ok(());
        }
        let bytes = self.document(target)?;
        let channel = match Channel::parse(&bytes) {
            Ok(channel) => channel,
            Err(error) if wanted => return Err(Error::Unverified(format!("{}: {error}", target.path))),
            Err(_) => return Ok(()),
        };
        let own = (target.role != "targets")
            .then(|| Release::channel_path(&channel.os, channel.arch, &channel.channel, &channel.version));
        let shared = Release::target_path(&channel.os, channel.arch, &channel.version);
        let found = own.into_iter().chain([shared]).find_map(|path| self.find(&path));
        self.catalogue.channels.insert(name.to_owned());
        match found {
            Some(release) => self.release(release, wanted),
            None if wanted => Err(Error::Unverified(format!(
                "channel {name} points at {}, which is not offered; let the publisher run `upright-build check`",
                channel.version
            ))),
            None => Ok(()),
        }
    }

    /// A manifest, and with `whole` what it names and what hosts must pass through first.
    fn release(&mut self, target: &Target, whole: bool) -> Result<()> {
        if self.read.get(&target.path).is_some_and(|before| *before || !whole) {
            return Ok(());
        }
        self.read.insert(target.path.clone(), whole);
        let bytes = self.document(target)?;
        let release =
            Release::parse(&bytes).map_err(|error| Error::Unverified(format!("{}: {error}", target.path)))?;
        self.catalogue.time = self.catalogue.time.max(Some(release.time));
        if !whole {
            return Ok(());
        }
        self.catalogue.releases.insert(release.version.to_string());
        let Blob { path, size, sha256 } = &release.root.chunks;
        self.object(path.as_str(), *size, *sha256)?;
        let deltas = release.deltas.iter().filter(|edge| self.pick.takes_delta(edge)).map(|edge| &edge.delta);
        for PartedBlob { path, size, sha256, .. } in
            [&release.root.full, &release.uki.compose].into_iter().chain(deltas)
        {
            self.object(path.as_str(), *size, *sha256)?;
        }
        let Some(floor) = self.pick.floor(&release) else { return Ok(()) };
        let folder = target.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let shared = Release::target_path(&release.os, release.arch, floor);
        let found = self.find(&format!("{folder}/{floor}.json")).or_else(|| self.find(&shared));
        match found {
            // Floors lead to older versions alone, and each manifest is read once.
            Some(floor) => self.release(floor, true),
            None => {
                let line = format!("{} must be taken before {}, and is not offered", floor, release.version);
                self.catalogue.notes.push(line);
                Ok(())
            }
        }
    }

    fn object(&mut self, path: &str, size: u64, sha256: Digest) -> Result<()> {
        if !(path.starts_with("payloads/") || path.starts_with("deltas/")) {
            return Err(Error::Unverified(format!(
                "a release names {path:?}, which is no place of payloads or deltas; let the publisher run `upright-build check`"
            )));
        }
        let object = Object { size, sha256 };
        match self.catalogue.objects.insert(path.to_owned(), object) {
            Some(other) if other != object => Err(Error::Unverified(format!(
                "two releases say different things of {path}; let the publisher run `upright-build check`"
            ))),
            _ => Ok(()),
        }
    }

    /// A document, as it was signed.
    fn document(&mut self, target: &Target) -> Result<Vec<u8>> {
        if let Some(bytes) = self.catalogue.documents.get(&target.place) {
            return Ok(bytes.clone());
        }
        let mut report = Report::default();
        let local = self
            .local
            .map(|local| trust::target(local, target, &mut Report::default()))
            .transpose()?
            .flatten();
        let bytes = match local {
            Some(bytes) => Some(bytes),
            None => trust::target(self.source, target, &mut report)?,
        };
        let bytes = bytes.ok_or_else(|| {
            Error::Unverified(format!("{}: {}", self.source.place(), report.errors.join("; ")))
        })?;
        self.catalogue.documents.insert(target.place.clone(), bytes.clone());
        Ok(bytes)
    }

    fn find(&self, path: &str) -> Option<&'a Target> {
        self.targets.iter().find(|target| target.path == path)
    }

    /// Fails for what was asked for and is not offered.
    fn expect_everything(&self) -> Result<()> {
        let known = |prefix: &str| {
            let names: BTreeSet<&str> = self
                .targets
                .iter()
                .filter(|target| target.path.starts_with(prefix))
                .map(|target| last(&target.path))
                .collect();
            names.into_iter().collect::<Vec<_>>().join(", ")
        };
        let place = self.source.place();
        for channel in &self.pick.channels {
            if !self.catalogue.channels.contains(channel.as_str()) {
                let known = known("channels/");
                return Err(Error::refused(format!("{place} has no channel {channel}; it has {known}")));
            }
        }
        for version in &self.pick.versions {
            if !self.catalogue.releases.contains(version.as_str()) {
                let known = known("releases/");
                return Err(Error::refused(format!(
                    "{place} offers no release {version}; it offers {known}"
                )));
            }
        }
        Ok(())
    }
}

/// The name of a channel or a version of a release, which its path ends with.
fn last(path: &str) -> &str {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    name.strip_suffix(".json").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_outside_of_a_copy_or_over_its_metadata() {
        for path in ["channels/acme/x86-64/stable.json", "releases/acme/x86-64/1.0~rc1.json"] {
            assert!(is_document(path), "{path}");
        }
        for path in [
            "/etc/profile.d/x.sh",
            "releases/../../x",
            "releases//x",
            "metadata/3.root.json",
            "x",
            "releases",
        ] {
            assert!(!is_document(path), "{path}");
        }
    }

    #[test]
    fn metadata_appears_from_the_bottom_up_and_keys_right_before_what_they_sign() {
        let mut names = [
            "2.root.json",
            "timestamp.json",
            "7.snapshot.json",
            "5.targets.json",
            "3.team.json",
            "1.root.json",
        ];
        names.sort_by_key(|name| rank(name));
        assert_eq!(
            names,
            [
                "3.team.json",
                "5.targets.json",
                "7.snapshot.json",
                "1.root.json",
                "2.root.json",
                "timestamp.json"
            ]
        );
    }
}
