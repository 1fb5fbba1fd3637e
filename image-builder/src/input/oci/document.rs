//! The documents of an OCI image layout (OCI image specification 1.1: image index, manifest, configuration), as far
//! as a build needs them. Docker's documents (image manifest version 2, schema 2) have the same shape.

use serde::Deserialize;
use upright_manifests::digest::Digest;
use upright_manifests::name::Arch;

/// The largest document that is read: registries take manifests of up to 4 MiB.
pub(super) const MAX_DOCUMENT: u64 = 4 << 20;

/// What names a blob.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    /// What the blob is; empty in old layouts.
    #[serde(default)]
    pub(super) media_type: String,
    /// `sha256:` and its SHA-256.
    pub(super) digest: String,
    /// Its length in bytes.
    pub(super) size: u64,
    /// The machine that an image is for.
    pub(super) platform: Option<Platform>,
    /// What else is known, of which only the tag is looked at.
    #[serde(default)]
    pub(super) annotations: Option<Annotations>,
}

/// The one annotation that matters here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Annotations {
    /// The image's tag.
    #[serde(rename = "org.opencontainers.image.ref.name")]
    pub(super) tag: Option<String>,
}

/// The machine that an image is for, by Go's names (`GOARCH`, `GOOS`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Platform {
    /// Such as `amd64`.
    #[serde(default)]
    pub(super) architecture: String,
    /// Such as `linux`.
    #[serde(default)]
    pub(super) os: String,
}

/// The configuration of an image, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Configuration {
    /// What it is for.
    #[serde(flatten)]
    pub(super) platform: Platform,
    /// What its layers hold.
    #[serde(default)]
    pub(super) rootfs: Contents,
}

/// What the layers of an image hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Contents {
    /// `sha256:` and the SHA-256 of each layer without its compression, the lowest first; none in what some tools write.
    #[serde(default)]
    pub(super) diff_ids: Vec<String>,
}

/// An index of images, such as `index.json`.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    /// The images, and other indexes.
    pub(super) manifests: Vec<Descriptor>,
}

/// An image.
#[derive(Debug, Deserialize)]
pub(super) struct Manifest {
    /// Its configuration, a [`Platform`] among other things.
    pub(super) config: Descriptor,
    /// Its layers, the lowest first.
    pub(super) layers: Vec<Descriptor>,
}

impl Descriptor {
    /// The SHA-256 in the descriptor.
    pub(super) fn sha256(&self) -> Option<Digest> {
        self.digest.strip_prefix("sha256:")?.parse().ok()
    }

    pub(super) fn is_index(&self) -> bool {
        matches!(
            self.media_type.as_str(),
            "application/vnd.oci.image.index.v1+json"
                | "application/vnd.docker.distribution.manifest.list.v2+json"
        )
    }

    /// Whether this is the configuration of an image, and not of a signature or another artifact.
    pub(super) fn is_config(&self) -> bool {
        matches!(
            self.media_type.as_str(),
            "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
        )
    }

    /// Whether this is a layer that can be read: a tar, compressed or not, and not encrypted.
    pub(super) fn is_layer(&self) -> bool {
        let rest = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."]
            .iter()
            .find_map(|prefix| self.media_type.strip_prefix(prefix));
        rest.is_some_and(|rest| rest.contains("tar") && !rest.contains("encrypted"))
    }
}

impl Platform {
    pub(super) fn is(&self, arch: Arch) -> bool {
        self.os == "linux" && self.architecture == go_name(arch)
    }
}

/// Go's name for an architecture.
fn go_name(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "amd64",
        Arch::Arm64 => "arm64",
    }
}
