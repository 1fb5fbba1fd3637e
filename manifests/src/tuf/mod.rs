//! The Update Framework 1.0 (theupdateframework.github.io/specification): documents, and the client's
//! workflow as a pure state machine.
//!
//! | file | holds |
//! |---|---|
//! | `schema` | the four kinds of document |
//! | `document` | a document with its signatures, and the bytes they cover |
//! | `names` | file names, target paths and the patterns that delegate them |
//! | `root` | what makes a root one that can be trusted, and one that leads on to another |
//! | `trusted` | the checks between one document and the next (sections 5.3 to 5.6) |
//! | `seen` | the versions that a host remembers beside its documents |
//! | `client` | the order of the steps: what to fetch, what to keep |
//! | `search` | which delegated role speaks for a target (section 5.6.7) |
//! | `client/walk` | all delegated roles, for who publishes or audits |
//! | `error` | why a document is refused |

pub mod client;
pub mod document;
pub mod error;
pub mod names;
mod root;
pub mod schema;
mod search;
mod seen;
#[cfg(test)]
mod tests;
mod trusted;

pub use client::{Answer, Client, Delegated, Fetch, Need, Outside, RoleStatus, Stored, Target};
pub use document::{Document, Summary};
pub use error::{Kind, Problem, TufError, refresh_command};
pub use seen::Seen;

/// The most that is fetched of each kind of document, in bytes, when no signed length says less.
pub mod limits {
    /// A root document.
    pub const ROOT: u64 = 512 << 10;
    /// The timestamp.
    pub const TIMESTAMP: u64 = 16 << 10;
    /// A snapshot.
    pub const SNAPSHOT: u64 = 2 << 20;
    /// Targets, top-level or delegated.
    pub const TARGETS: u64 = 8 << 20;
    /// How many new roots are followed in one refresh.
    pub const ROOTS: u32 = 256;
    /// How many delegated roles are visited in one search.
    pub const DELEGATIONS: usize = 32;
    /// How many delegated roles are visited when all of them are wanted.
    pub const ROLES: usize = 1024;
    /// How many bytes their documents have in all, before no more are fetched.
    pub const DELEGATED: u64 = 256 << 20;
    /// How many versions of listed documents a host remembers beside the documents themselves.
    pub const SEEN: usize = 128;
    /// The highest version of a document, which no other may follow.
    pub const VERSION: u64 = (1 << 53) - 1;
    /// The longest name of a delegated role, in bytes, after escaping; it becomes a file name.
    pub const ROLE_NAME: usize = 200;
}
