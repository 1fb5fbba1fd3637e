//! What a repository offers now, read back and verified as a host would.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use upright_manifests::channel::Channel;
use upright_manifests::digest::Digest;
use upright_manifests::name::{Arch, ChannelName, OsName};
use upright_manifests::release::Release;
use upright_manifests::tuf::Problem;
use upright_manifests::tuf::schema::TargetFile;
use upright_manifests::version::Version;

use super::ceremony;
use super::config::Config;
use super::error::{Error, Result};
use super::metadata::Metadata;
use super::publish::release_path;
use super::signers::lifetimes;
use super::workspace::Workspace;

/// The most bytes of metadata or manifest that are read.
const MAX_FILE: u64 = 16 << 20;

/// What a repository offers of one OS.
pub struct Published {
    /// The signed metadata.
    pub metadata: Metadata,
    /// The releases, oldest first; of all compartments.
    pub releases: Vec<PublishedRelease>,
    /// The releases of other OSes and architectures in the same repository, in no order.
    pub others: Vec<PublishedRelease>,
    /// The channels, by name.
    pub channels: Vec<Channel>,
    /// What delegated roles list and cannot be used, by role: it is in the way of that role alone.
    pub damage: BTreeMap<String, String>,
}

/// A release and its manifest's digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedRelease {
    /// The manifest.
    pub release: Release,
    /// The SHA-256 of the manifest.
    pub manifest: Digest,
    /// The channel in whose own listing it is; none for the listing that channels without a team share.
    pub compartment: Option<ChannelName>,
}

impl Published {
    /// Reads the repository of `workspace`.
    pub fn read(workspace: &Workspace) -> Result<Self> {
        if ceremony::is_cut_off(workspace) {
            return Err(Error::Failed(
                "signed metadata was cut off while it was published; run `upright-build refresh` to bring it to its end".into(),
            ));
        }
        let repository = workspace.repository();
        let trusted = workspace.trusted_root();
        let root = fs::read(&trusted).map_err(Error::file("read", &trusted))?;
        let folder = repository.join("metadata");
        let metadata =
            Metadata::open(&root, lifetimes(&workspace.config), |name| read_if_there(&folder.join(name)))
                .map_err(|error| {
                    Error::Unverified(format!(
                        "the repository {} is not usable: {error}",
                        repository.display()
                    ))
                })?;
        // A role that has never published needs nothing.
        let unusable = metadata.unusable().iter().filter(|(_, error)| error.problem != Problem::NotListed);
        let damage = unusable.map(|(role, error)| (role.clone(), error.to_string())).collect();
        let mut published =
            Self { metadata, releases: Vec::new(), others: Vec::new(), channels: Vec::new(), damage };
        published.read_targets(workspace, &repository)?;
        Ok(published)
    }

    /// The release of `version` in a compartment, if it is published there.
    pub fn release(&self, compartment: Option<&ChannelName>, version: &Version) -> Option<&PublishedRelease> {
        let mut releases = self.releases.iter();
        releases
            .find(|listed| listed.compartment.as_ref() == compartment && listed.release.version == *version)
    }

    /// Fails where what `role` lists cannot be used.
    pub fn require_whole(&self, role: &str) -> Result<()> {
        match self.damage.get(role) {
            Some(reason) => Err(Error::Unverified(format!("what {role} signed is not usable: {reason}"))),
            None => Ok(()),
        }
    }

    /// The release that a channel points at, where a host of the channel finds it.
    pub fn pointed(&self, channel: &Channel) -> Option<&PublishedRelease> {
        let path = Channel::target_path(&channel.os, channel.arch, &channel.channel);
        let own = match self.metadata.role_of(&path) {
            "targets" => None,
            _ => self.release(Some(&channel.channel), &channel.version),
        };
        own.or_else(|| self.release(None, &channel.version))
    }

    /// The content of a target, as hosts find it.
    pub fn content(&self, workspace: &Workspace, path: &str) -> Result<Vec<u8>> {
        let entry = self.metadata.target(path).ok_or_else(|| damaged(path, &"it is not listed"))?;
        self.read_target(&workspace.repository(), path, entry)
    }

    /// The channel's pointer, if it points at something.
    pub fn channel(&self, name: &ChannelName) -> Option<&Channel> {
        self.channels.iter().find(|channel| channel.channel == *name)
    }

