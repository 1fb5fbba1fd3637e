//! Headers of EFI programs, as an ESP that anyone may have written to holds them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upright_fuzz::in_proportion;
use upright_manifests::pe::{Headers, MAX_SECTIONS, argument};

fuzz_target!(|bytes: &[u8]| {
    in_proportion(bytes, 4, || {
        if let Ok(headers) = Headers::parse(bytes) {
            assert!(headers.sections.len() <= usize::from(MAX_SECTIONS));
            for section in &headers.sections {
                let (offset, length) = section.content();
                assert!(offset.checked_add(length).is_some());
            }
            for name in [".osrel", ".cmdline"] {
                let _ = headers.section(name);
            }
        }
        if let Ok(line) = std::str::from_utf8(bytes) {
            let _ = argument(line, "upright.os");
        }
    });
});
