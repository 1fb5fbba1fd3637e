//! Why an input could not be read, each in one line that names the input.

use std::io;
use std::path::PathBuf;

use super::MAX_FILE;
use super::tar::TarError;
use crate::tree::{BuildError, StoreError, WriteError, display};

/// Why an input could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot take {}", input.display())]
pub struct ReadError {
    /// The input.
    pub input: PathBuf,
    /// What is wrong with it.
    #[source]
    pub reason: InputError,
}

/// What is wrong with an input.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// It cannot be opened or read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not what it seems to be.
    #[error("{0}")]
    Format(String),
    /// Nobody whose word counts has signed it.
    #[error("{0}")]
    NotSigned(String),
    /// One of its entries cannot be part of a tree.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A file beyond reason.
    #[error("{path} is {size} bytes long: at most {MAX_FILE} are taken")]
    TooBig {
        /// The file.
        path: String,
        /// Its length in bytes.
        size: u64,
    },
    /// A file of it cannot be read.
    #[error("cannot read {path}")]
    Content {
        /// The file.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// A file of it cannot be stored.
    #[error("cannot keep {path}")]
    File {
        /// The file.
        path: String,
        /// Why not.
        source: StoreError,
    },
    /// What was read cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl InputError {
    /// The error of storing the file at `path`.
    pub(super) fn content(path: &[u8], error: WriteError) -> Self {
        match error {
            WriteError::Read(source) => match source.downcast::<TarError>() {
                Ok(error) => error.into(),
                Err(source) => Self::Content { path: display(path), source },
            },
            WriteError::Store(source) => Self::File { path: display(path), source },
        }
    }
}

impl From<TarError> for InputError {
    fn from(error: TarError) -> Self {
        match error {
            TarError::Io(error) => match error.downcast::<TarError>() {
                Ok(error) => error.into(),
                Err(error) => Self::Io(error),
            },
            error => Self::Format(error.to_string()),
        }
    }
}
