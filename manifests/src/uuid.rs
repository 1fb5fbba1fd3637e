//! UUIDs that are derived from content, never drawn at random.
//!
//! They have the shape of version 8 of RFC 9562 section 5.8, the version left to applications.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, Digester};

/// A UUID in the byte order of its text form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid([u8; 16]);

/// The text is not a UUID in the lower-case 8-4-4-4-12 form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID in the lower-case 8-4-4-4-12 form")]
pub struct ParseUuidError;

/// Where the dashes of the text form are.
const DASHES: [usize; 4] = [8, 13, 18, 23];

impl Uuid {
    /// The UUID of `seed` for one `purpose`: different purposes give unrelated UUIDs.
    pub fn derive(purpose: &str, seed: &[u8]) -> Self {
        let mut digester = Digester::new();
        digester.update(b"upright uuid 1\0");
        digester.update(purpose.as_bytes());
        digester.update(b"\0");
        digester.update(seed);
        Self::from_digest(&digester.finish())
    }

    /// The 16 bytes, first digit first.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    fn from_digest(digest: &Digest) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.as_bytes()[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }
}

impl From<[u8; 16]> for Uuid {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for Uuid {
    type Err = ParseUuidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.as_bytes();
        if text.len() != 36 || DASHES.iter().any(|&at| text[at] != b'-') {
            return Err(ParseUuidError);
        }
        let mut digits = text.iter().enumerate().filter(|(at, _)| !DASHES.contains(at)).map(|(_, &d)| d);
        let mut bytes = [0; 16];
        for byte in &mut bytes {
            let mut nibble = || digits.next().and_then(value).ok_or(ParseUuidError);
            *byte = nibble()? << 4 | nibble()?;
        }
        Ok(Self(bytes))
    }
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_bad_text_is_refused() {
        let uuid = Uuid::derive("test", b"seed");
        assert_eq!(uuid.to_string().parse(), Ok(uuid));
        let text = uuid.to_string();
        for bad in ["", &text[1..], &text.to_uppercase(), &text.replace('-', "0"), &"é".repeat(18)] {
            assert_eq!(bad.parse::<Uuid>(), Err(ParseUuidError), "{bad}");
        }
    }

    #[test]
    fn derived_uuids_are_pinned_and_depend_on_purpose_and_seed() {
        let uuid = Uuid::derive("test", b"seed");
        assert_eq!(uuid.to_string(), PINNED);
        assert_ne!(uuid, Uuid::derive("test", b"other"));
        assert_ne!(uuid, Uuid::derive("other", b"seed"));
    }

    const PINNED: &str = "e3b04b18-c8b4-8d7d-8768-3a238475edee";
}
