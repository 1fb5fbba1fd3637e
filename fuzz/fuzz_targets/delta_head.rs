//! Heads of deltas: what they accept covers the target once, and lies in the file without gaps.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upright_fuzz::in_proportion;
use upright_manifests::delta::{Head, MAX_MEMORY};

fuzz_target!(|bytes: &[u8]| {
    in_proportion(bytes, 20, || {
        let Ok(head) = Head::parse(bytes) else { return };
        assert!(head.memory <= MAX_MEMORY);
        assert_eq!(Head::parse(&head.to_bytes()).as_ref(), Ok(&head));
        let mut offset = bytes.len() as u64;
        for segment in &head.segments {
            assert_eq!(segment.range().start, offset);
            offset = segment.range().end;
        }
        assert_eq!(head.file_size(), offset);
        let made: u64 = head.segments.iter().map(|segment| u64::from(segment.length)).sum();
        assert_eq!(made, head.target_size);
    });
});
