//! Deltas of a publisher who makes mistakes: the hashes hold, the content does not.
#![no_main]

use std::io::{self, Write};

use libfuzzer_sys::fuzz_target;
use upright_manifests::delta::{Applier, Head, Input, Kind, MAX_MEMORY, Segment, Source, Sources};
use upright_manifests::digest::Digest;

const TARGET: u32 = 100_000;
const BASE: u64 = 1 << 20;

struct Noise;

impl Sources for Noise {
    fn read_at(&self, _: Source, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        for (at, byte) in (offset..).zip(buffer) {
            *byte = (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
        }
        Ok(())
    }
}

/// Counts, and fails past the end of the target.
struct Target(u32);

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += u32::try_from(bytes.len()).expect("a write as large as memory");
        assert!(self.0 <= TARGET, "more than the segment makes");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(head) = Head::parse(bytes) {
        assert_eq!(Head::parse(&head.to_bytes()), Ok(head));
    }
    let head = Head {
        kind: Kind::Root,
        memory: MAX_MEMORY,
        target_size: u64::from(TARGET),
        target_id: Digest::of(b"target"),
        inputs: vec![Input { source: Source::Base, size: BASE, id: Digest::of(b"base") }],
        segments: vec![Segment {
            offset: 0,
            packed: bytes.len() as u32,
            start: 0,
            length: TARGET,
            sha256: Digest::of(bytes),
        }],
    };
    let mut target = Target(0);
    if Applier::new(&head, &Noise).apply(0, bytes, &mut target).is_ok() {
        assert_eq!(target.0, TARGET);
    }
});
