//! Archives of root file systems and layers of container images, and the tree that is made of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upright_fuzz::in_proportion;
use upright_image_builder::input::fuzzing::tar;

fuzz_target!(|bytes: &[u8]| {
    in_proportion(bytes, 100, || tar(bytes));
});
