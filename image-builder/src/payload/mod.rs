//! Encodes an image as a full payload: independent zstd frames behind a frame table.
//!
//! Frames are what a host fetches when it has parts of an image already, so they are cut where the caller says that what is new
//! begins and ends, and are long everywhere else.

mod encode;
mod parts;

pub use encode::{Options, PayloadError, encode};
pub(crate) use parts::PartWriter;
pub use parts::Parted;

#[cfg(test)]
mod tests;
