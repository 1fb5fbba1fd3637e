//! Names of operating systems, architectures, channels and slots, and paths inside a repository.
//!
//! All of them end up in file names, kernel command lines and URLs, so each has a narrow alphabet
//! that is checked once, where the text comes in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a name of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {kind}: {expected}")]
pub struct ParseNameError {
    text: String,
    kind: &'static str,
    expected: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseNameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    let text = text.chars().take(80).collect();
                    Err(ParseNameError { text, kind: $kind, expected: $expected })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseNameError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// The name of an operating system, such as `acme-edge`; the `ID` of its `os-release`.
    OsName,
    "an OS name",
    "1 to 32 of a-z 0-9 - starting with a letter",
    |text| is_word(text, 32)
);

name!(
    /// The name of a channel, such as `stable`.
    ChannelName,
    "a channel name",
    "1 to 32 of a-z 0-9 - starting with a letter",
    |text| is_word(text, 32)
);

name!(
    /// A path relative to a repository's root, such as `payloads/<sha256>.zst`.
    ///
    /// Never absolute, never empty, without `.` or `..` parts, so that it cannot leave the root when it
    /// is joined to a folder or a URL.
    RepoPath,
    "a repository path",
    "parts of a-z A-Z 0-9 . _ - ~ ^ joined by /, none of them . or .., at most 255 bytes",
    |text| {
        text.len() <= 255
            && text.split('/').all(|part| {
                !matches!(part, "" | "." | "..")
                    && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-~^".contains(&b))
            })
    }
);

fn is_word(text: &str, most: usize) -> bool {
    text.len() <= most
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// A machine's architecture, by systemd's name for it (systemd.unit(5), `ConditionArchitecture`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arch {
    /// 64-bit x86.
    #[serde(rename = "x86-64")]
    X86_64,
    /// 64-bit Arm, little-endian.
    Arm64,
}

impl Arch {
    /// All architectures there are.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Arm64];

    /// The architecture this program was built for.
    pub const HERE: Self = if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::X86_64 };

    /// The name as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86-64",
            Self::Arm64 => "arm64",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Arch {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|arch| arch.as_str() == text).ok_or_else(|| ParseNameError {
            text: text.chars().take(80).collect(),
            kind: "an architecture",
            expected: "x86-64 or arm64",
        })
    }
}

/// One of the two places an OS can be booted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The slot made of `root-a` and `root-a-verity`.
    A,
    /// The slot made of `root-b` and `root-b-verity`.
    B,
}

impl Slot {
    /// Both slots.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The other slot.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// `a` or `b`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

impl FromStr for Slot {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|slot| slot.as_str() == text).ok_or_else(|| ParseNameError {
            text: text.chars().take(80).collect(),
            kind: "a slot",
            expected: "a or b",
        })
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_their_alphabet_and_nothing_else() {
        for good in ["debian", "acme-edge2"] {
            assert!(good.parse::<OsName>().is_ok(), "{good}");
        }
        for bad in ["", "Debian", "2x", "a b", "a_b", "a/b", "..", &"a".repeat(33)] {
            assert!(bad.parse::<OsName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_repository_path_cannot_leave_its_root() {
        for good in ["payloads/ab.zst", "releases/acme/x86-64/1.0~rc1.json"] {
            assert!(good.parse::<RepoPath>().is_ok(), "{good}");
        }
        for bad in ["", "/etc", "a//b", "a/../b", "..", "./a", "a/", "http://x/y", "a?b", "a%2e", "a\\b"] {
            assert!(bad.parse::<RepoPath>().is_err(), "{bad}");
        }
    }

    #[test]
    fn architectures_have_the_names_systemd_gives_them() {
        for arch in Arch::ALL {
            assert_eq!(arch.as_str().parse(), Ok(arch));
            assert_eq!(serde_json::to_string(&arch).ok(), Some(format!("\"{arch}\"")));
        }
        assert!("amd64".parse::<Arch>().is_err());
    }
}
