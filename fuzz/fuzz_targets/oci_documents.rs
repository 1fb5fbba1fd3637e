//! The documents of a container image, whose digests anyone may have made to fit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upright_fuzz::in_proportion;
use upright_image_builder::input::fuzzing::documents;

fuzz_target!(|bytes: &[u8]| {
    in_proportion(bytes, 200, || documents(bytes));
});
