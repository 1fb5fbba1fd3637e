//! Segments of deltas: whatever they hold, they make exactly what the head says or fail, in the memory that is promised.
#![no_main]

use std::io::{self, Write};

use libfuzzer_sys::fuzz_target;
use upright_fuzz::within;
use upright_manifests::delta::{Applier, Head, Input, Kind, MAX_MEMORY, Output, Segment, Source, Sources};
use upright_manifests::digest::Digest;

const SOURCE: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Some((shape, packed)) = bytes.split_first_chunk::<4>() else { return };
    let Ok(stored) = u32::try_from(packed.len()) else { return };
    let [start, low, high, kind] = *shape;
    let length = u32::from(u16::from_le_bytes([low, high])) + 1;
    let first = Segment {
        offset: 0,
        packed: stored,
        start: u64::from(start) * 4096,
        length,
        sha256: Digest::of(packed),
    };
    let again = Segment { start: first.start + u64::from(length), ..first.clone() };
    let head = Head {
        kind: if kind & 1 == 0 { Kind::Root } else { Kind::Uki },
        memory: MAX_MEMORY,
        target_size: again.start + u64::from(length),
        target_id: Digest::of(b"target"),
        inputs: [Source::Base, Source::Root]
            .into_iter()
            .map(|source| Input { source, size: SOURCE, id: Digest::of(b"source") })
            .collect(),
        segments: vec![first, again],
    };
    // The packed segment is the caller's, and counts.
    within(MAX_MEMORY as usize - packed.len(), || {
        let sources = Repeated(packed);
        let mut applier = Applier::new(&head, &sources);
        for number in 0..head.segments.len() {
            let mut made = Count(0);
            let outcome = applier.apply(number, packed, &mut made);
            assert!(made.0 <= u64::from(length));
            if outcome.is_ok() {
                assert_eq!(made.0, u64::from(length));
            }
        }
    });
});

/// Sources that hold the segment over and over, so that it can refer to compressed content; read as block devices are.
struct Repeated<'a>(&'a [u8]);

impl Sources for Repeated<'_> {
    fn read_at(&self, _: Source, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        assert!(offset.is_multiple_of(4096) && offset + buffer.len() as u64 <= SOURCE);
        let content = self.0.iter().cycle().skip(offset as usize % self.0.len().max(1));
        buffer.iter_mut().zip(content).for_each(|(byte, of_segment)| *byte = *of_segment);
        Ok(())
    }
}

struct Count(u64);

impl Output for Count {}

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
