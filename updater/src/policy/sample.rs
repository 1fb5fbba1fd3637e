//! A release for tests: as small as one can be.

use jiff::Timestamp;
use upright_manifests::digest::Digest;
use upright_manifests::name::Arch;
use upright_manifests::release::{Blob, PartedBlob, Release, RootImage, Uki};
use upright_manifests::verity::VerityParams;

/// The release of that version.
pub(crate) fn sample(version: &str) -> Release {
    let digest = Digest::of(version.as_bytes());
    let blob = Blob { path: "payloads/x".parse().unwrap(), size: 1, sha256: digest };
    let parted = PartedBlob {
        path: blob.path.clone(),
        size: 1,
        sha256: digest,
        head_size: 1,
        head_sha256: digest,
        cost: None,
    };
    let verity = VerityParams {
        root_hash: digest,
        salt: digest,
        uuid: String::new(),
        data_blocks: 1,
        hash_size: 8192,
    };
    Release {
        format: 1,
        os: "acme".parse().unwrap(),
        arch: Arch::X86_64,
        version: version.parse().unwrap(),
        time: Timestamp::UNIX_EPOCH,
        floor: None,
        commit: None,
        base: None,
        root: RootImage { size: 4096, sha256: digest, verity, full: parted.clone(), chunks: blob },
        uki: Uki { size: 1, sha256: digest, compose: parted, certificates: Vec::new() },
        deltas: Vec::new(),
        versioned: Vec::new(),
    }
}