    fn read_targets(&mut self, workspace: &Workspace, repository: &Path) -> Result<()> {
        let listed = self
            .metadata
            .listed()
            .map(|(role, path, entry)| (role.to_owned(), path.to_owned(), entry.clone()));
        for (role, path, entry) in listed.collect::<Vec<_>>() {
            match self.take(workspace, repository, (&role, &path, &entry)) {
                Ok(()) => {}
                Err(error) if role == "targets" => return Err(error),
                // A team that publishes nonsense stands in nobody else's way.
                Err(error) => {
                    self.damage.insert(role, error.to_string());
                }
            }
        }
        self.channels.sort_by(|a, b| a.channel.cmp(&b.channel));
        self.releases.sort_by(|a, b| {
            let (x, y) = (&a.release.version, &b.release.version);
            x.age(y).then_with(|| x.as_str().cmp(y.as_str())).then_with(|| a.compartment.cmp(&b.compartment))
        });
        Ok(())
    }

    /// Takes in a target that a role lists: role, path, entry.
    fn take(
        &mut self,
        workspace: &Workspace,
        repository: &Path,
        (role, path, entry): (&str, &str, &TargetFile),
    ) -> Result<()> {
        let config = &workspace.config;
        // Else it is another publisher's, or hosts do not take its word on the path unless as that of a role further down.
        let ours = role == "targets" || config.is_team(role);
        let own = ours && self.metadata.role_of(path) == role;
        if path.starts_with("releases/") {
            let bytes = self.read_target(repository, path, entry)?;
            let release = Release::parse(&bytes).map_err(|error| damaged(path, &error))?;
            let manifest = Digest::of(&bytes);
            let prefix = format!("releases/{}/{}/", config.os, config.arch);
            match path.strip_prefix(&prefix).filter(|_| own) {
                Some(rest) => {
                    let compartment = rest.split_once('/').map(|(channel, _)| channel.parse()).transpose();
                    let compartment = compartment.map_err(|error| damaged(path, &error))?;
                    let at = release_path(config, compartment.as_ref(), &release.version);
                    expect_its_place(path, &at, (&release.os, release.arch), config)?;
                    self.releases.push(PublishedRelease { release, manifest, compartment });
                }
                None => self.others.push(PublishedRelease { release, manifest, compartment: None }),
            }
        } else if own && path.starts_with(&format!("channels/{}/{}/", config.os, config.arch)) {
            let bytes = self.read_target(repository, path, entry)?;
            let channel = Channel::parse(&bytes).map_err(|error| damaged(path, &error))?;
            let at = Channel::target_path(&config.os, config.arch, &channel.channel);
            expect_its_place(path, &at, (&channel.os, channel.arch), config)?;
            self.channels.push(channel);
        }
        Ok(())
    }

    fn read_target(&self, repository: &Path, path: &str, entry: &TargetFile) -> Result<Vec<u8>> {
        let place = self.metadata.place(path, entry);
        let place = place.ok_or_else(|| damaged(path, &"it is listed without a SHA-256"))?;
        let place = repository.join(place);
        let bytes = read_if_there(&place).map_err(Error::file("read", &place))?;
        let bytes = bytes.ok_or_else(|| damaged(path, &format!("{} is not there", place.display())))?;
        if bytes.len() as u64 != entry.length || entry.hashes.check(&bytes).is_err() {
            return Err(damaged(path, &"it is not what was signed"));
        }
        Ok(bytes)
    }
}

/// Fails unless what is listed under `path` is what belongs there: else a team could speak of another's channel under the
/// name of its own, and have it signed by whoever publishes next.
fn expect_its_place(path: &str, at: &str, (os, arch): (&OsName, Arch), config: &Config) -> Result<()> {
    match path == at && (os, arch) == (&config.os, config.arch) {
        true => Ok(()),
        false => Err(damaged(path, &format!("it belongs to {at} of {os} for {arch}"))),
    }
}

fn damaged(path: &str, reason: &dyn std::fmt::Display) -> Error {
    Error::Unverified(format!(
        "the repository's {path} is damaged: {reason}; bring the file back from a mirror or a backup"
    ))
}

/// A file's content, up to [`MAX_FILE`]; `None` if there is no such file.
pub(super) fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::File::open(path) {
        Ok(file) => {
            let mut bytes = Vec::new();
            file.take(MAX_FILE).read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
