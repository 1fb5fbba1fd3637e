//! The export file: a repository, or a part of one, as a plain tar.
//!
//! Members have the repository's own paths, so that `tar` unpacks one to what a web server can serve, and a host reads
//! ranges of a member where it lies. Nothing is compressed: what is large is compressed already. Nothing here is proof: what a
//! member holds is checked against the signed metadata like what a server sends.

mod format;
mod reader;
mod writer;

pub use format::{MAX_MEMBERS, MAX_PATH, RECORD};
pub use reader::{ArchiveError, Contents, read};
pub use writer::{END, head, padding};

#[cfg(test)]
mod tests;
