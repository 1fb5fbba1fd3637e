//! Exit codes, the same for every command. `docs/cli.md` lists them.

use std::process::ExitCode;

use crate::repo;

/// How a command ended. The numbers never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or nothing to do.
    Ok = 0,
    /// Something outside failed: a disk, a network, a program. Trying again may help.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// What was given cannot be used, or a rule forbids it. Trying again will not help.
    Refused = 3,
    /// Something is not what was signed or recorded.
    Unverified = 4,
    /// Another command works in the same workspace.
    Busy = 5,
}

impl Exit {
    /// The code for an error that a command ended with.
    pub fn of(error: &anyhow::Error) -> Self {
        match error.downcast_ref::<repo::Error>().map(repo::Error::class) {
            Some(repo::Class::Refused) => Self::Refused,
            Some(repo::Class::Unverified) => Self::Unverified,
            Some(repo::Class::Busy) => Self::Busy,
            Some(repo::Class::Failed) | None => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
