//! One look at the repository: fresh TUF metadata, and the signed documents it vouches for.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use upright_manifests::channel::{self, Channel};
use upright_manifests::digest::Digest;
use upright_manifests::name::{Arch, ChannelName, OsName};
use upright_manifests::release::{self, Release};
use upright_manifests::tuf::{
    Answer, Client, Fetch, Outside, Problem, RoleStatus, Seen, Stored, TufError, limits,
};
use upright_manifests::version::Version;

use super::FetchError;
use crate::host::{Remote, RemoteError};
use crate::store::{self, StoreError, is_passing};

/// The most stored metadata that is read, in bytes a file; no role may be larger.
const MAX_STORED: u64 = limits::TARGETS;

/// Trusted metadata, as fresh as the server's.
pub struct Session<'a> {
    client: Client,
    outside: Repository<'a>,
}

/// Whether the metadata in `folder` is whole: read, of the kind it should be, and leading on from the root. A host that remembers what it has
/// `seen` fetches anew what is not.
pub fn check_stored(
    folder: &Path,
    shipped: &Path,
    seen: Option<&Seen>,
    now: Timestamp,
) -> Result<(), FetchError> {
    let remembers = seen.is_some();
    let mut client = client(folder, shipped, seen, now)?;
    if remembers {
        return Ok(());
    }
    // Without a newer root, what is stored of the other roles is looked at next.
    client.step()?;
    client.supply(Answer::NotFound)?;
    Ok(())
}

/// Why the root that came with the image is none that a host can begin with, if it is not.
pub fn check_shipped(shipped: &Path) -> Result<(), String> {
    // In a folder without a name nothing is stored.
    client(Path::new(""), shipped, None, Timestamp::UNIX_EPOCH).map(drop).map_err(|error| match error {
        FetchError::Tuf(TufError { problem: Problem::Stored(reason), .. }) => {
            format!("{}: {reason}", shipped.display())
        }
        error => error.to_string(),
    })
}

