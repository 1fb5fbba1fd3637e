//! What readers rely on.

use std::io::Read;
use std::os::unix::fs::FileExt;

use upright_manifests::digest::Digest;
use upright_manifests::payload::{Frame, Head, Unpacker};

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
            encode(&file, &[], &[Run { start: 70, blocks: 20 }], None, &options, &out, &|_| {}).unwrap();
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
    let refused = encode(&file, &[], &[], None, &Options::default(), &tempfile::tempfile().unwrap(), &|_| {});
    assert!(matches!(refused, Err(PayloadError::Size(4097))));
}

#[test]
fn frames_that_stand_in_a_former_payload_are_taken_from_there() {
    let blocks = 300usize;
    let mut image: Vec<u8> =
        (0..blocks as u32 * 1024).flat_map(|n| (n.wrapping_mul(n) >> 7).to_le_bytes()).collect();
    let options = Options { level: 3, frame_blocks: 20 };
    let make = |image: &[u8], fresh: &[Run], former: Option<&Former<'_>>| {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(image, 0).unwrap();
        let leaves: Vec<_> = image.chunks(4096).map(|block| *Digest::of(block).as_bytes()).collect();
        let out = tempfile::tempfile().unwrap();
        let (_, head) = encode(&file, &leaves, fresh, former, &options, &out, &|_| {}).unwrap();
        (out, head, leaves)
    };
    let (file, head, leaves) = make(&image, &[], None);
    let former = Former { file: &file, head: head.clone(), leaves: &leaves };
    let (_, again, _) = make(&image, &[], Some(&former));
    assert_eq!(again, head);
    image[150 * 4096] ^= 1;
    let (_, changed, _) = make(&image, &[Run { start: 150, blocks: 1 }], Some(&former));
    let old = |frame: &Frame| head.frames.iter().any(|old| old.sha256 == frame.sha256);
    for frame in &changed.frames {
        let [far, near] = frame.prefix_ranges();
        let touched = |range: &std::ops::Range<u64>| range.contains(&(150 * 4096));
        let own = (140..160).contains(&frame.start);
        assert_eq!(old(frame), !own && !touched(&far) && !touched(&near), "{frame:?}");
    }
    assert!(changed.frames.iter().filter(|frame| old(frame)).count() > 8);
}
