//! What a copy with a part of a repository says of itself: `part.json` at its root. A whole repository has none.
//!
//! Nobody signs it, and nobody is trusted for it: hosts verify what they take all the same. It tells who audits or copies the copy
//! what is to be there, so that what is missing can be told from what was left out, and a host which releases to ask for.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::ChannelName;
use crate::version::Version;

/// Where it is, from the root of the copy.
pub const PATH: &str = "part.json";

/// The largest one that is read, in bytes.
pub const MAX_BYTES: u64 = 1 << 16;

/// The version of the format that this crate reads and writes.
pub const FORMAT: u32 = 1;

/// The part of a repository that a copy is to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partial {
    /// [`FORMAT`].
    pub format: u32,
    /// Channels with what they point at and what their hosts must pass through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<ChannelName>,
    /// Releases beside these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<Version>,
    /// Channels whose file alone is there, for hosts that are told to take one of `versions`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pointers: Vec<ChannelName>,
    /// The versions that hosts come from whose deltas are there; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Version>,
    /// Whether deltas are there.
    pub deltas: bool,
}

/// Why the bytes are no such document.
#[derive(Debug, thiserror::Error)]
pub enum PartialError {
    /// Too long to be one.
    #[error("it has more than {MAX_BYTES} bytes")]
    TooLarge,
    /// Not JSON, or of other fields.
    #[error("it is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It names no channel and no release.
    #[error("it names no channel and no release")]
    Empty,
    /// Of another version.
    #[error("it has format {0}, where {FORMAT} is known")]
    Format(u32),
}

impl Partial {
    /// Reads one; the bytes may be of anyone.
    pub fn parse(bytes: &[u8]) -> Result<Self, PartialError> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(PartialError::TooLarge);
        }
        let found: Self = serde_json::from_slice(bytes)?;
        if found.format != FORMAT {
            return Err(PartialError::Format(found.format));
        }
        if found.channels.is_empty() && found.versions.is_empty() {
            return Err(PartialError::Empty);
        }
        Ok(found)
    }

    /// The bytes of the document, the same for the same part.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

impl fmt::Display for Partial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let channels = named("channel", &self.channels);
        let versions = named("release", &self.versions);
        let parts: Vec<String> = [channels, versions].into_iter().flatten().collect();
        f.write_str(&parts.join(" and "))?;
        if !self.deltas {
            f.write_str(" without deltas")?;
        } else if !self.from.is_empty() {
            write!(f, " for hosts that run {}", list(&self.from))?;
        }
        Ok(())
    }
}

fn named<T: fmt::Display>(what: &str, names: &[T]) -> Option<String> {
    let plural = if names.len() > 1 { "s" } else { "" };
    (!names.is_empty()).then(|| format!("{what}{plural} {}", list(names)))
}

fn list<T: fmt::Display>(names: &[T]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part() -> Partial {
        Partial {
            format: FORMAT,
            channels: vec!["stable".parse().unwrap()],
            versions: vec!["1.0".parse().unwrap(), "1.1".parse().unwrap()],
            pointers: vec!["beta".parse().unwrap()],
            from: vec!["0.9".parse().unwrap()],
            deltas: true,
        }
    }

    #[test]
    fn what_is_written_is_read_and_said_in_words() {
        let part = part();
        let bytes = part.to_bytes().unwrap();
        assert_eq!(Partial::parse(&bytes).unwrap(), part);
        assert_eq!(part.to_string(), "channel stable and releases 1.0, 1.1 for hosts that run 0.9");
        let bare = Partial { channels: vec![], from: vec![], deltas: false, ..part };
        assert_eq!(bare.to_string(), "releases 1.0, 1.1 without deltas");
    }

    #[test]
    fn what_is_no_such_document_is_refused() {
        let refused = |bytes: &[u8]| Partial::parse(bytes).unwrap_err().to_string();
        assert!(refused(b"<html>").contains("malformed"));
        assert!(refused(b"{\"format\":1,\"deltas\":true,\"versions\":[\"../x\"]}").contains("malformed"));
        assert!(refused(b"{\"format\":1,\"deltas\":true}").contains("no channel"));
        assert!(refused(b"{\"format\":2,\"deltas\":true}").contains("format 2"));
        assert!(refused(&vec![b' '; MAX_BYTES as usize + 1]).contains("more than"));
    }
}
