//! Builds signed OS images from root file systems and publishes them with deltas.

mod anchors;
pub mod chunks;
pub mod cli;
pub mod delta;
pub mod disk;
pub mod erofs;
pub mod input;
mod parallel;
pub mod payload;
pub mod repo;
pub mod tools;
pub mod tree;
pub mod uki;
