//! The repository and the workspace it is published from: building, publishing, auditing, serving.
//!
//! What is decided here is decided as a value first (`publish::plan`), and carried out through [`files::Files`], so
//! that a publish can be cut off at any of its steps in a test. The commands' texts and flags are `cli`'s.

pub mod build;
pub mod ceremony;
pub mod check;
mod clock;
pub mod config;
pub mod copy;
pub mod diff;
pub mod error;
pub mod expiry;
pub mod files;
pub mod init;
pub mod install;
pub mod list;
pub mod metadata;
pub mod progress;
pub mod publish;
pub mod published;
pub mod refresh;
pub mod rotate;
pub mod serve;
pub mod signers;
mod sweep;
pub mod workspace;

pub use error::{Class, Error, Result};
