//! Builds: from an input to a tree, an image and a UKI, in a folder a version.

mod record;

pub use record::{Build, FORMAT, IMAGE, Image, LAYOUT, RECORD, UKI, UkiFile, UkiPart};
