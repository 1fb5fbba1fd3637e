//! What a host relies on: a head that parses covers its image, a frame that unpacks is the published one.

use proptest::prelude::*;

use super::*;

fn sample() -> (Head, Vec<Vec<u8>>) {
    let images: Vec<Vec<u8>> = vec![vec![7; 3 * 4096], (0..4096u32).map(|n| ((n * n) >> 3) as u8).collect()];
    let prefix = Prefix { far_start: 1, far: 1, near: 1 };
    let mut with_prefix = zstd::zstd_safe::CCtx::create();
    with_prefix.ref_prefix(&images[0][4096..]).unwrap();
    let mut second = Vec::with_capacity(8192);
    with_prefix.compress2(&mut second, &images[1]).unwrap();
    let packed = vec![zstd::bulk::compress(&images[0], 3).unwrap(), second];
    let mut offset = head_bytes(2) as u64;
    let mut start = 0;
    let mut frames = Vec::new();
    for (image, packed) in images.iter().zip(&packed) {
        let blocks = (image.len() / 4096) as u32;
        let prefix = if start == 0 { Prefix::default() } else { prefix };
        let sha256 = Digest::of(packed);
        frames.push(Frame { offset, packed: packed.len() as u32, start, blocks, prefix, sha256 });
        offset += packed.len() as u64;
        start += u64::from(blocks);
    }
    (Head { blocks: start, frames }, packed)
}

#[test]
fn a_head_round_trips() {
    let (head, packed) = sample();
    let mut file = head.to_bytes();
    assert_eq!(file.len(), head_bytes(2));
    assert_eq!(Head::parse(&file), Ok(head.clone()));
    file.extend(packed.concat());
    assert_eq!(head.file_size(), file.len() as u64);
    assert_eq!(head.image_size(), 4 * 4096);
    assert_eq!((head.frame_of(2), head.frame_of(3), head.frame_of(4)), (Some(0), Some(1), None));
}

#[test]
fn a_frame_is_checked_before_it_is_decompressed() {
    let (head, packed) = sample();
    let mut unpacker = Unpacker::new().unwrap();
    assert_eq!(unpacker.unpack(&head.frames[0], &packed[0], &[]).unwrap(), &[7; 3 * 4096]);
    let second = unpacker.unpack(&head.frames[1], &packed[1], &[7; 2 * 4096]).unwrap();
    assert_eq!(second[..64], (0..64u32).map(|n| ((n * n) >> 3) as u8).collect::<Vec<_>>());
    let short = unpacker.unpack(&head.frames[1], &packed[1], &[7; 4096]);
    assert!(matches!(short, Err(FrameError::Content { .. })));
    let mut damaged = packed[0].clone();
    damaged[3] ^= 1;
    assert!(matches!(unpacker.unpack(&head.frames[0], &damaged, &[]), Err(FrameError::Hash { .. })));
    assert!(matches!(
        unpacker.unpack(&head.frames[1], &packed[0], &[7; 2 * 4096]),
        Err(FrameError::Hash { .. })
    ));
    let mut longer = head.frames[0].clone();
    longer.blocks = 4;
    assert!(matches!(unpacker.unpack(&longer, &packed[0], &[]), Err(FrameError::Content { .. })));
    let mut shorter = head.frames[0].clone();
    shorter.blocks = 2;
    assert!(matches!(unpacker.unpack(&shorter, &packed[0], &[]), Err(FrameError::Content { .. })));
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
    let impossible: [(fn(&mut Head), _); 5] = [
        (|head| head.blocks = MAX_BLOCKS + 1, "image size"),
        (|head| head.frames[0].blocks = 0, "number of blocks"),
        (|head| head.frames[0].blocks = MAX_FRAME_BLOCKS + 1, "number of blocks"),
        (|head| head.frames[0].packed = 0, "compressed length"),
        (|head| head.frames[0].packed = u32::MAX, "compressed length"),
    ];
    for (change, what) in impossible {
        assert_eq!(broken(change), Err(HeadError::Impossible { what, frame: 0 }));
    }
    let wrong: [fn(&mut Prefix); 4] = [
        |prefix| prefix.near = 4,
        |prefix| prefix.far = 2,
        |prefix| prefix.far_start = 2,
        |prefix| prefix.far_start = u32::MAX,
    ];
    for change in wrong {
        let mut head = head.clone();
        change(&mut head.frames[1].prefix);
        let found = Head::parse(&head.to_bytes());
        assert!(matches!(found, Err(HeadError::Impossible { what: "prefix", frame: 1 })), "{found:?}");
    }
    let mut newer = head.to_bytes();
    newer[16] = 2;
    assert_eq!(Head::parse(&newer), Err(HeadError::Version(2)));
}

proptest! {
    #[test]
    fn hostile_heads_never_panic(at in 0usize..136, byte: u8, cut in 0usize..136) {
        let mut bytes = sample().0.to_bytes();
        bytes[at] = byte;
        if let Ok(head) = Head::parse(&bytes) {
            prop_assert_eq!(head.frames.iter().map(|frame| u64::from(frame.blocks)).sum::<u64>(), head.blocks);
        }
        prop_assert!(Head::parse(&bytes[..cut]).is_err());
    }
}
