//! Channel files: what is accepted is written and read again as the same channel.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upright_fuzz::in_proportion;
use upright_manifests::channel::Channel;

fuzz_target!(|bytes: &[u8]| {
    in_proportion(bytes, 100, || {
        if let Ok(channel) = Channel::parse(bytes) {
            let written = channel.to_bytes().map(|bytes| Channel::parse(&bytes));
            assert_eq!(written, Ok(Ok(channel)));
        }
    });
});
