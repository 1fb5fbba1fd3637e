//! Writes a release into the inactive slot: delta, chunks or full, resumable, read back and compared.
//!
//! All ways fill the root partition front to back, so that how far the writing got is one number whatever
//! the way: another way can go on where one failed, and a restart where a power cut stopped it. What any of them
//! wrote counts for nothing until the slot was read back and its dm-verity root hash compared with the signed one.

mod chunks;
mod delta;
mod error;
mod full;
mod install;
mod preflight;
mod readback;
mod target;
mod uki;
mod ways;

pub use error::{ApplyError, WayError};
pub use install::{Job, install};
pub use preflight::{Room, preflight};
pub use readback::{Partitions, root_hash_of, verify};
pub use uki::{compare_staged, stage};
pub use ways::{Way, WayPlan, ways};
