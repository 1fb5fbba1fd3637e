//! Writes EROFS images, deterministic to the byte, with a layout that follows the previous release.

mod layout;

pub use layout::{FileRun, Layout, Run};
