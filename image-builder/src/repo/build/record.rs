//! `build.json`: what a build made, for the commands that use it.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use upright_manifests::digest::Digest;
use upright_manifests::name::{Arch, OsName};
use upright_manifests::release::Base;
use upright_manifests::verity::VerityParams;
use upright_manifests::version::Version;

use crate::repo::error::{Error, Result};
use crate::repo::workspace::Workspace;

/// The version of the format that this program reads and writes.
pub const FORMAT: u32 = 1;

/// The record's file in a build's folder.
pub const RECORD: &str = "build.json";
/// The root image's file in a build's folder.
pub const IMAGE: &str = "root.erofs";
/// The layout's file in a build's folder.
pub const LAYOUT: &str = "layout.json.zst";
/// The UKI's file in a build's folder.
pub const UKI: &str = "uki.efi";
/// The file in a build's folder that a GRUB on BIOS starts the UKI with.
pub const UKI_LINES: &str = "uki.cfg";

/// What a build made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// [`FORMAT`].
    pub format: u32,
    /// The OS.
    pub os: OsName,
    /// The architecture.
    pub arch: Arch,
    /// The version.
    pub version: Version,
    /// The time that every file in the image carries.
    pub time: Timestamp,
    /// The OSTree commit of the tree.
    pub commit: Digest,
    /// The build whose layout this one's follows.
    pub base: Option<Version>,
    /// Which image and layout that build had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub followed: Option<Base>,
    /// The root image.
    pub root: Image,
    /// The UKI.
    pub uki: UkiFile,
    /// The paths below `/var` of which each slot is to have its own copy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versioned: Vec<String>,
}

/// The root image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Its length in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Digest,
    /// The UUID in its superblock, in the 8-4-4-4-12 form.
    pub uuid: String,
    /// The dm-verity tree over it.
    pub verity: VerityParams,
}

/// The UKI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UkiFile {
    /// Its length in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Digest,
    /// The SHA-256 of the certificate (DER) whose key signed it for Secure Boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Digest>,
    /// The version of the kernel in it.
    pub kernel: String,
    /// Which of its bytes stand in the root image too, ascending.
    pub parts: Vec<UkiPart>,
}

/// Bytes of the UKI that stand in the root image too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UkiPart {
    /// Where they start in the UKI.
    pub at: u64,
    /// How many there are.
    pub length: u64,
    /// Where they start in the root image.
    pub root_offset: u64,
}

impl Build {
    /// Whether `other` is the same build. What is recorded of the base follows from it.
    pub fn is(&self, other: &Self) -> bool {
        Self { followed: other.followed.clone(), ..self.clone() } == *other
    }

    /// Reads the record in a build's folder; `None` if there is no build.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(RECORD);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file("read", &path)(error)),
        };
        let malformed = |error: serde_json::Error| {
            Error::refused(format!("{} is not a build's record: {error}; build it again", path.display()))
        };
        let build: Self = serde_json::from_slice(&bytes).map_err(malformed)?;
        match build.format {
            FORMAT => Ok(Some(build)),
            other => Err(Error::refused(format!(
                "{} has format {other}, this program reads format {FORMAT}; build it again",
                path.display()
            ))),
        }
    }

    /// Reads the record of `version`, which must have been built.
    pub fn require(workspace: &Workspace, version: &Version) -> Result<Self> {
        let build = Self::read(&workspace.build(version))?.ok_or_else(|| {
            Error::refused(format!(
                "{version} has not been built: there is no {}; run `upright-build build SOURCE --version {version}`",
                workspace.build(version).join(RECORD).display()
            ))
        })?;
        let config = &workspace.config;
        if (&build.os, build.arch) != (&config.os, config.arch) {
            return Err(Error::refused(format!(
                "the build of {version} is of {} for {}, this workspace is of {} for {}; build it here",
                build.os, build.arch, config.os, config.arch
            )));
        }
        Ok(build)
    }

    /// The records of all builds, oldest version first.
    pub fn all(workspace: &Workspace) -> Result<Vec<Self>> {
        let folder = workspace.builds();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::file("read", &folder)(error)),
        };
        let mut builds = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::file("read", &folder))?;
            // Unfinished builds have hidden names.
            if entry.file_name().to_string_lossy().parse::<Version>().is_ok() {
                builds.extend(Self::read(&entry.path())?);
            }
        }
        builds.sort_by(|a, b| {
            a.version.age(&b.version).then_with(|| a.version.as_str().cmp(b.version.as_str()))
        });
        Ok(builds)
    }

    /// The record's bytes: JSON, indented, ending in a newline.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::Failed(format!("cannot write {RECORD}: {error}")))?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}