/// The manifest with that SHA-256, of a release that `channel` has or had; none if `remote` has it no more. It was trusted when it was
/// installed from and is what it was, so nothing has to be offered or fresh for it.
pub fn known_manifest(
    remote: &dyn Remote,
    (os, arch, channel): (&OsName, Arch, &ChannelName),
    version: &Version,
    digest: Digest,
) -> Result<Option<Release>, FetchError> {
    let repository = Repository { remote, folder: PathBuf::new() };
    for path in [Release::channel_path(os, arch, channel, version), Release::target_path(os, arch, version)] {
        let (folder, name) = path.rsplit_once('/').unwrap_or_default();
        match repository.read(&format!("{folder}/{digest}.{name}"), release::MAX_BYTES) {
            Ok(bytes) if Digest::of(&bytes) == digest => {
                return Release::parse(&bytes)
                    .map(Some)
                    .map_err(|source| FetchError::Release { path, source });
            }
            Ok(_) | Err(FetchError::Remote(RemoteError::NotFound { .. })) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

impl<'a> Session<'a> {
    /// Brings the metadata in `folder` up to date with the server's, starting from the root in `shipped`. What is damaged of it is fetched
    /// anew if the host remembers what it has `seen`, which nothing that is taken is older than.
    ///
    /// `now` should be the latest time the host can be sure of, for a clock that is wrong.
    pub fn refresh(
        remote: &'a dyn Remote,
        folder: &Path,
        shipped: &Path,
        seen: Option<&Seen>,
        now: Timestamp,
    ) -> Result<Self, FetchError> {
        let client = client(folder, shipped, seen, now)?;
        let mut session = Self { client, outside: Repository { remote, folder: folder.to_owned() } };
        let refreshed = session.client.refresh(&mut session.outside);
        for TufError { document, problem } in session.client.dropped() {
            let reason = if let Problem::Stored(reason) = problem { reason } else { problem };
            let path = folder.join(document);
            tracing::warn!(
                "{} is damaged ({reason}): it is fetched anew, and nothing older than this host has seen is taken",
                path.display()
            );
        }
        refreshed?;
        Ok(session)
    }

    /// What the host is to remember beside the metadata itself.
    pub fn seen(&self) -> Option<Seen> {
        self.client.seen()
    }

    /// How long the metadata is good for, by role: the top-level roles, and the delegated ones that were relied on so far.
    pub fn status(&self) -> Vec<RoleStatus> {
        self.client.status().into_iter().chain(self.client.consulted().cloned()).collect()
    }

    /// When the timestamp expires, and with it all that the server offers now.
    pub fn good_until(&self) -> Timestamp {
        let timestamp = self.client.status().into_iter().find(|role| role.role == "timestamp");
        // A session is there only once its timestamp is.
        timestamp.map_or(Timestamp::MIN, |role| role.expires)
    }

    /// The channel file of `channel`.
    pub fn channel(&mut self, os: &OsName, arch: Arch, channel: &ChannelName) -> Result<Channel, FetchError> {
        let path = Channel::target_path(os, arch, channel);
        let (bytes, _) = self.target(&path, channel::MAX_BYTES)?;
        let file =
            Channel::parse(&bytes).map_err(|source| FetchError::Channel { path: path.clone(), source })?;
        match (&file.os, file.arch, &file.channel) == (os, arch, channel) {
            true => Ok(file),
            false => {
                let found = format!("channel {} of {} for {}", file.channel, file.os, file.arch);
                Err(FetchError::Misplaced { path, found })
            }
        }
    }

    /// The manifest of a release of `channel`'s OS, and its SHA-256. The release that the channel points at must be the very
    /// one that it names.
    pub fn release(&mut self, channel: &Channel, version: &Version) -> Result<(Release, Digest), FetchError> {
        let (os, arch) = (&channel.os, channel.arch);
        let path = self.release_path(channel, version)?;
        let (bytes, digest) = self.target(&path, release::MAX_BYTES)?;
        let manifest =
            Release::parse(&bytes).map_err(|source| FetchError::Release { path: path.clone(), source })?;
        if (&manifest.os, manifest.arch, &manifest.version) != (os, arch, version) {
            let Release { os, arch, version, .. } = manifest;
            return Err(FetchError::Misplaced { path, found: format!("{os} {version} for {arch}") });
        }
        match *version == channel.version && digest != channel.manifest {
            true => Err(FetchError::OtherManifest { path, channel: channel.channel.clone() }),
            false => Ok((manifest, digest)),
        }
    }

    /// Where a release of `channel` is listed: in the channel's own listing first if a team signs it, or else in the one that
    /// channels without a team share.
    fn release_path(&mut self, channel: &Channel, version: &Version) -> Result<String, FetchError> {
        let (os, arch, name) = (&channel.os, channel.arch, &channel.channel);
        let shared = Release::target_path(os, arch, version);
        let pointer = self.client.target(&Channel::target_path(os, arch, name), &mut self.outside)?;
        if pointer.role == "targets" {
            // No delegated role has a say in it, however wide its patterns are.
            return Ok(shared);
        }
        let own = Release::channel_path(os, arch, name, version);
        match self.client.target(&own, &mut self.outside) {
            Ok(_) => Ok(own),
            // Anything but "nobody lists it" is a failure: what is refused must not open another way.
            Err(FetchError::Tuf(error)) if error.problem == Problem::UnknownTarget => Ok(shared),
            Err(error) => Err(error),
        }
    }

    /// A signed file, checked before anyone reads it.
    fn target(&mut self, path: &str, limit: u64) -> Result<(Vec<u8>, Digest), FetchError> {
        let target = self.client.target(path, &mut self.outside)?;
        let expected = target.sha256()?;
        if target.length > limit {
            return Err(FetchError::TooLarge { path: path.to_owned(), length: target.length, limit });
        }
        let bytes = self.outside.read(&target.fetch_path, target.length)?;
        if bytes.len() as u64 != target.length {
            let (expected, found) = (target.length, bytes.len() as u64);
            return Err(FetchError::Length { path: path.to_owned(), expected, found });
        }
        match Digest::of(&bytes) {
            found if found == expected => Ok((bytes, found)),
            found => Err(FetchError::Hash { path: path.to_owned(), expected, found }),
        }
    }
}

/// The files without which it is not known what the host has seen.
const DECISIVE: [&str; 3] = ["root.json", "timestamp.json", "snapshot.json"];

/// A client that starts from what the host has.
fn client(folder: &Path, shipped: &Path, seen: Option<&Seen>, now: Timestamp) -> Result<Client, FetchError> {
    let shipped = store::read(shipped, limits::ROOT)?;
    let OwnCopy { mut files, unreadable } = stored(folder)?;
    for (name, reason) in unreadable {
        let path = folder.join(&name);
        if DECISIVE.contains(&name.as_str()) {
            if seen.is_none() {
                return Err(StoreError::Trust { path, reason }.into());
            }
            // Damaged, which is another thing than not there.
            files.insert(name, Vec::new());
        }
        tracing::warn!("cannot read {}: {reason}", path.display());
    }
    match seen {
        Some(seen) => Ok(Client::remembering(shipped, files, seen.clone(), now)?),
        None => Ok(Client::new(Stored::new(shipped, files)?, now)?),
    }
}

/// The metadata that the host has.
#[derive(Default)]
struct OwnCopy {
    /// By file name.
    files: BTreeMap<String, Vec<u8>>,
    /// What is there and cannot be read, and why.
    unreadable: Vec<(String, String)>,
}

/// The metadata that the host has. What cannot be read is told apart from a file that is missing.
fn stored(folder: &Path) -> Result<OwnCopy, StoreError> {
    let damaged = |path: &Path, reason: String| StoreError::Trust { path: path.to_owned(), reason };
    let failed = |error: io::Error| damaged(folder, error.to_string());
    // Where a link leads may be older than what this host has seen.
    if folder.is_symlink() {
        return Err(damaged(folder, "a link, not a folder".into()));
    }
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(OwnCopy::default()),
        Err(error) => return Err(failed(error)),
    };
    let mut own = OwnCopy::default();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !name.ends_with(".json") {
            continue;
        }
        match store::read_own(&entry.path(), MAX_STORED) {
            Ok(Some(bytes)) => drop(own.files.insert(name, bytes)),
            Ok(None) => {}
            Err(StoreError::Read { path, source }) if is_passing(&source) => {
                return Err(damaged(&path, source.to_string()));
            }
            Err(StoreError::Read { source, .. }) => own.unreadable.push((name, source.to_string())),
            Err(StoreError::TooLarge { limit, .. }) => {
                own.unreadable.push((name, format!("larger than {limit} bytes")));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(own)
}

/// The server and the host's own copy, as the TUF client's outside.
struct Repository<'a> {
    remote: &'a dyn Remote,
    folder: PathBuf,
}

impl Repository<'_> {
    /// Reads a file of which at most `limit` bytes, and one more that shows it to be too long, are wanted. A line that drops
    /// is taken up once more at once; who waits for longer is the caller.
    fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, FetchError> {
        match self.read_once(path, limit) {
            Err(RemoteError::Unavailable { reason, .. }) => {
                tracing::debug!(path, reason, "fetching again");
                Ok(self.read_once(path, limit)?)
            }
            outcome => Ok(outcome?),
        }
    }

    fn read_once(&self, path: &str, limit: u64) -> Result<Vec<u8>, RemoteError> {
        let wanted = limit.saturating_add(1);
        let mut bytes = Vec::new();
        let mut answer = self.remote.open(path, 0..wanted)?.take(wanted);
        let url = || format!("{}/{path}", self.remote.address().trim_end_matches('/'));
        answer.read_to_end(&mut bytes).map_err(|error| RemoteError::of_reading(error, url))?;
        Ok(bytes)
    }
}

impl Outside for Repository<'_> {
    type Error = FetchError;

    fn fetch(&mut self, file: &Fetch) -> Result<Answer, FetchError> {
        match self.read(&format!("metadata/{}", file.name), file.max_length) {
            Ok(bytes) => Ok(Answer::Bytes(bytes)),
            Err(FetchError::Remote(RemoteError::NotFound { .. })) => Ok(Answer::NotFound),
            Err(error) => Err(error),
        }
    }

    fn persist(&mut self, name: &str, bytes: &[u8]) -> Result<(), FetchError> {
        Ok(store::replace(&self.folder.join(name), bytes)?)
    }

    fn forget(&mut self, name: &str) -> Result<(), FetchError> {
        let path = self.folder.join(name);
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => store::sync_folder(&self.folder),
        };
        Ok(removed.map_err(|source| StoreError::Write { path, source })?)
    }
}
