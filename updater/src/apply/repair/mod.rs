//! Mends a slot block by block: what does not verify is written anew, with what the root hash says was there.
//!
//! | file | holds |
//! |---|---|
//! | `layout` | salt and size of a slot's tree, also where its superblock is damaged |
//! | `forgiving` | a partition of which some blocks cannot be read |
//! | `survey` | what differs between the image and its tree |
//! | `leaves` | what each block should hash to: proven by the root hash before anything is written |
//! | `damage` | which blocks are wanted, and where they can be had: the plan |
//! | `gather` | getting them, out of the other slot or of frames of the full payload |
//! | `write` | writing blocks and tree, each as soon as it is proven, and read back after |
//!
//! No block is written that does not hash to a leaf of a tree whose root is the one that was signed. A slot that runs is
//! mended like any other: what it reads can only become what it should be ([why](../../../../docs/design/0013-mending-a-slot.md)).

mod damage;
mod forgiving;
mod gather;
mod layout;
mod leaves;
mod survey;
mod write;

use std::collections::BTreeMap;

use upright_manifests::verity::{BLOCK, VerityParams};

pub use damage::{Damage, Frames, look};
pub(super) use forgiving::Forgiving;
pub use layout::{layout, superblock_of};
pub use write::{Mended, Mending};

use super::readback::Partitions;

/// Blocks by their number.
type Blocks = BTreeMap<u64, Box<[u8; BLOCK]>>;

/// A slot to mend, and where blocks may be found.
#[derive(Clone, Copy)]
pub struct Patient<'a> {
    /// The slot.
    pub slot: Partitions<'a>,
    /// The other one.
    pub other: Option<Partitions<'a>>,
    /// The tree that the slot should have.
    pub params: &'a VerityParams,
}
