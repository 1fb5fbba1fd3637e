//! Everything that comes over the network: HTTP, TUF metadata, manifests, and the parts of payloads.
//!
//! | file | holds |
//! |---|---|
//! | `address` | from a repository's address to a [`Remote`](crate::host::Remote) |
//! | `http` | the repository behind a server; `answer` judges what it says, `names` resolves its name, `pace` notices a trickle |
//! | `folder` | the repository in a folder |
//! | `medium` | what was exported to a medium that someone brings along: a folder or a file |
//! | `download` | parts of files, fetched ahead, over a line that may drop; `backoff` says how long to wait |
//! | `session` | TUF metadata and the documents it vouches for |

mod address;
mod answer;
mod backoff;
mod download;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod folder;
mod http;
mod medium;
mod names;
mod pace;
mod session;

pub use address::{AddressError, HttpRemote};
pub use backoff::{Backoff, Patience};
pub use download::{Fetcher, Parts};
pub use error::FetchError;
pub use http::status_of;
pub use medium::{Medium, MediumError};
pub use session::{Session, check_shipped, check_stored, known_manifest};

/// How much of the body that follows such an answer would be taken, for the fuzz targets.
#[cfg(fuzzing)]
pub(crate) fn judge(
    status: u16,
    content_range: Option<&str>,
    content_length: Option<u64>,
    content_encoding: Option<&str>,
    range: &std::ops::Range<u64>,
) -> Option<u64> {
    let answer = answer::Answer { status, content_range, content_length, content_encoding };
    match answer.judge(range) {
        answer::Verdict::Body { exact } => Some(exact.unwrap_or(range.end - range.start)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
