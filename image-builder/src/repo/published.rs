//! What a repository offers now, read back and verified as a host would.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use upright_manifests::channel::Channel;
use upright_manifests::digest::Digest;
use upright_manifests::name::ChannelName;
use upright_manifests::release::Release;
use upright_manifests::version::Version;

use super::error::{Error, Result};
use super::metadata::Metadata;
use super::signers::lifetimes;
use super::workspace::Workspace;

/// The most bytes of metadata or manifest that are read.
const MAX_FILE: u64 = 16 << 20;

/// What a repository offers of one OS.
pub struct Published {
    /// The signed metadata.
    pub metadata: Metadata,
    /// The releases, oldest first.
    pub releases: Vec<PublishedRelease>,
    /// The releases of other OSes and architectures in the same repository, in no order.
    pub others: Vec<PublishedRelease>,
    /// The channels, by name.
    pub channels: Vec<Channel>,
}

/// A release and its manifest's digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedRelease {
    /// The manifest.
    pub release: Release,
    /// The SHA-256 of the manifest.
    pub manifest: Digest,
}

impl Published {
    /// Reads the repository of `workspace`.
    pub fn read(workspace: &Workspace) -> Result<Self> {
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
        let mut published = Self { metadata, releases: Vec::new(), others: Vec::new(), channels: Vec::new() };
        published.read_targets(workspace, &repository)?;
        Ok(published)
    }

    /// The release of `version`, if it is published.
    pub fn release(&self, version: &Version) -> Option<&PublishedRelease> {
        self.releases.iter().find(|published| published.release.version == *version)
    }

    /// The channel's pointer, if it points at something.
    pub fn channel(&self, name: &ChannelName) -> Option<&Channel> {
        self.channels.iter().find(|channel| channel.channel == *name)
    }

    fn read_targets(&mut self, workspace: &Workspace, repository: &Path) -> Result<()> {
        let config = &workspace.config;
        let releases = format!("releases/{}/{}/", config.os, config.arch);
        let channels = format!("channels/{}/{}/", config.os, config.arch);
        let paths: Vec<String> = self.metadata.targets().keys().cloned().collect();
        for path in paths {
            if path.starts_with("releases/") {
                let bytes = self.read_target(repository, &path)?;
                let release = Release::parse(&bytes).map_err(|error| damaged(&path, &error))?;
                let list = if path.starts_with(&releases) { &mut self.releases } else { &mut self.others };
                list.push(PublishedRelease { release, manifest: Digest::of(&bytes) });
            } else if path.starts_with(&channels) {
                let bytes = self.read_target(repository, &path)?;
                self.channels.push(Channel::parse(&bytes).map_err(|error| damaged(&path, &error))?);
            }
        }
        self.releases.sort_by(|a, b| {
            let (a, b) = (&a.release.version, &b.release.version);
            a.age(b).then_with(|| a.as_str().cmp(b.as_str()))
        });
        Ok(())
    }

    fn read_target(&self, repository: &Path, path: &str) -> Result<Vec<u8>> {
        let entry = self.metadata.targets().get(path);
        let place = self.metadata.fetch_path(path);
        let (Some(entry), Some(place)) = (entry, place) else {
            return Err(damaged(path, &"it is listed without a SHA-256"));
        };
        let place = repository.join(place);
        let bytes = read_if_there(&place).map_err(Error::file("read", &place))?;
        let bytes = bytes.ok_or_else(|| damaged(path, &format!("{} is not there", place.display())))?;
        if bytes.len() as u64 != entry.length || entry.hashes.check(&bytes).is_err() {
            return Err(damaged(path, &"it is not what was signed"));
        }
        Ok(bytes)
    }
}

fn damaged(path: &str, reason: &dyn std::fmt::Display) -> Error {
    Error::Unverified(format!(
        "the repository's {path} is damaged: {reason}; bring the file back from a mirror or a backup"
    ))
}

/// A file's content, up to [`MAX_FILE`]; `None` if there is no such file.
fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
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
