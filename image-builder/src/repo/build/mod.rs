//! Builds: from an input to a tree, an image and a UKI, in a folder a version.

mod advice;
mod failure;
pub mod layout;
mod make;
mod record;
mod state;
mod trust;

pub use make::{Base, Made, Order, build};
pub use record::{Build, FORMAT, IMAGE, Image, LAYOUT, RECORD, UKI, UKI_LINES, UkiFile, UkiPart};
