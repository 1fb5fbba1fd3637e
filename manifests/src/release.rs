//! The release manifest: what a release installs and how to fetch it. A TUF target.
//!
//! Stored at `releases/<os>/<arch>/<version>.json`. Its bytes are only parsed after TUF has vouched for
//! their length and hash, and everything it names carries a size and a SHA-256 of its own.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::BLOCK_SIZE;
use crate::digest::Digest;
use crate::name::{Arch, ChannelName, OsName, RepoPath};
use crate::state::check_versioned;
use crate::verity::VerityParams;
use crate::version::Version;

/// The largest release manifest that is accepted, in bytes.
pub const MAX_BYTES: u64 = 1 << 20;

/// The version of the manifest's format that this crate reads and writes.
pub const FORMAT: u32 = 1;

/// One version of an OS for one architecture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// [`FORMAT`].
    pub format: u32,
    /// The OS this is a release of.
    pub os: OsName,
    /// The architecture it runs on.
    pub arch: Arch,
    /// Its version.
    pub version: Version,
    /// The release time that every file in the image carries.
    pub time: Timestamp,
    /// Hosts on an older version than this must pass through a release in between first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Version>,
    /// The checksum of the OSTree commit that the image was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Digest>,
    /// The release whose layout the image follows: with it and the tree, anyone can make the image again. None if it was laid
    /// out anew, or by a builder that did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// The root file system.
    pub root: RootImage,
    /// The unified kernel image that boots it.
    pub uki: Uki,
    /// Deltas that lead here, one a source release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deltas: Vec<DeltaEdge>,
    /// The paths below `/var` of which each slot is to have its own copy, so that hosts know how much room they take before
    /// anything is written. The image says the same (`manifests::state`), and counts where a host acts on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versioned: Vec<String>,
}

/// A release whose layout another one's image follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Its version.
    pub version: Version,
    /// The dm-verity root hash of its image.
    pub root_hash: Digest,
    /// The SHA-256 of its layout, as JSON.
    pub layout: Digest,
}

/// A file in the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Where it is, relative to the repository's root.
    pub path: RepoPath,
    /// Its length in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Digest,
}

/// A file in the repository that starts with a head describing the independent parts that follow, so
/// that each part can be checked before it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartedBlob {
    /// Where it is, relative to the repository's root.
    pub path: RepoPath,
    /// Its length in bytes.
    pub size: u64,
    /// The SHA-256 of the whole file.
    pub sha256: Digest,
    /// The length of the head in bytes.
    pub head_size: u64,
    /// The SHA-256 of the head, which in turn holds the SHA-256 of each part.
    pub head_sha256: Digest,
    /// What using it took on the publisher's machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

/// What it takes to make an image out of what was fetched, beside writing it and reading it back, which all ways have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Bytes of memory, a bound.
    pub memory: u64,
    /// Milliseconds of CPU time on the machine that published it: for comparison with other ways.
    pub cpu_ms: u64,
}

/// The root file system image: EROFS under dm-verity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootImage {
    /// Length of the image in bytes, a multiple of [`BLOCK_SIZE`].
    pub size: u64,
    /// The SHA-256 of the image.
    pub sha256: Digest,
    /// The dm-verity tree over it; the host makes the tree itself and compares its root.
    pub verity: VerityParams,
    /// The whole image as zstd frames (`manifests::payload`).
    pub full: PartedBlob,
    /// Which chunks the image is made of (`manifests::chunks`), for hosts that have some of them.
    pub chunks: Blob,
}

/// The unified kernel image (UAPI.5), composed from parts of the root image and what its delta adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uki {
    /// Its length in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Digest,
    /// The delta (`manifests::delta`) that makes it out of the release's own root image.
    pub compose: PartedBlob,
    /// The SHA-256 of the certificates (DER) whose keys signed it for Secure Boot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Digest>,
}

/// A delta that turns the root image of another release into this one's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeltaEdge {
    /// The release it starts from.
    pub from: Version,
    /// The dm-verity root hash of the image it starts from; what counts, where `from` is for people.
    pub from_root_hash: Digest,
    /// The delta (`manifests::delta`).
    pub delta: PartedBlob,
    /// What the way by chunks takes where nothing but that image is at hand; whatever else a host holds makes it cheaper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<ByChunks>,
}

/// What it takes to make an image out of chunks of another one and frames of the full payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByChunks {
    /// Bytes to fetch: index, the payload's head and frames.
    pub size: u64,
    /// What finding the chunks and unpacking the frames took on the publisher's machine.
    pub cost: Cost,
}

/// Why a release manifest is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// Not JSON of the expected shape.
    #[error("release manifest is malformed: {0}")]
    Malformed(String),
    /// Larger than [`MAX_BYTES`].
    #[error("release manifest has {0} bytes, more than the {MAX_BYTES} allowed")]
    TooLarge(u64),
    /// A format newer than this program.
    #[error("release manifest has format {0}, this program reads format {FORMAT}; update upright first")]
    Format(u32),
    /// A size that cannot be.
    #[error("release manifest has an impossible {0}")]
    Impossible(&'static str),
}

impl Release {
    /// Reads a manifest whose length and hash were verified, and checks that its sizes make sense.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReleaseError> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(ReleaseError::TooLarge(bytes.len() as u64));
        }
        #[derive(Deserialize)]
        struct Header {
            format: u32,
        }
        let malformed = |error: serde_json::Error| ReleaseError::Malformed(error.to_string());
        let Header { format } = serde_json::from_slice(bytes).map_err(malformed)?;
        if format != FORMAT {
            return Err(ReleaseError::Format(format));
        }
        let release: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        release.check()?;
        Ok(release)
    }

    /// The manifest's bytes: JSON, indented, ending in a newline. Equal releases give equal bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ReleaseError> {
        let mut bytes =
            serde_json::to_vec_pretty(self).map_err(|error| ReleaseError::Malformed(error.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The target path of a release's manifest.
    pub fn target_path(os: &OsName, arch: Arch, version: &Version) -> String {
        format!("releases/{os}/{arch}/{version}.json")
    }

    /// The target path of a release's manifest in the listing of a channel that has one of its own, because a team signs it.
    pub fn channel_path(os: &OsName, arch: Arch, channel: &ChannelName, version: &Version) -> String {
        format!("releases/{os}/{arch}/{channel}/{version}.json")
    }

    fn check(&self) -> Result<(), ReleaseError> {
        let root = &self.root;
        let possible = [
            ("root image size", root.size > 0 && root.size.is_multiple_of(BLOCK_SIZE)),
            ("verity tree", root.verity.data_blocks == root.size / BLOCK_SIZE),
            ("UKI size", self.uki.size > 0),
            ("UKI delta head", self.uki.compose.head_fits()),
            ("full payload head", root.full.head_fits()),
            ("delta head", self.deltas.iter().all(|edge| edge.delta.head_fits())),
            ("versioned path", self.versioned.iter().all(|path| check_versioned(path).is_ok())),
        ];
        match possible.into_iter().find(|(_, holds)| !holds) {
            Some((what, _)) => Err(ReleaseError::Impossible(what)),
            None => Ok(()),
        }
    }
}

impl PartedBlob {
    fn head_fits(&self) -> bool {
        self.head_size > 0 && self.head_size <= self.size
    }
}

#[cfg(test)]
#[path = "release_tests.rs"]
mod tests;
