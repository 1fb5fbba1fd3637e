//! Every byte format and signed document of Upright: bytes in, values out.
//!
//! Nothing in this crate touches a file, a socket, a clock or a process: time, seeds and bytes are
//! arguments. What comes from outside is bounded before it is allocated and never panics.

pub mod aligned;
pub mod archive;
pub mod bls;
pub mod boot;
pub mod bytes;
pub mod channel;
pub mod chunks;
pub mod delta;
pub mod digest;
pub mod erofs;
pub mod name;
pub mod partial;
pub mod payload;
pub mod pe;
pub mod release;
pub mod size;
pub mod state;
pub mod tuf;
pub mod uuid;
pub mod verity;
pub mod version;
mod wire;

/// Size in bytes of the block every image, slot and format here is made of.
pub const BLOCK_SIZE: u64 = 4096;
