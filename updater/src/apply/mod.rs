//! Writes a release into the inactive slot: delta, chunks or full, resumable, read back and compared.
//!
//! What any way wrote counts for nothing until the slot was read back and its dm-verity root hash compared with the signed one.
//! Until then neither partition can be found by its UUID: the first block of the image is kept aside, and the hash tree's
//! superblock does not exist.
//!
//! | file | holds |
//! |---|---|
//! | `install` | the whole: ways until one leads there, the read-back, the UKI |
//! | `ways` | which ways there are, cheapest first: a pure plan |
//! | `preflight` | whether the release fits, before anything is erased |
//! | `full`, `chunks`, `delta` | one way each |
//! | `hints` | which blocks a slot holds, as its hash tree says or as reading it tells |
//! | `target`, `first` | the root partition being written, and the block that is written last |
//! | `readback`, `tree` | reading back the image, and the hash tree that is made meanwhile |
//! | `repair` | mending a slot block by block |
//! | `audit` | comparing a slot with its hash tree at any later time |
//! | `uki` | composing, staging and comparing the UKI |

mod audit;
mod chunks;
mod delta;
mod error;
mod first;
mod foresee;
mod full;
mod hints;
mod install;
mod preflight;
mod readback;
mod repair;
mod target;
mod tree;
mod uki;
mod ways;

pub use audit::{Audit, MOST as MOST_DAMAGED, Unreadable, audit, files_in};
pub use error::{ApplyError, WayError};
pub use foresee::{at_hand, foresee};
pub use install::{Job, install};
pub use preflight::{Room, check_signer, preflight, require_room_for_entry};
pub use readback::{Partitions, root_hash_of};
pub use repair::{Damage, Frames, Mended, Mending, Patient, layout, look, superblock_of};
pub use tree::check_tree;
pub use uki::{compare_staged, digest_of, rehearse, stage};
pub use ways::{Allowance, Way, WayPlan, ways};

#[cfg(test)]
mod tests;
