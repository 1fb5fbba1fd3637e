//! Release manifests: what is accepted is written and read again as the same release.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upright_fuzz::in_proportion;
use upright_manifests::release::Release;

fuzz_target!(|bytes: &[u8]| {
    in_proportion(bytes, 100, || {
        if let Ok(release) = Release::parse(bytes) {
            let written = release.to_bytes().map(|bytes| Release::parse(&bytes));
            assert_eq!(written, Ok(Ok(release)));
        }
    });
});
