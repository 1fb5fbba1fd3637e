//! A document with its signatures: parsed once into values and into the exact bytes the signatures cover.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp as Time;
use serde::{Deserialize, Serialize};
use upright_keys::{Envelope, KeyId, RoleKeys, ThresholdError, TufKey};

use super::error::Problem;
use super::schema::{Body, Header};

/// A document that is well-formed; who signed it is for [`Document::verify`] to say.
#[derive(Debug, Clone)]
pub struct Document<T> {
    /// Its body.
    pub signed: T,
    envelope: Envelope,
}

/// What a stored document says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Its kind: `root`, `targets`, `snapshot` or `timestamp`.
    pub kind: String,
    /// Its version.
    pub version: u64,
    /// From then on it is refused.
    pub expires: Time,
}

impl<T: Body> Document<T> {
    /// Reads a document of kind `T`, whoever signed it.
    pub fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        struct Outer<T> {
            signed: T,
        }
        // Parsed twice from the same bytes: strictly, for the signatures, and into its type. Since the
        // strict parser refuses what has two readings, both see the same document.
        let envelope = Envelope::parse(bytes).map_err(|error| Problem::Malformed(error.to_string()))?;
        let Outer { signed } = serde_json::from_slice::<Outer<T>>(bytes)
            .map_err(|error| Problem::Malformed(error.to_string()))?;
        signed.header().check(T::TYPE).map_err(Problem::Malformed)?;
        signed.check().map_err(Problem::Malformed)?;
        Ok(Self { signed, envelope })
    }

    /// Checks that enough of `role`'s keys have signed.
    pub fn verify(&self, keys: &BTreeMap<KeyId, TufKey>, role: &RoleKeys) -> Result<(), ThresholdError> {
        role.verify(keys, &self.envelope.signed.canonical(), self.envelope.signatures())
    }

    /// Like [`Document::verify`], whatever ids the signatures go by.
    pub(super) fn verify_under_any_id(
        &self,
        keys: &BTreeMap<KeyId, TufKey>,
        role: &RoleKeys,
    ) -> Result<(), ThresholdError> {
        let signatures = self.envelope.signatures().map(|(_, signature)| signature);
        let pairs = signatures.flat_map(|signature| role.keyids.iter().map(move |id| (id, signature)));
        role.verify(keys, &self.envelope.signed.canonical(), pairs)
    }

    /// Whether what is signed is the same in both, whoever has signed it.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.envelope.signed.canonical() == other.envelope.signed.canonical()
    }

    /// How many of `role`'s keys it names as its signers, whether these have signed or not.
    pub fn claims(&self, role: &RoleKeys) -> usize {
        let signers: BTreeSet<_> = self.envelope.signatures().map(|(id, _)| id).collect();
        signers.into_iter().filter(|id| role.keyids.contains(id)).count()
    }

    /// Its version.
    pub fn version(&self) -> u64 {
        self.signed.header().version
    }

    /// From when on it is refused.
    pub fn expires(&self) -> Time {
        self.signed.header().expires
    }
}

impl Summary {
    /// Reads what a stored document says about itself, without checking who signed it.
    pub fn of(bytes: &[u8]) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        struct Outer {
            signed: Header,
        }
        let Outer { signed: Header { kind, version, expires, .. } } =
            serde_json::from_slice(bytes).map_err(|error| Problem::Malformed(error.to_string()))?;
        Ok(Self { kind, version, expires })
    }
}
