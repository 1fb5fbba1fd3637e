//! Passphrases, and where they come from: a file descriptor, a file or the environment. Never the
//! command line, which every user of the machine can read.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::str::FromStr;

use zeroize::Zeroizing;

/// The longest passphrase that is read, in bytes.
const MAX_LENGTH: u64 = 4096;

/// A passphrase; wiped from memory when dropped, never shown.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// The passphrase's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Passphrase {
    fn from(text: &str) -> Self {
        Self(Zeroizing::new(text.as_bytes().to_vec()))
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// Where a passphrase is read from: `fd:N`, `file:PATH` or `env:NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PassphraseSource {
    /// The first line of an open file descriptor.
    Descriptor(u32),
    /// The first line of a file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
}

/// Why there is no passphrase.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// The text names no source.
    ///
    /// The text is not repeated: it may be the passphrase itself, and messages end up in logs.
    #[error("not a source of a passphrase: expected fd:N, file:PATH or env:NAME")]
    Source,
    /// The source cannot be read.
    #[error("cannot read the passphrase from {from}: {source}")]
    Read {
        /// The source.
        from: PassphraseSource,
        /// What the system said.
        source: io::Error,
    },
    /// The environment variable is not set.
    #[error("the environment variable {0} that should hold the passphrase is not set")]
    Unset(String),
    /// Nothing in it.
    #[error("the passphrase from {0} is empty")]
    Empty(PassphraseSource),
    /// Longer than any other program would take, or cut short: it would open nothing that it is meant to open.
    #[error("the passphrase from {0} has more than {MAX_LENGTH} bytes")]
    TooLong(PassphraseSource),
    /// Other programs end a passphrase at a NUL.
    #[error("the passphrase from {0} has a NUL in it, at which other programs would end it")]
    Nul(PassphraseSource),
}

impl PassphraseSource {
    /// Reads the passphrase: what stands before the first line break.
    pub fn read(&self) -> Result<Passphrase, PassphraseError> {
        let mut bytes = match self {
            Self::Environment(name) => {
                let value = std::env::var_os(name).ok_or_else(|| PassphraseError::Unset(name.clone()))?;
                Zeroizing::new(value.into_encoded_bytes())
            }
            Self::File(path) => self.first_bytes(path.clone())?,
            // The kernel opens a pipe or file by its descriptor's name; proc(5).
            Self::Descriptor(number) => self.first_bytes(format!("/proc/self/fd/{number}").into())?,
        };
        let end = bytes.iter().position(|b| matches!(b, b'\n' | b'\r')).unwrap_or(bytes.len());
        bytes.truncate(end);
        if bytes.is_empty() {
            return Err(PassphraseError::Empty(self.clone()));
        }
        if bytes.len() as u64 > MAX_LENGTH {
            return Err(PassphraseError::TooLong(self.clone()));
        }
        match bytes.contains(&0) {
            true => Err(PassphraseError::Nul(self.clone())),
            false => Ok(Passphrase(bytes)),
        }
    }

    fn first_bytes(&self, path: PathBuf) -> Result<Zeroizing<Vec<u8>>, PassphraseError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LENGTH as usize + 1));
        File::open(path)
            .and_then(|file| file.take(MAX_LENGTH + 1).read_to_end(&mut bytes))
            .map_err(|source| PassphraseError::Read { from: self.clone(), source })?;
        Ok(bytes)
    }
}

impl FromStr for PassphraseSource {
    type Err = PassphraseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || PassphraseError::Source;
        match text.split_once(':') {
            Some(("fd", number)) => number.parse().map(Self::Descriptor).map_err(|_| bad()),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("env", name)) if !name.is_empty() => Ok(Self::Environment(name.to_owned())),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for PassphraseSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Descriptor(number) => write!(f, "fd:{number}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Environment(name) => write!(f, "env:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;

    use super::*;

    fn holding(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn the_first_line_of_a_file_or_descriptor_is_the_passphrase() {
        let file = holding(b"correct horse\nsecond line\n");
        let by_path: PassphraseSource = format!("file:{}", file.path().display()).parse().unwrap();
        let by_number: PassphraseSource = format!("fd:{}", file.as_file().as_raw_fd()).parse().unwrap();
        for source in [by_path, by_number] {
            assert_eq!(source.read().unwrap().as_bytes(), b"correct horse", "{source}");
        }
    }

    #[test]
    fn a_missing_or_empty_passphrase_is_an_error() {
        let empty = PassphraseSource::File(holding(b"\n").path().to_owned());
        assert!(empty.read().is_err());
        let file = holding(b"\nx");
        assert!(matches!(PassphraseSource::File(file.path().into()).read(), Err(PassphraseError::Empty(_))));
        assert!(matches!(
            PassphraseSource::Environment("UPRIGHT_NO_SUCH_VARIABLE".into()).read(),
            Err(PassphraseError::Unset(_))
        ));
        for bad in ["hunter2", "fd:x", "file:", "env:", "pass:x"] {
            assert!(bad.parse::<PassphraseSource>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_passphrase_that_would_be_cut_short_is_an_error() {
        let longest = [vec![b'x'; 4096], b"\n".to_vec()].concat();
        let file = holding(&longest);
        assert_eq!(PassphraseSource::File(file.path().into()).read().unwrap().as_bytes().len(), 4096);
        let file = holding(&vec![b'x'; 4097]);
        assert!(matches!(
            PassphraseSource::File(file.path().into()).read(),
            Err(PassphraseError::TooLong(_))
        ));
        let file = holding(b"correct\0horse\n");
        assert!(matches!(PassphraseSource::File(file.path().into()).read(), Err(PassphraseError::Nul(_))));
    }

    #[test]
    fn it_is_never_shown() {
        let error = "hunter2".parse::<PassphraseSource>().unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert_eq!(format!("{:?}", Passphrase::from("secret")), "Passphrase(..)");
    }
}
