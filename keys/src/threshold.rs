//! Signature thresholds: how many different keys must have signed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::json::Json;
use crate::tuf_key::{KeyId, TufKey};

/// The keys that may sign for a role, and how many of them must (TUF 1.0, section 4.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleKeys {
    /// The ids of the keys.
    pub keyids: Vec<KeyId>,
    /// How many of them must have signed; at least 1.
    pub threshold: u32,
    /// Members that the specification does not name.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Json>,
}

/// Too few of a role's keys have signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{valid} of the {threshold} signatures needed are valid")]
pub struct ThresholdError {
    /// How many different keys of the role have signed the bytes.
    pub valid: usize,
    /// How many must.
    pub threshold: u32,
}

impl RoleKeys {
    /// A role signed by `threshold` of `keyids`.
    pub fn new(keyids: Vec<KeyId>, threshold: u32) -> Self {
        Self { keyids, threshold, extra: BTreeMap::new() }
    }

    /// Checks that at least the threshold of this role's keys have signed `bytes`.
    ///
    /// `signatures` are pairs of key id and hexadecimal digits. A key counts once, under however many ids
    /// it goes and however often it signed. Signatures of other keys, and invalid ones, count for nothing.
    pub fn verify<'a>(
        &self,
        keys: &BTreeMap<KeyId, TufKey>,
        bytes: &[u8],
        signatures: impl IntoIterator<Item = (&'a KeyId, &'a str)>,
    ) -> Result<(), ThresholdError> {
        let signers = self.signers(keys, bytes, signatures);
        match u64::try_from(signers.len()) {
            Ok(valid) if self.threshold > 0 && valid >= self.threshold.into() => Ok(()),
            _ => Err(ThresholdError { valid: signers.len(), threshold: self.threshold }),
        }
    }

    /// The material of each of this role's keys that has signed `bytes`.
    fn signers<'a>(
        &self,
        keys: &BTreeMap<KeyId, TufKey>,
        bytes: &[u8],
        signatures: impl IntoIterator<Item = (&'a KeyId, &'a str)>,
    ) -> BTreeSet<String> {
        let mut signers = BTreeSet::new();
        for (id, signature) in signatures {
            let Some(key) = self.keyids.contains(id).then(|| keys.get(id)).flatten() else { continue };
            let material = key.material();
            // A key that has counted is not tried again, so that repeating it costs the verifier nothing.
            if !signers.contains(&material) && key.verify(bytes, signature).is_ok() {
                signers.insert(material);
            }
        }
        signers
    }
}

#[cfg(test)]
#[cfg(feature = "sign")]
mod tests {
    use super::*;
    use crate::key_pair::KeyPair;
    use crate::signer::Signer;

    fn role(pairs: &[&KeyPair], threshold: u32) -> (RoleKeys, BTreeMap<KeyId, TufKey>) {
        let keys = pairs.iter().map(|pair| (pair.public().tuf_id(), pair.public().to_tuf()));
        let keys: BTreeMap<_, _> = keys.collect();
        (RoleKeys::new(keys.keys().cloned().collect(), threshold), keys)
    }

    fn signed(pair: &KeyPair) -> (KeyId, String) {
        (pair.public().tuf_id(), pair.sign(b"bytes").unwrap().to_string())
    }

    fn count(role: &RoleKeys, keys: &BTreeMap<KeyId, TufKey>, signatures: &[(KeyId, String)]) -> usize {
        match role.verify(keys, b"bytes", signatures.iter().map(|(id, sig)| (id, sig.as_str()))) {
            Ok(()) => usize::MAX,
            Err(error) => error.valid,
        }
    }

    #[test]
    fn two_of_two_keys_meet_a_threshold_of_two() {
        let [a, b] = [1, 2].map(|seed| KeyPair::from_seed([seed; 32]));
        let (role, keys) = role(&[&a, &b], 2);
        assert_eq!(count(&role, &keys, &[signed(&a), signed(&b)]), usize::MAX);
        assert_eq!(count(&role, &keys, &[signed(&a)]), 1);
    }

    #[test]
    fn a_key_counts_once_however_often_it_signs_and_however_it_is_named() {
        let a = KeyPair::from_seed([1; 32]);
        let (mut role, mut keys) = role(&[&a], 2);
        assert_eq!(count(&role, &keys, &[signed(&a), signed(&a)]), 1);
        let alias = KeyId::from("alias".to_owned());
        keys.insert(alias.clone(), a.public().to_tuf());
        role.keyids.push(alias.clone());
        assert_eq!(count(&role, &keys, &[signed(&a), (alias, signed(&a).1)]), 1);
    }

    #[test]
    fn other_roles_keys_and_invalid_signatures_count_for_nothing() {
        let [a, b] = [1, 2].map(|seed| KeyPair::from_seed([seed; 32]));
        let (mut role, keys) = role(&[&a, &b], 1);
        role.keyids = vec![a.public().tuf_id()];
        assert_eq!(count(&role, &keys, &[signed(&b)]), 0);
        assert_eq!(count(&role, &keys, &[(a.public().tuf_id(), signed(&b).1)]), 0);
        assert_eq!(count(&role, &keys, &[(a.public().tuf_id(), String::new())]), 0);
        assert_eq!(count(&role, &keys, &[signed(&b), signed(&a)]), usize::MAX);
    }

    #[test]
    fn a_threshold_of_zero_is_never_met() {
        let a = KeyPair::from_seed([1; 32]);
        let (role, keys) = role(&[&a], 0);
        assert_eq!(count(&role, &keys, &[signed(&a)]), 1);
    }
}
