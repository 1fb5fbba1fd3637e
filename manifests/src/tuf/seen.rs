//! The versions that a host has seen, kept apart from the documents: what of these is damaged can be fetched anew, and the host is not
//! taken back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use upright_keys::{KeyId, TufKey};

use super::limits;
use super::schema::Root;
use super::trusted::Trusted;
use crate::digest::Digest;

/// The versions that a host has seen in its last refresh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Of the root.
    pub root: u64,
    /// A digest of the keys that this root appoints for timestamp and snapshot. Where it appoints others, the versions below count
    /// no more: that is how a publisher recovers from one who had the keys and made the versions as high as they go (5.3.11).
    pub signers: Digest,
    /// Of the timestamp.
    pub timestamp: u64,
    /// Of the snapshot.
    pub snapshot: u64,
    /// Of the documents that the snapshot lists, by file name; at most [`limits::SEEN`] of them.
    pub listed: BTreeMap<String, u64>,
}

impl Seen {
    /// What has been seen when the top-level roles are up to date.
    pub(super) fn of(trusted: &Trusted) -> Option<Self> {
        let (timestamp, snapshot) = (trusted.timestamp.as_ref()?, trusted.snapshot.as_ref()?);
        let listed = snapshot.signed.meta.iter().map(|(name, file)| (name.clone(), file.version));
        let mut seen = Self {
            root: trusted.root.version(),
            signers: signers(&trusted.root.signed),
            timestamp: timestamp.version(),
            snapshot: snapshot.version(),
            listed: listed.collect(),
        };
        seen.cut();
        Some(seen)
    }

    /// Forgets what is more than may be listed. The snapshot that lists the rest does not go back even so.
    pub fn cut(&mut self) {
        const FIRST: &str = "targets.json";
        let first = self.listed.remove_entry(FIRST);
        while self.listed.len() > limits::SEEN - 1 {
            self.listed.pop_last();
        }
        self.listed.extend(first);
    }

    /// Whether `root` appoints those who signed what was seen.
    pub(super) fn is_signed_as(&self, root: &Root) -> bool {
        self.signers == signers(root)
    }
}

/// A digest of the keys that a root appoints for timestamp and snapshot, in whatever order it names them.
fn signers(root: &Root) -> Digest {
    let appointed = ["timestamp", "snapshot"].map(|role| {
        let role = root.roles.get(role)?;
        let keys = role.keyids.iter().map(|id| (id, root.keys.get(id)));
        Some((role.threshold, keys.collect::<BTreeMap<&KeyId, Option<&TufKey>>>()))
    });
    // Keys come from JSON, so they can be written as such.
    Digest::of(&serde_json::to_vec(&appointed).unwrap_or_default())
}
