//! The public half of an ed25519 key pair, in the notations that other programs use.

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64, Encoding};
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePublicKey, EncodePublicKey};
use sha2::{Digest, Sha256};

use crate::signature::{Signature, VerifyError};
use crate::tuf_key::{KeyId, TufKey};
use crate::{hex, json};

/// An ed25519 public key (RFC 8032), written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(VerifyingKey);

/// The text or the bytes are not a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an ed25519 public key: expected 64 hexadecimal digits, PEM (SPKI), base64 as OSTree has it, or minisign's text"
)]
pub struct ParsePublicKeyError;

impl PublicKey {
    /// The key's 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Whether `signature` is this key's over `bytes`; small-order keys and malleable signatures are refused.
    pub fn verify(&self, bytes: &[u8], signature: &Signature) -> Result<(), VerifyError> {
        let signature = ed25519_dalek::Signature::from_bytes(signature.as_bytes());
        self.0.verify_strict(bytes, &signature).map_err(|_| VerifyError::Invalid)
    }

    /// The key as SubjectPublicKeyInfo in PEM (RFC 8410), as `openssl pkey -pubin` reads it.
    pub fn to_pem(&self) -> String {
        // Encoding a key of fixed size into memory has no way to fail.
        self.0.to_public_key_pem(LineEnding::LF).unwrap_or_default()
    }

    /// The key as minisign's two lines; its key number is the start of the key's SHA-256.
    pub fn to_minisign(&self) -> String {
        let number = &Sha256::digest(self.as_bytes())[..8];
        let body = [b"Ed".as_slice(), number, self.as_bytes()].concat();
        let shown = number.iter().rev().fold(String::new(), |text, b| text + &format!("{b:02X}"));
        format!("untrusted comment: minisign public key {shown}\n{}\n", Base64::encode_string(&body))
    }

    /// The key as TUF metadata holds it (TUF 1.0, section 4.2).
    pub fn to_tuf(&self) -> TufKey {
        TufKey::ed25519(hex::encode(self.as_bytes()))
    }

    /// The id by which TUF metadata names the key: the SHA-256 of the canonical JSON of its TUF form.
    pub fn tuf_id(&self) -> KeyId {
        let canonical =
            format!(r#"{{"keytype":"ed25519","keyval":{{"public":"{self}"}},"scheme":"ed25519"}}"#);
        debug_assert!(
            json::Json::parse(canonical.as_bytes())
                .is_ok_and(|json| json.canonical() == canonical.as_bytes())
        );
        KeyId::of(canonical.as_bytes())
    }
}

impl TryFrom<&[u8]> for PublicKey {
    type Error = ParsePublicKeyError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        VerifyingKey::try_from(bytes).map(Self).map_err(|_| ParsePublicKeyError)
    }
}

impl From<VerifyingKey> for PublicKey {
    fn from(key: VerifyingKey) -> Self {
        Self(key)
    }
}

/// Reads any of the notations above; the text may end in white space.
impl FromStr for PublicKey {
    type Err = ParsePublicKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.starts_with("-----BEGIN") {
            return VerifyingKey::from_public_key_pem(text).map(Self).map_err(|_| ParsePublicKeyError);
        }
        if let Some((comment, body)) = text.split_once('\n')
            && comment.starts_with("untrusted comment:")
        {
            let bytes = Base64::decode_vec(body.trim()).map_err(|_| ParsePublicKeyError)?;
            return match bytes.split_at_checked(10) {
                Some((head, key)) if head.starts_with(b"Ed") => key.try_into(),
                _ => Err(ParsePublicKeyError),
            };
        }
        let bytes = hex::decode(text).or_else(|| Base64::decode_vec(text).ok());
        bytes.ok_or(ParsePublicKeyError)?.as_slice().try_into()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 2.
    const KEY: &str = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    const SIGNATURE: &str = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

    #[test]
    fn the_rfcs_signature_verifies_and_any_other_does_not() {
        let key: PublicKey = KEY.parse().unwrap();
        let signature: Signature = SIGNATURE.parse().unwrap();
        assert_eq!(key.verify(&[0x72], &signature), Ok(()));
        assert_eq!(key.verify(&[0x73], &signature), Err(VerifyError::Invalid));
        let mut bytes = *signature.as_bytes();
        bytes[63] ^= 1;
        assert_eq!(key.verify(&[0x72], &bytes.into()), Err(VerifyError::Invalid));
    }

    #[test]
    fn a_key_of_small_order_signs_nothing() {
        let identity: PublicKey = format!("01{}", "00".repeat(31)).parse().unwrap();
        let forged = [&[1][..], &[0; 63]].concat();
        let forged = Signature::try_from(forged.as_slice()).unwrap();
        assert_eq!(identity.verify(b"anything", &forged), Err(VerifyError::Invalid));
    }

    /// Lengths that no longer fit into 31 or 32 bits leave 5 bytes where they are cut down.
    #[cfg(feature = "sign")]
    #[test]
    fn a_signature_over_the_first_bytes_is_none_over_gigabytes_that_follow() {
        use crate::signer::Signer;
        let pair = crate::KeyPair::from_seed([1; 32]);
        // Zeros that are only read take no memory.
        let zeros = vec![0; (1 << 32) + 5];
        let signature = pair.sign(&zeros[..5]).unwrap();
        assert_eq!(pair.public().verify(&zeros[..5], &signature), Ok(()));
        for length in [(1 << 31) + 5, zeros.len()] {
            assert_eq!(pair.public().verify(&zeros[..length], &signature), Err(VerifyError::Invalid));
        }
    }

    #[test]
    fn every_notation_reads_back() {
        let key: PublicKey = KEY.parse().unwrap();
        for text in [key.to_string(), key.to_pem(), key.to_minisign(), format!("{KEY}\n")] {
            assert_eq!(text.parse(), Ok(key), "{text}");
        }
        for bad in ["", "00", "untrusted comment: x\nAAAA", "-----BEGIN PUBLIC KEY-----", &"g".repeat(64)] {
            assert_eq!(bad.parse::<PublicKey>(), Err(ParsePublicKeyError), "{bad}");
        }
    }

    #[test]
    fn the_tuf_id_is_the_one_python_tuf_computes() {
        let key: PublicKey = KEY.parse().unwrap();
        assert_eq!(key.tuf_id().as_str(), "eaf1e23f6c823132f437a2eaa299a7950f7386631deff273db195bbd26209e2b");
    }
}
