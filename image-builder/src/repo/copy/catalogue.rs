//! What has to be in a copy so that a host can verify and take what was picked.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use upright_manifests::channel::Channel;
use upright_manifests::digest::Digest;
use upright_manifests::name::{ChannelName, RepoPath};
use upright_manifests::partial::{self, Partial};
use upright_manifests::release::{Blob, PartedBlob, Release};
use upright_manifests::tuf::schema::Root;
use upright_manifests::tuf::{Document, RoleStatus, Stored, Summary, limits, names};
use upright_manifests::version::Version;

use super::pick::Pick;
use crate::repo::check::trust::{self, Target};
use crate::repo::check::{Report, Source};
use crate::repo::error::{Error, Result};

/// What a copy holds.
#[derive(Default)]
pub(in crate::repo) struct Catalogue {
    /// The metadata that was fetched, in the order in which it becomes visible: the timestamp is last.
    pub(super) metadata: Vec<(String, Vec<u8>)>,
    /// Release manifests and channel files, by their place in the repository.
    pub(in crate::repo) documents: BTreeMap<String, Vec<u8>>,
    /// What releases name, by its place.
    pub(in crate::repo) objects: BTreeMap<String, Object>,
    /// The channels.
    pub(super) channels: BTreeSet<String>,
    /// The releases whose objects are wanted.
    pub(super) releases: BTreeSet<String>,
    /// The channels whose hosts are to find all that they take.
    pub(super) pointed: Vec<Pointed>,
    /// What a host needs of each of these releases, by the path that lists it.
    needs: BTreeMap<String, Needs>,
    /// What is wanted and cannot be had, in words.
    pub(in crate::repo) missing: BTreeSet<String>,
    /// The part of its repository that it is; none if it is all of it.
    pub(super) part: Option<Partial>,
    /// The newest time of any of them.
    pub(super) time: Option<Timestamp>,
    /// How the top-level roles stand.
    pub(super) status: Vec<RoleStatus>,
    /// What is worth knowing.
    pub(super) notes: Vec<String>,
}

/// A channel, and the release that it points at.
pub(super) struct Pointed {
    /// The channel's name.
    pub(super) channel: String,
    /// The role that lists it.
    pub(super) role: String,
    /// The path that lists the release; none where that cannot be told.
    release: Option<String>,
}

/// What a host cannot do without that takes a release.
struct Needs {
    objects: [String; 2],
    /// The path that lists the release that has to be taken first.
    floor: Option<String>,
}

