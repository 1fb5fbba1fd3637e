//! Why a command did not do what it was asked to.

use std::io;
use std::path::{Path, PathBuf};

/// What kind of failure an error is; the command line has an exit code for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Something outside failed: a disk, a network, a program. Trying again may help.
    Failed,
    /// What was given cannot be used; trying again will not help.
    Refused,
    /// Something is not what was signed or recorded.
    Unverified,
    /// Another command works in the same workspace.
    Busy,
}

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried, such as `read`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A part of the builder failed; the message is whole.
    #[error("{0}")]
    Failed(String),
    /// The input or the request cannot be used; the message says what, why and what to do.
    #[error("{0}")]
    Refused(String),
    /// Something is not what was signed or recorded; the message is whole.
    #[error("{0}")]
    Unverified(String),
    /// The workspace is locked.
    #[error("another command works in {0}; wait for it to end and run this one again")]
    Busy(PathBuf),
}

/// The result of what a command does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Makes a file operation's error, for `map_err`.
    pub fn file<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Self + 'a {
        move |source| Self::File { action, path: path.to_owned(), source }
    }

    /// A refusal; the message says what, why and what to do.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::Refused(message.into())
    }

    /// What kind of failure this is.
    pub fn class(&self) -> Class {
        match self {
            Self::File { .. } | Self::Failed(_) => Class::Failed,
            Self::Refused(_) => Class::Refused,
            Self::Unverified(_) => Class::Unverified,
            Self::Busy(_) => Class::Busy,
        }
    }
}

/// An error and what caused it in one line, each cause once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some messages hold that of their source already.
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text.replace('\n', "; ")
}
