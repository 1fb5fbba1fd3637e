//! Signatures of commits, where OSTree keeps them: detached metadata `ostree.sign.ed25519`, an `aay` of
//! signatures over the bytes of the commit object (ostree-sign-ed25519). `ostree sign --verify` of a libostree that was
//! built with ed25519 reads them.

use ostree::{gio, glib};
use upright_keys::{PublicKey, SignError, Signature, Signer};
use upright_manifests::digest::Digest;

use super::store::{Store, StoreError};
use super::variant::{array, bytes, children};

/// The key in a commit's detached metadata.
const KEY: &str = "ostree.sign.ed25519";

/// Why a commit was not signed, or is not vouched for.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The signer failed.
    #[error("cannot sign commit {commit}")]
    Sign {
        /// The commit.
        commit: String,
        /// Why not.
        source: SignError,
    },
    /// No signature of one of the keys.
    #[error(
        "commit {commit} has no signature of the {keys} keys it should have one of ({signatures} of others)"
    )]
    NotSigned {
        /// The commit.
        commit: String,
        /// How many keys were tried.
        keys: usize,
        /// How many signatures it has.
        signatures: usize,
    },
}

impl Store {
    /// Adds a signature to `commit`, unless the signer's key has signed it already.
    pub fn sign_commit(&self, commit: &Digest, signer: &dyn Signer) -> Result<(), SignatureError> {
        let object = self.commit_bytes(commit)?;
        let (metadata, mut signatures) = self.signatures(commit)?;
        if signatures.iter().any(|signature| signer.public().verify(&object, signature).is_ok()) {
            return Ok(());
        }
        let signed = signer.sign(&object);
        signatures
            .push(signed.map_err(|source| SignatureError::Sign { commit: commit.to_string(), source })?);
        let list = array("ay", signatures.iter().map(|signature| bytes(signature.as_bytes())));
        metadata.insert_value(KEY, &list);
        self.repo
            .write_commit_detached_metadata(
                &commit.to_string(),
                Some(&metadata.end()),
                gio::Cancellable::NONE,
            )
            .map_err(|source| self.error("write a signature", source))?;
        Ok(())
    }

    /// The first of `keys` that has signed `commit`.
    pub fn verify_commit<'a>(
        &self,
        commit: &Digest,
        keys: &'a [PublicKey],
    ) -> Result<&'a PublicKey, SignatureError> {
        let object = self.commit_bytes(commit)?;
        let (_, signatures) = self.signatures(commit)?;
        let signed =
            |key: &&PublicKey| signatures.iter().any(|signature| key.verify(&object, signature).is_ok());
        keys.iter().find(signed).ok_or_else(|| SignatureError::NotSigned {
            commit: commit.to_string(),
            keys: keys.len(),
            signatures: signatures.len(),
        })
    }

    fn commit_bytes(&self, commit: &Digest) -> Result<glib::Bytes, StoreError> {
        let object = self.repo.load_variant(ostree::ObjectType::Commit, &commit.to_string());
        Ok(object.map_err(|source| self.error("read a commit", source))?.data_as_bytes())
    }

    /// The commit's detached metadata and the signatures in it.
    fn signatures(&self, commit: &Digest) -> Result<(glib::VariantDict, Vec<Signature>), StoreError> {
        let metadata = self
            .repo
            .read_commit_detached_metadata(&commit.to_string(), gio::Cancellable::NONE)
            .map_err(|source| self.error("read signatures", source))?;
        let metadata = glib::VariantDict::new(metadata.as_ref());
        let list = metadata.lookup_value(KEY, None);
        let signatures = list.iter().flat_map(children);
        let signatures =
            signatures.filter_map(|signature| Signature::try_from(signature.data()).ok()).collect();
        Ok((metadata, signatures))
    }
}

#[cfg(test)]
mod tests {
    use upright_keys::KeyPair;

    use super::*;
    use crate::tree::testing::{Scratch, small_tree};

    #[test]
    fn signatures_add_up_and_vouch_for_their_commit_alone() {
        let scratch = Scratch::new();
        let store = scratch.store();
        let [first, second] = ["1", "2"].map(|version| scratch.commit(&store, &small_tree(), version));
        let [a, b, c] = [1, 2, 3].map(|seed| KeyPair::from_seed([seed; 32]));
        store.sign_commit(&first, &a).expect("signed");
        store.sign_commit(&first, &b).expect("signed");
        store.sign_commit(&first, &a).expect("signed");
        assert_eq!(store.signatures(&first).expect("signatures").1.len(), 2);
        for key in [&a, &b] {
            let keys = [*c.public(), *key.public()];
            assert_eq!(store.verify_commit(&first, &keys).expect("verified"), key.public());
        }
        let refused = store.verify_commit(&first, &[*c.public()]).expect_err("refused").to_string();
        assert_eq!(
            refused,
            format!("commit {first} has no signature of the 1 keys it should have one of (2 of others)")
        );
        // a signature that was moved to another commit
        let (metadata, _) = store.signatures(&first).expect("signatures");
        let metadata = metadata.end();
        store
            .repo
            .write_commit_detached_metadata(&second.to_string(), Some(&metadata), gio::Cancellable::NONE)
            .expect("written");
        assert!(store.verify_commit(&second, &[*a.public()]).is_err());
    }
}
