//! dm-verity: parameters, superblock and the hash tree.
//!
//! Source: Linux `Documentation/admin-guide/device-mapper/verity.rst`, cryptsetup's on-disk format
//! version 1.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// What makes a dm-verity tree over an image: SHA-256, version 1, blocks of 4096 bytes for data and hashes,
/// superblock at the start of the hash device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerityParams {
    /// The hash of the tree's top block; what the kernel's command line names.
    pub root_hash: Digest,
    /// The salt, 32 bytes; the same for all releases of an OS, so that equal blocks have equal hashes.
    pub salt: Digest,
    /// The UUID in the verity superblock, in the 8-4-4-4-12 form.
    pub uuid: String,
    /// How many blocks of 4096 bytes the tree covers.
    pub data_blocks: u64,
    /// The length of the hash device's content, superblock included, in bytes.
    pub hash_size: u64,
}
