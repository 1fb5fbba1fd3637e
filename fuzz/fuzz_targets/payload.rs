//! Full payloads and chunk indexes: heads, frames, and the plan that is made of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upright_fuzz::{in_proportion, within};
use upright_manifests::BLOCK_SIZE;
use upright_manifests::chunks::{Index, plan};
use upright_manifests::digest::Digest;
use upright_manifests::payload::{Frame, Head, Prefix, Unpacker};

/// What unpacking a frame may take: what it holds at most, and a decoder.
const UNPACKING: usize = 5 << 20;

fuzz_target!(|bytes: &[u8]| {
    in_proportion(bytes, 20, || {
        let head = Head::parse(bytes);
        if let Ok(head) = &head {
            for block in [0, 1, head.blocks / 2, head.blocks.saturating_sub(1), u64::MAX] {
                assert_eq!(head.frame_of(block).is_some(), block < head.blocks);
            }
            assert!(head.file_size() >= bytes.len() as u64);
        }
        if let Ok(index) = Index::parse(bytes) {
            assert_eq!(Index::parse(&index.to_bytes()), Ok(index));
        }
    });
    if let Some((input, head)) = upright_fuzz::split(bytes)
        && let (Ok(index), Ok(head)) = (Index::parse(input), Head::parse(head))
    {
        let _ = in_proportion(bytes, 100, || plan(&index, &head, &vec![None; index.chunks.len()]));
    }
    within(UNPACKING, || unpack(bytes));
});

/// The whole input as one frame: its hash is right, whatever it holds.
fn unpack(bytes: &[u8]) {
    let Some(([blocks, near], packed)) = bytes.split_first_chunk() else { return };
    let near = u32::from(*near) % 16;
    let frame = Frame {
        offset: 0,
        packed: u32::try_from(packed.len()).unwrap_or(u32::MAX),
        start: 16,
        blocks: u32::from(*blocks) % 16 + 1,
        prefix: Prefix { far_start: 0, far: 0, near },
        sha256: Digest::of(packed),
    };
    let Ok(mut unpacker) = Unpacker::new() else { return };
    let prefix = vec![7; frame.prefix.bytes()];
    if let Ok(image) = unpacker.unpack(&frame, packed, &prefix) {
        assert_eq!(image.len() as u64, u64::from(frame.blocks) * BLOCK_SIZE);
    }
}
