//! Public keys as TUF metadata holds them (TUF 1.0, section 4.2), and verification by their scheme.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::hex;
use crate::json::Json;
use crate::public::PublicKey;
use crate::signature::{Signature, VerifyError};

/// The id by which TUF metadata names a key.
///
/// An opaque text (TUF 1.0, section 4.2, since TAP 12); ours are the SHA-256 of the key's canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(String);

impl KeyId {
    /// The id of the key whose canonical JSON is given.
    pub fn of(canonical: &[u8]) -> Self {
        Self(hex::encode(&Sha256::digest(canonical)))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight characters, for people; never to be compared.
    pub fn short(&self) -> String {
        self.0.chars().take(8).collect()
    }
}

impl From<String> for KeyId {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A public key in TUF metadata. One that this program cannot use is kept; it just never verifies anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TufKey {
    /// The kind of key: `ed25519`, `ecdsa`, `rsa`.
    pub keytype: String,
    /// How the key signs: `ed25519`, `ecdsa-sha2-nistp256`, `rsassa-pss-sha256`.
    pub scheme: String,
    /// The key itself.
    pub keyval: KeyVal,
    /// Members that the specification does not name.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Json>,
}

/// The `keyval` of a [`TufKey`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyVal {
    /// 64 hexadecimal digits for ed25519, PEM (SPKI) for the others.
    pub public: String,
    /// Members that the specification does not name.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Json>,
}

impl TufKey {
    /// An ed25519 key of 64 hexadecimal digits.
    pub(crate) fn ed25519(public: String) -> Self {
        let keyval = KeyVal { public, extra: BTreeMap::new() };
        Self { keytype: "ed25519".into(), scheme: "ed25519".into(), keyval, extra: BTreeMap::new() }
    }

    /// Whether `signature` (hexadecimal digits) is this key's over `bytes`.
    pub fn verify(&self, bytes: &[u8], signature: &str) -> Result<(), VerifyError> {
        match (self.keytype.as_str(), self.scheme.as_str()) {
            ("ed25519", "ed25519") => {
                let signature: Signature = signature.parse().map_err(|_| VerifyError::Invalid)?;
                self.as_ed25519().ok_or(VerifyError::Key)?.verify(bytes, &signature)
            }
            #[cfg(feature = "ecdsa")]
            ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => {
                ecdsa::verify(&self.keyval.public, bytes, signature)
            }
            #[cfg(feature = "rsa")]
            ("rsa", "rsassa-pss-sha256") => rsa_pss::verify(&self.keyval.public, bytes, signature),
            _ => Err(VerifyError::Unsupported {
                keytype: self.keytype.chars().take(40).collect(),
                scheme: self.scheme.chars().take(40).collect(),
            }),
        }
    }

    /// The key, if it is a readable ed25519 one.
    pub fn as_ed25519(&self) -> Option<PublicKey> {
        (self.keytype == "ed25519" && self.scheme == "ed25519")
            .then(|| hex::decode_array::<32>(&self.keyval.public))
            .flatten()
            .and_then(|bytes| PublicKey::try_from(bytes.as_slice()).ok())
    }

    /// What makes two keys the same key, whatever ids they go by: their material in a single spelling.
    ///
    /// The text of a key has many spellings, so those that can be verified with are read first. Others verify nothing.
    pub fn material(&self) -> String {
        let read = match self.keytype.as_str() {
            "ed25519" => self.as_ed25519().map(|key| key.to_string()),
            #[cfg(feature = "ecdsa")]
            "ecdsa" | "ecdsa-sha2-nistp256" => ecdsa::material(&self.keyval.public),
            #[cfg(feature = "rsa")]
            "rsa" => rsa_pss::material(&self.keyval.public),
            _ => None,
        };
        read.unwrap_or_else(|| self.keyval.public.split_ascii_whitespace().collect())
    }
}

#[cfg(feature = "ecdsa")]
mod ecdsa {
    //! ECDSA over NIST P-256 with SHA-256: PEM key, DER signature.

    use p256::ecdsa::signature::Verifier;
    use p256::ecdsa::{DerSignature, VerifyingKey};
    use p256::pkcs8::{DecodePublicKey, EncodePublicKey};

    use crate::hex;
    use crate::signature::VerifyError;

    pub(super) fn verify(key: &str, bytes: &[u8], signature: &str) -> Result<(), VerifyError> {
        let key = read(key).ok_or(VerifyError::Key)?;
        let signature = hex::decode(signature).ok_or(VerifyError::Invalid)?;
        let signature = DerSignature::from_bytes(&signature).map_err(|_| VerifyError::Invalid)?;
        key.verify(bytes, &signature).map_err(|_| VerifyError::Invalid)
    }

    /// The key as DER, which has one spelling: the point is written uncompressed.
    pub(super) fn material(key: &str) -> Option<String> {
        Some(hex::encode(read(key)?.to_public_key_der().ok()?.as_bytes()))
    }

    fn read(key: &str) -> Option<VerifyingKey> {
        VerifyingKey::from_public_key_pem(key.trim()).ok()
    }
}

#[cfg(feature = "rsa")]
mod rsa_pss {
    //! RSASSA-PSS with SHA-256 and MGF1, a salt as long as the hash, keys of 2048 to 4096 bits.

