//! What a host relies on: whatever happens on the line, on the disk and to the power, the slot ends up holding exactly what was
//! signed, or an error says why not, and nobody can find half a release.

use super::*;
use crate::fetch::fake::Trouble;
use crate::machine::Progress;
use crate::slot::fake::Fault;
use world::{BLOCKS, World, room, size, tree_of};

mod faults;
mod interrupted;
mod repair;
mod ways;
mod world;

/// What is not to be had, for each way to be the one that is taken.
const WAYS: [&[&str]; 3] = [&[], &["delta"], &["delta", "chunks"]];
