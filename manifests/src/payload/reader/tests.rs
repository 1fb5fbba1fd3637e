//! What a host relies on: a head that parses covers its image, a frame that unpacks is the published one.

use proptest::prelude::*;

use super::*;

fn sample() -> (Head, Vec<Vec<u8>>) {
    let images: Vec<Vec<u8>> = vec![vec![7; 3 * 4096], (0..4096u32).map(|n| ((n * n) >> 3) as u8).collect()];
    let packed: Vec<Vec<u8>> = images.iter().map(|image| zstd::bulk::compress(image, 3).unwrap()).collect();
    let mut offset = head_bytes(2) as u64;
    let mut start = 0;
    let mut frames = Vec::new();
    for (image, packed) in images.iter().zip(&packed) {
        let blocks = (image.len() / 4096) as u32;
        frames.push(Frame { offset, packed: packed.len() as u32, start, blocks, sha256: Digest::of(packed) });
        offset += packed.len() as u64;
        start += u64::from(blocks);
    }
    (Head { blocks: start, frames }, packed)
}

#[test]
fn a_head_round_trips_and_its_file_is_plain_zstd() {
    let (head, packed) = sample();
    let mut file = head.to_bytes();
    assert_eq!(file.len(), head_bytes(2));
    assert_eq!(Head::parse(&file), Ok(head.clone()));
    file.extend(packed.concat());
    assert_eq!(head.file_size(), file.len() as u64);
    let image = zstd::stream::decode_all(&file[..]).unwrap();
    assert_eq!(image.len() as u64, head.image_size());
    assert_eq!((head.frame_of(2), head.frame_of(3), head.frame_of(4)), (Some(0), Some(1), None));
}

#[test]
fn a_frame_is_checked_before_it_is_decompressed() {
    let (head, packed) = sample();
    let mut unpacker = Unpacker::new().unwrap();
    assert_eq!(unpacker.unpack(&head.frames[0], &packed[0]).unwrap(), &[7; 3 * 4096]);
    let mut damaged = packed[0].clone();
    damaged[3] ^= 1;
    assert!(matches!(unpacker.unpack(&head.frames[0], &damaged), Err(FrameError::Hash { .. })));
    assert!(matches!(unpacker.unpack(&head.frames[1], &packed[0]), Err(FrameError::Hash { .. })));
    let mut longer = head.frames[0].clone();
    longer.blocks = 4;
    assert!(matches!(unpacker.unpack(&longer, &packed[0]), Err(FrameError::Content { .. })));
    let mut shorter = head.frames[0].clone();
    shorter.blocks = 2;
    assert!(matches!(unpacker.unpack(&shorter, &packed[0]), Err(FrameError::Content { .. })));
}

#[test]
fn heads_that_cannot_be_are_refused() {
    let (head, _) = sample();
    let broken = |change: fn(&mut Head)| {
        let mut head = head.clone();
        change(&mut head);
        Head::parse(&head.to_bytes())
    };
    assert!(matches!(broken(|head| head.blocks = 5), Err(HeadError::Impossible { what: "end", .. })));
    assert!(broken(|head| head.blocks = MAX_BLOCKS + 1).is_err());
    assert!(broken(|head| head.frames[0].blocks = 0).is_err());
    assert!(broken(|head| head.frames[0].blocks = MAX_FRAME_BLOCKS + 1).is_err());
    assert!(broken(|head| head.frames[0].packed = 0).is_err());
    assert!(broken(|head| head.frames[0].packed = u32::MAX).is_err());
    let mut newer = head.to_bytes();
    newer[16] = 2;
    assert_eq!(Head::parse(&newer), Err(HeadError::Version(2)));
}

proptest! {
    #[test]
    fn hostile_heads_never_panic(at in 0usize..112, byte: u8, cut in 0usize..112) {
        let mut bytes = sample().0.to_bytes();
        bytes[at] = byte;
        if let Ok(head) = Head::parse(&bytes) {
            prop_assert_eq!(head.frames.iter().map(|frame| u64::from(frame.blocks)).sum::<u64>(), head.blocks);
        }
        prop_assert!(Head::parse(&bytes[..cut]).is_err());
    }
}
