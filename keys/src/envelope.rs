//! TUF documents as a signer sees them: a body to sign and the signatures around it.
//!
//! Adding a signature needs no knowledge of the body beyond its canonical form, so that an offline machine
//! signs with nothing but the file in its hand.

use std::collections::BTreeMap;

use crate::json::{Json, JsonError};
#[cfg(feature = "sign")]
use crate::signer::{SignError, Signer};
use crate::tuf_key::{KeyId, TufKey};

/// The largest document that is signed, in bytes.
pub const MAX_BYTES: u64 = 16 << 20;

/// A document `{"signatures": [..], "signed": {..}}` (TUF 1.0, section 4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The body.
    pub signed: Json,
    /// Signatures in hexadecimal digits by key id; one a key.
    pub signatures: BTreeMap<KeyId, String>,
}

/// Which of two signatures of one key was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The one that is valid.
    Valid,
    /// The one that was there: neither is known to be valid.
    First,
}

/// Why bytes are not a document that can be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not JSON with one reading.
    #[error("not a document to sign: {0}")]
    Json(#[from] JsonError),
    /// JSON, but not of the shape.
    #[error("not a document to sign: {0}")]
    Shape(&'static str),
    /// The documents to combine differ in what is signed.
    #[error("the documents do not sign the same body; sign the same request on each machine")]
    OtherBody,
}

impl Envelope {
    /// A document without signatures.
    pub fn unsigned(signed: Json) -> Self {
        Self { signed, signatures: BTreeMap::new() }
    }

    /// Reads a document, signed or not.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let Json::Object(mut members) = Json::parse(bytes)? else {
            return Err(EnvelopeError::Shape("not a JSON object"));
        };
        let signed = members.remove("signed").filter(|signed| matches!(signed, Json::Object(_)));
        let signed = signed.ok_or(EnvelopeError::Shape("member \"signed\" is missing"))?;
        let Some(Json::Array(items)) = members.remove("signatures") else {
            return Err(EnvelopeError::Shape("member \"signatures\" is missing"));
        };
        let mut signatures = BTreeMap::new();
        for item in &items {
            let text = |name| item.get(name).and_then(Json::as_str).map(str::to_owned);
            let (Some(id), Some(signature)) = (text("keyid"), text("sig")) else {
                return Err(EnvelopeError::Shape("a signature lacks \"keyid\" or \"sig\""));
            };
            if signatures.insert(KeyId::from(id), signature).is_some() {
                return Err(EnvelopeError::Shape("a key has two signatures"));
            }
        }
        Ok(Self { signed, signatures })
    }

    /// The signatures, as [`crate::RoleKeys::verify`] takes them.
    pub fn signatures(&self) -> impl Iterator<Item = (&KeyId, &str)> {
        self.signatures.iter().map(|(id, signature)| (id, signature.as_str()))
    }

    /// Adds `signer`'s signature over the canonical form of the body.
    #[cfg(feature = "sign")]
    pub fn sign(&mut self, signer: &dyn Signer) -> Result<(), SignError> {
        let signature = signer.sign(&self.signed.canonical())?;
        self.signatures.insert(signer.public().tuf_id(), signature.to_string());
        Ok(())
    }

    /// Takes over the signatures of `other`, which must have the same body.
    ///
    /// Where both have one of the same key, what is kept is the one that is valid according to `keys`, or else the one
    /// that was there, so that no damaged copy takes the place of a good one. Such keys are returned.
    pub fn combine(
        &mut self,
        other: Self,
        keys: &BTreeMap<KeyId, TufKey>,
    ) -> Result<Vec<(KeyId, Kept)>, EnvelopeError> {
        if self.signed != other.signed {
            return Err(EnvelopeError::OtherBody);
        }
        let bytes = self.signed.canonical();
        let mut differing = Vec::new();
        for (id, theirs) in other.signatures {
            let Some(ours) = self.signatures.get(&id) else {
                self.signatures.insert(id, theirs);
                continue;
            };
            if *ours == theirs {
                continue;
            }
            let is_valid =
                |signature: &str| keys.get(&id).is_some_and(|key| key.verify(&bytes, signature).is_ok());
            let kept = match (is_valid(ours), is_valid(&theirs)) {
                (true, _) => Kept::Valid,
                (false, true) => {
                    self.signatures.insert(id.clone(), theirs);
                    Kept::Valid
                }
                (false, false) => Kept::First,
            };
            differing.push((id, kept));
        }
        Ok(differing)
    }

    /// The document's bytes: indented JSON with a newline at the end; equal documents give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let text = |value: &str| Json::String(value.to_owned());
        let signature = |(id, sig): (&KeyId, &String)| {
            Json::Object([("keyid".into(), text(id.as_str())), ("sig".into(), text(sig))].into())
        };
        let signatures = Json::Array(self.signatures.iter().map(signature).collect());
        let document =
            Json::Object([("signatures".into(), signatures), ("signed".into(), self.signed.clone())].into());
        // Writing a tree of strings and integers to memory has no way to fail.
        let mut bytes = serde_json::to_vec_pretty(&document).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

