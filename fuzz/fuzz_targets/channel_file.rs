//! Channel files, and what copies say of themselves: what is accepted is written and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upright_fuzz::in_proportion;
use upright_manifests::channel::Channel;
use upright_manifests::partial::Partial;

fuzz_target!(|bytes: &[u8]| {
    in_proportion(bytes, 100, || {
        if let Ok(channel) = Channel::parse(bytes) {
            let written = channel.to_bytes().map(|bytes| Channel::parse(&bytes));
            assert_eq!(written, Ok(Ok(channel)));
        }
        if let Ok(part) = Partial::parse(bytes) {
            let written = part.to_bytes().ok().and_then(|bytes| Partial::parse(&bytes).ok());
            assert_eq!(written, Some(part));
        }
    });
});
