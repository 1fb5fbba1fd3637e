//! An ed25519 signature (RFC 8032).

use std::fmt;
use std::str::FromStr;

use crate::hex;

/// An ed25519 signature of 64 bytes, written as 128 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

/// The text or the bytes are not a signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an ed25519 signature: 64 bytes, or 128 hexadecimal digits, expected")]
pub struct ParseSignatureError;

/// A signature does not vouch for the bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The signature is not one of this key over these bytes.
    #[error("signature does not verify")]
    Invalid,
    /// The key is of a kind that this program does not verify.
    #[error("key type {keytype:?} with scheme {scheme:?} is not supported")]
    Unsupported {
        /// The key's type as it was given.
        keytype: String,
        /// The key's scheme as it was given.
        scheme: String,
    },
    /// The public key itself cannot be read.
    #[error("public key is malformed")]
    Key,
}

impl Signature {
    /// The 64 bytes, `R` then `S`.
    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl From<[u8; 64]> for Signature {
    fn from(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<&[u8]> for Signature {
    type Error = ParseSignatureError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self).map_err(|_| ParseSignatureError)
    }
}

impl FromStr for Signature {
    type Err = ParseSignatureError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        hex::decode_array(text).map(Self).ok_or(ParseSignatureError)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({self})")
    }
}
