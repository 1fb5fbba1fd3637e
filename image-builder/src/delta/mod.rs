//! Finds the difference between two images, file by file, and writes it as a delta.
//!
//! The layouts of both images say which blocks belong to which file. What did not change is copied, a file that changed
//! is described in terms of the file it came from, and what is new is brought along; everything is cut into segments that a host
//! applies one by one. [`compose`] makes the delta that builds a UKI out of the root image that holds its parts.

mod compose;
mod edit;
mod effort;
mod encode;
mod file;
mod inner;
mod matching;
mod old;
mod pairing;
mod pieces;
mod segments;
mod similar;
mod suffixes;

pub use compose::{Part, compose};
pub use encode::{DeltaError, Options, Side, Stats, encode};

#[cfg(test)]
mod tests;
