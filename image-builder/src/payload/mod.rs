//! Encodes an image as a full payload: zstd frames behind a frame table.
//!
//! Frames are what a host fetches when it has parts of an image already, so they are cut where the caller says that what is new
//! begins and ends, and are long everywhere else. Each may refer to blocks before its own, which a host has by then.

mod encode;
mod far;
mod parts;

pub use encode::{Former, Options, PayloadError, encode};
pub(crate) use parts::PartWriter;
pub use parts::Parted;

#[cfg(test)]
mod tests;