    use rsa::RsaPublicKey;
    use rsa::pkcs8::{DecodePublicKey, EncodePublicKey};
    use rsa::pss::{Signature, VerifyingKey};
    use rsa::signature::Verifier;
    use rsa::traits::PublicKeyParts;
    use sha2::Sha256;

    use crate::hex;
    use crate::signature::VerifyError;

    pub(super) fn verify(key: &str, bytes: &[u8], signature: &str) -> Result<(), VerifyError> {
        let key = read(key).ok_or(VerifyError::Key)?;
        if !(256..=512).contains(&key.size()) {
            return Err(VerifyError::Key);
        }
        let signature = hex::decode(signature).ok_or(VerifyError::Invalid)?;
        let signature = Signature::try_from(signature.as_slice()).map_err(|_| VerifyError::Invalid)?;
        VerifyingKey::<Sha256>::new(key).verify(bytes, &signature).map_err(|_| VerifyError::Invalid)
    }

    /// The key as DER, which has one spelling.
    pub(super) fn material(key: &str) -> Option<String> {
        Some(hex::encode(read(key)?.to_public_key_der().ok()?.as_bytes()))
    }

    fn read(key: &str) -> Option<RsaPublicKey> {
        RsaPublicKey::from_public_key_pem(key.trim()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_an_unknown_kind_is_kept_and_verifies_nothing() {
        let text = r#"{"keytype":"x","keyval":{"public":"y","z":[1]},"scheme":"q","extra":{"a":1}}"#;
        let key: TufKey = serde_json::from_str(text).unwrap();
        assert!(matches!(key.verify(b"", ""), Err(VerifyError::Unsupported { .. })));
        let again = Json::parse(&serde_json::to_vec(&key).unwrap()).unwrap();
        assert_eq!(again, Json::parse(text.as_bytes()).unwrap());
    }

    #[test]
    fn one_key_in_two_spellings_is_one_key() {
        let digits = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        let [lower, upper] = [digits.to_owned(), digits.to_uppercase()].map(TufKey::ed25519);
        assert_ne!(lower, upper);
        assert_eq!(lower.material(), upper.material());
    }

    #[cfg(any(feature = "ecdsa", feature = "rsa"))]
    fn foreign(keytype: &str, public: &str) -> TufKey {
        TufKey { keytype: keytype.into(), ..TufKey::ed25519(public.into()) }
    }

    /// A curve's point can be written as one coordinate or as two, and PEM may follow other text.
    #[cfg(feature = "ecdsa")]
    #[test]
    fn one_key_over_p256_in_two_spellings_is_one_key() {
        let compressed = "-----BEGIN PUBLIC KEY-----\n\
            MDkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDIgADmGeI4brmKboizIC4EWBSs8pKR8qC\n\
            MoQHP7HlXfMpr98=\n\
            -----END PUBLIC KEY-----";
        let whole = "-----BEGIN PUBLIC KEY-----\n\
            MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEmGeI4brmKboizIC4EWBSs8pKR8qC\n\
            MoQHP7HlXfMpr99rD0cBxTs0FekYf0Eumx6N+6/OZrvrBntKRgN0LrllfQ==\n\
            -----END PUBLIC KEY-----";
        let material = foreign("ecdsa", whole).material();
        assert!(!material.contains("BEGIN"), "{material}");
        for (keytype, text) in [
            ("ecdsa", compressed.to_owned()),
            ("ecdsa-sha2-nistp256", compressed.to_owned()),
            ("ecdsa", format!("a comment\n{whole}\n")),
        ] {
            assert_eq!(foreign(keytype, &text).material(), material, "{text}");
        }
    }

    #[cfg(feature = "rsa")]
    #[test]
    fn one_rsa_key_in_two_spellings_is_one_key() {
        let text = "-----BEGIN PUBLIC KEY-----\n\
            MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA0lZOstoSkv3p75THFKQo\n\
            QXIsaGLd0NpxASw3IeVC4y6lK56EDn3DrPQBkNOaroTLqpNyMygL5f27RpcPP0kF\n\
            k00S7wttuYI0PPpUgH/GeIj3E1CYZuNihE5CfnP1AeEO/G6Tst2GTKGzg3LqK8Gy\n\
            IX11UIizHhlvwuMMDf7BPrdJfo0+husZcGWYu6ODbKNaUlfAhswCK9JNnARzEufM\n\
            Hd4ye3/j6qbqV2jjmSs+Eyfmz0g/6KsAFTmjYw21E9SmbZx0DuHEf6gbxmjnjyoK\n\
            2xNRI1nLVhinIEz9xtXJNXg4Cq81913QwgEiENax460Pz1j6vGvYqkmUck/D6B5R\n\
            PwIDAQAB\n\
            -----END PUBLIC KEY-----";
        let material = foreign("rsa", text).material();
        assert!(!material.contains("BEGIN"), "{material}");
        for text in [format!("a comment\n{text}\n"), text.replace('\n', "\r\n")] {
            assert_eq!(foreign("rsa", &text).material(), material, "{text}");
        }
    }
}