#[cfg(test)]
#[cfg(feature = "sign")]
mod tests {
    use super::*;
    use crate::key_pair::KeyPair;

    fn request() -> Envelope {
        Envelope::unsigned(Json::parse(br#"{"_type":"root","version":1}"#).unwrap())
    }

    #[test]
    fn signatures_from_two_machines_combine() {
        let [a, b] = [1, 2].map(|seed| KeyPair::from_seed([seed; 32]));
        let [mut one, mut two] = [request(), request()];
        one.sign(&a).unwrap();
        two.sign(&b).unwrap();
        let two = Envelope::parse(&two.to_bytes()).unwrap();
        assert_eq!(one.combine(two, &BTreeMap::new()), Ok(Vec::new()));
        let read = Envelope::parse(&one.to_bytes()).unwrap();
        assert_eq!(read, one);
        for pair in [a, b] {
            let signature = &read.signatures[&pair.public().tuf_id()];
            let bytes = br#"{"_type":"root","version":1}"#;
            assert_eq!(pair.public().verify(bytes, &signature.parse().unwrap()), Ok(()));
        }
    }

    #[test]
    fn signatures_over_another_body_do_not_combine() {
        let other = Envelope::unsigned(Json::parse(br#"{"_type":"root","version":2}"#).unwrap());
        assert_eq!(request().combine(other, &BTreeMap::new()), Err(EnvelopeError::OtherBody));
    }

    #[test]
    fn a_bad_signature_never_takes_the_place_of_a_good_one() {
        let pair = KeyPair::from_seed([1; 32]);
        let id = pair.public().tuf_id();
        let [mut good, mut bad] = [request(), request()];
        good.sign(&pair).unwrap();
        bad.signatures.insert(id.clone(), "00".repeat(64));
        let known: BTreeMap<_, _> = [(id.clone(), pair.public().to_tuf())].into();
        for (mut first, second) in [(good.clone(), bad.clone()), (bad.clone(), good.clone())] {
            assert_eq!(first.combine(second, &known), Ok(vec![(id.clone(), Kept::Valid)]));
            assert_eq!(first, good);
        }
        // Nothing is known of the key: the first stays, and that is told.
        let mut first = good.clone();
        assert_eq!(first.combine(bad, &BTreeMap::new()), Ok(vec![(id, Kept::First)]));
        assert_eq!(first, good);
    }

    #[test]
    fn what_is_not_a_document_is_refused() {
        for bad in [
            "[]",
            r#"{"signed":{}}"#,
            r#"{"signatures":[],"signed":1}"#,
            r#"{"signatures":[{"keyid":"a"}],"signed":{}}"#,
            r#"{"signatures":[{"keyid":"a","sig":""},{"keyid":"a","sig":""}],"signed":{}}"#,
        ] {
            assert!(Envelope::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