/// A file that a release names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::repo) struct Object {
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

    /// What the copy says of itself; none if it is whole.
    pub(super) fn part_bytes(&self) -> Result<Option<Vec<u8>>> {
        let bytes = self.part.as_ref().map(Partial::to_bytes).transpose();
        bytes.map_err(|error| Error::Failed(format!("cannot write {}: {error}", partial::PATH)))
    }

    /// The channels whose hosts cannot take what they point at where the objects `gone` are not there. A delta or an index that is
    /// gone leaves them a way.
    pub(super) fn broken(&self, gone: &BTreeMap<String, String>) -> Vec<&Pointed> {
        let is_broken = |pointed: &&Pointed| !self.can_be_taken(pointed.release.as_ref(), gone);
        self.pointed.iter().filter(is_broken).collect()
    }

    fn can_be_taken(&self, release: Option<&String>, gone: &BTreeMap<String, String>) -> bool {
        let mut next = release;
        for _ in 0..=self.needs.len() {
            let Some(needs) = next.and_then(|path| self.needs.get(path)) else { return false };
            if needs.objects.iter().any(|path| gone.contains_key(path)) {
                return false;
            }
            match &needs.floor {
                None => return true,
                floor => next = floor.as_ref(),
            }
        }
        false
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
        let held = source.part()?;
        let pick = match &held {
            Some(held) => pick.within(held, &source.place())?,
            None => pick.clone(),
        };
        let chain = trust::list(source, stored, now, &mut report)?.map_err(|error| refused(&error))?;
        let mut catalogue = Self { status: chain.status, ..Self::default() };
        catalogue.metadata = metadata(chain.files, stored);
        older_roots([Some(source), local], stored, &mut catalogue)?;
        catalogue.metadata.sort_by_key(|(name, _)| rank(name));
        // What is wrong with one team's listing is in nobody else's way.
        catalogue.notes.append(&mut report.errors);
        let mut gathering = Gathering::new(source, &chain.targets, &pick, catalogue);
        (gathering.local, gathering.held) = (local, held.as_ref());
        gathering.take_all()?;
        match gathering.not_listed() {
            Some(line) => Err(Error::refused(line)),
            None => Ok(gathering.finish()),
        }
    }

    /// What a copy that holds `part` of its repository is to have of `targets`; what is not listed at all is missing, too.
    pub(in crate::repo) fn of_part(source: &Source, targets: &[Target], part: &Partial) -> Result<Self> {
        let pick = Pick::of(part);
        let mut gathering = Gathering::new(source, targets, &pick, Self::default());
        gathering.held = Some(part);
        gathering.take_all()?;
        let not_listed = gathering.not_listed();
        gathering.catalogue.missing.extend(not_listed);
        Ok(gathering.finish())
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

/// Hosts may have any root that there was: each leads to the next. What the source lost, the copy may have.
fn older_roots(places: [Option<&Source>; 2], stored: &Stored, catalogue: &mut Catalogue) -> Result<()> {
    let Ok(mut next) = Document::sound_root(&stored.root) else { return Ok(()) };
    catalogue.metadata.push((names::served_name("root", Some(next.version())), stored.root.clone()));
    for version in (1..next.version()).rev().take(limits::ROOTS as usize) {
        let name = names::served_name("root", Some(version));
        let mut found = None;
        for place in places.into_iter().flatten() {
            if found.is_none() {
                found = root_before(place, &name, &next)?;
            }
        }
        let Some((root, bytes)) = found else {
            catalogue.notes.push(format!(
                "{name} cannot be had, so hosts whose image came with it or an older one cannot take anything from this copy"
            ));
            break;
        };
        catalogue.metadata.push((name, bytes));
        next = root;
    }
    Ok(())
}

/// The root of that name, if it is the one before `next`.
fn root_before(
    place: &Source,
    name: &str,
    next: &Document<Root>,
) -> Result<Option<(Document<Root>, Vec<u8>)>> {
    let bytes = place.read(&format!("metadata/{name}"), limits::ROOT)?;
    let found = bytes.and_then(|bytes| Some((Document::<Root>::sound_root(&bytes).ok()?, bytes)));
    Ok(found.filter(|(root, _)| root.version() + 1 == next.version() && root.leads_to(next).is_ok()))
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
    targets: Vec<&'a Target>,
    pick: &'a Pick,
    /// The part of its repository that the source has; none if it has all of it.
    held: Option<&'a Partial>,
    catalogue: Catalogue,
    /// Manifests that were read, by path, and whether their objects are wanted.
    read: BTreeMap<String, bool>,
    /// Channels that are taken along for their file, and what they point at.
    pointers: Vec<(ChannelName, Version)>,
}

impl<'a> Gathering<'a> {
    fn new(source: &'a Source, targets: &'a [Target], pick: &'a Pick, mut catalogue: Catalogue) -> Self {
        let (targets, elsewhere): (Vec<_>, Vec<_>) =
            targets.iter().partition(|target| is_document(&target.path));
        let left_out = |Target { role, path, .. }: &&Target| {
            format!("{role} lists {path:?}, which is no channel and no release: left out")
        };
        catalogue.notes.extend(elsewhere.iter().map(left_out));
        let (local, held, read, pointers) = (None, None, BTreeMap::new(), Vec::new());
        Self { source, local, targets, pick, held, catalogue, read, pointers }
    }

    fn take_all(&mut self) -> Result<()> {
        let targets = self.targets.clone();
        for target in targets.iter().filter(|target| target.path.starts_with("channels/")) {
            let taken = self.channel(target);
            self.go_on(taken)?;
        }
        for target in targets.iter().filter(|target| target.path.starts_with("releases/")) {
            if self.pick.takes_version(last(&target.path)) {
                let taken = self.release(target, true);
                self.go_on(taken)?;
            }
        }
        if self.pick.is_all() {
            for target in targets {
                let taken = self.document(target).map(drop);
                self.go_on(taken)?;
            }
        }
        Ok(())
    }

    /// What is wrong with one file keeps no other from being looked at. Who asked decides what follows from it.
    fn go_on(&mut self, taken: Result<()>) -> Result<()> {
        match taken {
            Err(Error::Unverified(line)) => {
                self.catalogue.missing.insert(line);
                Ok(())
            }
            taken => taken,
        }
    }

    /// Whether the file of a channel goes along that is not wanted itself: its hosts take one of the wanted releases by it.
    fn leads(&self, channel: &str) -> bool {
        let has = |held: &Partial| {
            held.channels.iter().chain(&held.pointers).any(|there| there.as_str() == channel)
        };
        !self.pick.versions.is_empty() && self.held.is_none_or(has)
    }

    /// A channel file, if it is wanted or leads to a release that is.
    fn channel(&mut self, target: &'a Target) -> Result<()> {
        let name = last(&target.path);
        let wanted = self.pick.takes_channel(name);
        match wanted {
            true => self.wanted_channel(target, name),
            false if self.leads(name) => self.pointer(target, name),
            false => Ok(()),
        }
    }

    fn wanted_channel(&mut self, target: &'a Target, name: &str) -> Result<()> {
        self.catalogue.channels.insert(name.to_owned());
        let release = self.pointed_at(target);
        self.catalogue.pointed.push(Pointed {
            channel: name.to_owned(),
            role: target.role.clone(),
            release: release.as_ref().ok().map(|release| release.path.clone()),
        });
        self.release(release?, true)
    }

    /// Where the release is listed that a channel points at.
    fn pointed_at(&mut self, target: &Target) -> Result<&'a Target> {
        let bytes = self.document(target)?;
        let channel =
            Channel::parse(&bytes).map_err(|error| Error::Unverified(format!("{}: {error}", target.path)))?;
        let (name, version) = (&channel.channel, &channel.version);
        self.release_of(target, &channel).ok_or_else(|| {
            Error::Unverified(format!("channel {name} points at {version}, which is not offered"))
        })
    }

    fn pointer(&mut self, target: &'a Target, name: &str) -> Result<()> {
        let bytes = match self.document(target) {
            // A team that breaks its own is in nobody else's way, unless it is known to have been there.
            Err(Error::Unverified(line)) if self.held.is_none() && target.role != "targets" => {
                self.catalogue.notes.push(format!("{}: {line}", target.role));
                return Ok(());
            }
            bytes => bytes?,
        };
        let Ok(channel) = Channel::parse(&bytes) else { return Ok(()) };
        self.catalogue.channels.insert(name.to_owned());
        self.pointers.push((channel.channel.clone(), channel.version.clone()));
        match self.release_of(target, &channel) {
            Some(release) => self.release(release, false),
            None => Ok(()),
        }
    }

    /// Where the release is listed that a channel points at, as a host of the channel looks for it.
    fn release_of(&self, target: &Target, channel: &Channel) -> Option<&'a Target> {
        let own = (target.role != "targets")
            .then(|| Release::channel_path(&channel.os, channel.arch, &channel.channel, &channel.version));
        let shared = Release::target_path(&channel.os, channel.arch, &channel.version);
        own.into_iter().chain([shared]).find_map(|path| self.find(&path))
    }

    /// A manifest, and with `whole` what it names and what hosts must pass through first.
    fn release(&mut self, target: &'a Target, whole: bool) -> Result<()> {
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
        let floor = self.pick.floor(&release);
        let found = floor.and_then(|floor| {
            let folder = target.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let shared = Release::target_path(&release.os, release.arch, floor);
            self.find(&format!("{folder}/{floor}.json")).or_else(|| self.find(&shared))
        });
        let objects = [&release.root.full, &release.uki.compose].map(|blob| blob.path.to_string());
        let needs = Needs { objects, floor: found.map(|floor| floor.path.clone()) };
        self.catalogue.needs.insert(target.path.clone(), needs);
        match (floor, found) {
            // Floors lead to older versions alone, and each manifest is read once.
            (_, Some(floor)) => self.release(floor, true),
            (Some(floor), None) => {
                let line = format!("{} must be taken before {}, and is not offered", floor, release.version);
                self.catalogue.notes.push(line);
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }

    fn object(&mut self, path: &str, size: u64, sha256: Digest) -> Result<()> {
        if !(path.starts_with("payloads/") || path.starts_with("deltas/")) {
            return Err(Error::Unverified(format!(
                "a release names {path:?}, which is no place of payloads or deltas"
            )));
        }
        let object = Object { size, sha256 };
        match self.catalogue.objects.insert(path.to_owned(), object) {
            Some(other) if other != object => {
                Err(Error::Unverified(format!("two releases say different things of {path}")))
            }
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
        let bytes = bytes.ok_or_else(|| Error::Unverified(report.errors.join("; ")))?;
        self.catalogue.documents.insert(target.place.clone(), bytes.clone());
        Ok(bytes)
    }

    fn find(&self, path: &str) -> Option<&'a Target> {
        self.targets.iter().find(|target| target.path == path).copied()
    }

    /// What was asked for and nobody lists, in words.
    fn not_listed(&self) -> Option<String> {
        let known = |prefix: &str| {
            let names: BTreeSet<&str> = self
                .targets
                .iter()
                .filter(|target| target.path.starts_with(prefix))
                .map(|target| last(&target.path))
                .collect();
            names.into_iter().collect::<Vec<_>>().join(", ")
        };
        let is_listed = |prefix: &str, name: &str| {
            self.targets.iter().any(|target| target.path.starts_with(prefix) && last(&target.path) == name)
        };
        let place = self.source.place();
        let mut channels = self.pick.channels.iter();
        if let Some(channel) = channels.find(|channel| !is_listed("channels/", channel.as_str())) {
            return Some(format!("{place} has no channel {channel}; it has {}", known("channels/")));
        }
        let mut versions = self.pick.versions.iter();
        let version = versions.find(|version| !is_listed("releases/", version.as_str()))?;
        Some(format!("{place} offers no release {version}; it offers {}", known("releases/")))
    }

    /// The catalogue, with what it is a part of and what that means for hosts.
    fn finish(mut self) -> Catalogue {
        let Pick { channels, versions, from, without_deltas } = self.pick.clone();
        if self.pick.is_all() {
            return self.catalogue;
        }
        let own = |version: &Version| self.catalogue.releases.contains(version.as_str());
        let command = |version: &Version| format!("`upright update --from PATH --version {version}`");
        let commands: Vec<String> = versions.iter().map(command).collect();
        for (channel, version) in self.pointers.iter().filter(|(_, version)| !own(version)) {
            self.catalogue.notes.push(format!(
                "channel {channel} points at {version}, which is not in it, so its hosts have to be told what to take: {}",
                commands.join(" or ")
            ));
        }
        let mut part = Partial {
            format: partial::FORMAT,
            channels,
            versions,
            pointers: self.pointers.into_iter().map(|(channel, _)| channel).collect(),
            from,
            deltas: !without_deltas,
        };
        // The same part is the same bytes.
        for channels in [&mut part.channels, &mut part.pointers] {
            channels.sort();
            channels.dedup();
        }
        for versions in [&mut part.versions, &mut part.from] {
            versions.sort_by(|a, b| a.as_str().cmp(b.as_str()));
            versions.dedup();
        }
        self.catalogue.part = Some(part);
        self.catalogue
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
