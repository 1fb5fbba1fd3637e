//! What runs: read from the kernel's command line, which the UKI fixes.

use std::io;

use upright_manifests::digest::Digest;
use upright_manifests::name::{OsName, Slot};
use upright_manifests::version::Version;

use crate::boot::Entry;
use crate::machine::Target;

/// The release that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booted {
    /// The slot it runs from.
    pub slot: Slot,
    /// The OS, `upright.os=`.
    pub os: OsName,
    /// The version, `upright.version=`.
    pub version: Version,
    /// The dm-verity root hash that the kernel enforces, `roothash=`.
    pub root_hash: Digest,
}

/// Why it cannot be said what runs.
#[derive(Debug, thiserror::Error)]
pub enum BootedError {
    /// The command line lacks a word or has a bad one.
    #[error(
        "the kernel's command line has no valid {0}=, so this system was not started from an Upright image"
    )]
    Word(&'static str),
    /// The device below the root file system is neither slot.
    #[error("the root file system is on {0}, which is neither root-a nor root-b")]
    Slot(String),
    /// Something could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
}

impl Booted {
    /// What the boot loader starts it by.
    pub fn entry(&self) -> Entry {
        Entry { slot: self.slot, os: self.os.clone(), version: self.version.clone() }
    }

    /// The release as a target.
    pub fn target(&self) -> Target {
        Target { version: self.version.clone(), root_hash: self.root_hash, manifest: None, uki: None }
    }

    /// The OS, version and root hash on a kernel command line; the last of each word counts, as in the kernel.
    pub fn parse(command_line: &str, slot: Slot) -> Result<Self, BootedError> {
        let word = |key: &'static str| {
            let value = |word: &'_ str| Some(word.strip_prefix(key)?.strip_prefix('=')?.to_owned());
            command_line.split_whitespace().rev().find_map(value).ok_or(BootedError::Word(key))
        };
        let invalid = |key| move |_| BootedError::Word(key);
        Ok(Self {
            slot,
            os: word("upright.os")?.parse().map_err(|_| BootedError::Word("upright.os"))?,
            version: word("upright.version")?.parse().map_err(|_| BootedError::Word("upright.version"))?,
            root_hash: word("roothash")?.parse().map_err(invalid("roothash"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_says_what_runs() {
        let hash = Digest::of(b"root");
        let line = format!("ro roothash={hash} upright.os=acme upright.version=1.2.0 quiet\n");
        let booted = Booted::parse(&line, Slot::B).unwrap();
        assert_eq!((booted.os.as_str(), booted.version.as_str(), booted.root_hash), ("acme", "1.2.0", hash));
    }

    #[test]
    fn another_systems_command_line_is_told_apart() {
        let error = Booted::parse("root=/dev/sda1 upright.os=acme upright.version=1", Slot::A).unwrap_err();
        assert!(error.to_string().contains("no valid roothash="), "{error}");
    }
}
