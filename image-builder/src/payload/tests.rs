//! What readers rely on.

use std::io::Read;
use std::os::unix::fs::FileExt;

use upright_manifests::digest::Digest;
use upright_manifests::payload::{Head, Unpacker};

use super::*;
use crate::erofs::Run;

#[test]
fn a_payload_unpacks_to_its_image_frame_by_frame_and_as_a_whole() {
    let blocks = 300u32;
    let image: Vec<u8> = (0..blocks * 1024).flat_map(|n| (n / 700 * n % 977).to_le_bytes()).collect();
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&image, 0).unwrap();
    let options = Options { level: 3, frame_blocks: 64 };
    let make = || {
        let mut out = tempfile::tempfile().unwrap();
        let (parted, head) =
            encode(&file, &[Run { start: 70, blocks: 20 }], &options, &out, &|_| {}).unwrap();
        let mut bytes = Vec::new();
        std::io::Seek::rewind(&mut out).unwrap();
        out.read_to_end(&mut bytes).unwrap();
        (parted, head, bytes)
    };
    let (parted, head, bytes) = make();
    assert_eq!((bytes.len() as u64, Digest::of(&bytes)), (parted.size, parted.sha256));
    let front = &bytes[..parted.head_size as usize];
    assert_eq!(Digest::of(front), parted.head_sha256);
    assert_eq!(Head::parse(front), Ok(head.clone()));
    assert_eq!(head.file_size(), parted.size);
    let mut unpacker = Unpacker::new().unwrap();
    for frame in &head.frames {
        let packed = &bytes[frame.range().start as usize..frame.range().end as usize];
        let from = frame.start as usize * 4096;
        let [far, near] = frame.prefix_ranges().map(|range| &image[range.start as usize..range.end as usize]);
        let prefix = [far, near].concat();
        assert!(unpacker.unpack(frame, packed, &prefix).unwrap() == &image[from..from + frame.unpacked()]);
    }
    assert!(head.frames.iter().any(|frame| (frame.start, frame.blocks) == (70, 20)));
    assert!(make().2 == bytes, "equal input gives equal bytes");
}

#[test]
fn an_image_of_broken_blocks_is_refused() {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&[1; 4097], 0).unwrap();
    let refused = encode(&file, &[], &Options::default(), &tempfile::tempfile().unwrap(), &|_| {});
    assert!(matches!(refused, Err(PayloadError::Size(4097))));
}
