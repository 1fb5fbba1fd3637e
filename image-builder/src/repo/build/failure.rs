//! Whether what went wrong in a build is the input's fault.

use crate::erofs::WriteError;
use crate::input::{InputError, ReadError};
use crate::repo::error::{Error, chain};
use crate::tree::StoreError;
use crate::uki::UkiError;

/// The store's failures, which are the disk's but for trees that cannot be.
pub(super) fn store(error: StoreError) -> Error {
    match error {
        StoreError::Tree(_) => Error::Refused(chain(&error)),
        _ => Error::Failed(chain(&error)),
    }
}

/// An input that cannot be read is refused, unless the store is what failed.
pub(super) fn read(error: ReadError) -> Error {
    match error.reason {
        InputError::File { source: StoreError::Xattr { .. }, .. } => Error::Refused(chain(&error)),
        InputError::Build(_) | InputError::Format(_) => {
            Error::Refused(format!("{}; nothing was built: mend the input or leave that out", chain(&error)))
        }
        InputError::Store(_) | InputError::File { .. } => Error::Failed(chain(&error)),
        InputError::NotSigned(_) => Error::Unverified(format!(
            "{}; see who made it, or give the key of who did with --verify-key",
            chain(&error)
        )),
        _ => Error::Refused(chain(&error)),
    }
}

/// A tree that fits no image is refused.
pub(super) fn image(error: WriteError) -> Error {
    match error {
        WriteError::Content { .. } | WriteError::Image(_) => Error::Failed(chain(&error)),
        WriteError::Changed { .. } => Error::Unverified(chain(&error)),
        _ => Error::Refused(chain(&error)),
    }
}

/// A tree that cannot boot is refused.
pub(super) fn uki(error: UkiError) -> Error {
    match error {
        UkiError::NoKernel
        | UkiError::NotThisKernel { .. }
        | UkiError::NoInitrd { .. }
        | UkiError::Empty { .. }
        | UkiError::NotEfi { .. }
        | UkiError::OtherMachine { .. }
        | UkiError::OtherOs { .. }
        | UkiError::OsRelease { .. } => Error::Refused(chain(&error)),
        _ => Error::Failed(chain(&error)),
    }
}
