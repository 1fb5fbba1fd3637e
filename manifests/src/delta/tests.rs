//! What a host relies on: a segment makes exactly what its operations say, or an error.

use std::io::{self, Write};

use proptest::prelude::*;

use crate::digest::Digest;

use super::*;

struct Images {
    base: Vec<u8>,
    root: Vec<u8>,
}

impl Sources for Images {
    fn read_at(&self, source: Source, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        assert_eq!(offset % 4096, 0);
        let image = if source == Source::Base { &self.base } else { &self.root };
        let from = image.get(offset as usize..offset as usize + buffer.len());
        buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum Op {
    Literal(Vec<u8>),
    Zero(u16),
    Copy(Source, u32, u16),
    Add(Source, u32, Numbers, Vec<u8>),
    /// A deflate stream that holds these bytes, out of what another holds.
    Rebuild(Vec<u8>),
}

fn images() -> Images {
    let noise = |mut state: u32| {
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        std::iter::repeat_with(next).take(200_000).collect::<Vec<u8>>()
    };
    let mut base = noise(1);
    let packed = pack(Recipe::Deflate(6), PACKED_CONTENT);
    base[PACKED_AT..PACKED_AT + packed.len()].copy_from_slice(&packed);
    Images { base, root: noise(2) }
}

/// The base image has a deflate stream here.
const PACKED_AT: usize = 150_001;
const PACKED_CONTENT: &[u8] = b"what the host knows already, and what the publisher need not bring along";

fn packed_part() -> Part {
    let packed = pack(Recipe::Deflate(6), PACKED_CONTENT).len() as u64;
    let plain = PACKED_CONTENT.len() as u64;
    Part { packing: Packing::Deflate, source: Source::Base, offset: PACKED_AT as u64, packed, plain }
}

fn pack(recipe: Recipe, plain: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut packer = recipe.packer(plain.len() as u64, &mut packed).unwrap();
    packer.write_all(plain).unwrap();
    packer.finish().unwrap();
    packed
}

fn rebuild(recipe: Recipe, plain: &[u8], length: usize, parts: Vec<Part>) -> Rebuild {
    Rebuild { recipe, plain: plain.len() as u64, length: length as u64, parts }
}

fn source() -> impl Strategy<Value = Source> {
    prop_oneof![Just(Source::Base), Just(Source::Root)]
}

fn op() -> impl Strategy<Value = Op> {
    let bytes = || prop::collection::vec(any::<u8>(), 1..300);
    prop_oneof![
        bytes().prop_map(Op::Literal),
        (1u16..).prop_map(Op::Zero),
        (source(), 0u32..130_000, 1u16..).prop_map(|(source, at, length)| Op::Copy(source, at, length)),
        (source(), 0u32..130_000, prop::sample::select(&Numbers::ALL[..]), bytes())
            .prop_map(|(source, at, numbers, bytes)| Op::Add(source, at, numbers, bytes)),
        bytes().prop_map(Op::Rebuild),
    ]
}

/// A delta of one segment, and what it should make.
fn build(kind: Kind, ops: &[Op], images: &Images) -> (Head, Vec<u8>, Vec<u8>) {
    let mut writer = SegmentWriter::new(0);
    let mut target = Vec::new();
    let image = |source: &Source| if *source == Source::Base { &images.base } else { &images.root };
    for op in ops {
        match op {
            Op::Literal(bytes) => {
                writer.literal(bytes);
                target.extend(bytes);
            }
            Op::Zero(length) => {
                writer.zero(u64::from(*length));
                target.resize(target.len() + usize::from(*length), 0);
            }
            Op::Copy(source, at, length) => {
                writer.copy(*source, u64::from(*at), u64::from(*length));
                let at = *at as usize;
                target.extend(&image(source)[at..at + usize::from(*length)]);
            }
            Op::Add(source, at, numbers, bytes) => {
                writer.add(*source, u64::from(*at), *numbers, bytes);
                let from = &image(source)[*at as usize..];
                let mut made = bytes.clone();
                Difference::new(*numbers, u64::from(*at)).add(&mut made, from);
                target.extend(made);
            }
            Op::Rebuild(bytes) => {
                let plain = [&bytes[..], &PACKED_CONTENT[5..45]].concat();
                let packed = pack(Recipe::Deflate(9), &plain);
                writer.rebuild(&rebuild(Recipe::Deflate(9), &plain, packed.len(), vec![packed_part()]));
                writer.literal(bytes);
                writer.add(Source::Plain, 5, Numbers::Bytes, &[0; 40]);
                target.extend(packed);
            }
        }
    }
    let packed = writer.pack(3).unwrap();
    (head(kind, &packed, target.len(), images), packed, target)
}

fn head(kind: Kind, packed: &[u8], length: usize, images: &Images) -> Head {
    let input = |source, image: &Vec<u8>| Input { source, size: image.len() as u64, id: Digest::of(image) };
    Head {
        kind,
        memory: MAX_MEMORY,
        target_size: length as u64,
        target_id: Digest::of(b"target"),
        inputs: vec![input(Source::Base, &images.base), input(Source::Root, &images.root)],
        segments: vec![Segment {
            offset: head_bytes(2, 1) as u64,
            packed: packed.len() as u32,
            start: 0,
            length: length as u32,
            sha256: Digest::of(packed),
        }],
    }
}

fn apply(head: &Head, packed: &[u8], images: &Images) -> Result<Vec<u8>, SegmentError> {
    let mut made = Vec::new();
    Applier::new(head, images).apply(0, packed, &mut made)?;
    Ok(made)
}

#[test]
fn a_damaged_segment_is_refused_before_it_is_unpacked() {
    let images = images();
    let (head, packed, target) = build(Kind::Uki, &[Op::Zero(9), Op::Copy(Source::Base, 5, 50)], &images);
    assert_eq!(apply(&head, &packed, &images).unwrap(), target);
    for at in 0..packed.len() {
        let mut damaged = packed.clone();
        damaged[at] ^= 0x10;
        assert!(matches!(apply(&head, &damaged, &images), Err(SegmentError::Hash { .. })), "byte {at}");
        assert!(matches!(apply(&head, &packed[..at], &images), Err(SegmentError::Hash { .. })));
    }
}

#[test]
fn a_root_image_is_not_made_from_what_is_not_written_yet() {
    let images = images();
    let (mut head, packed, _) = build(Kind::Root, &[Op::Copy(Source::Root, 0, 1)], &images);
    head.inputs[1].size = head.target_size;
    assert!(matches!(apply(&head, &packed, &images), Err(SegmentError::Malformed("position"))));
}

#[test]
fn segments_may_come_in_any_order_and_read_what_those_before_made() {
    let mut images = images();
    let first = {
        let mut writer = SegmentWriter::new(4096);
        writer.literal(&[7; 4096]);
        writer.pack(3).unwrap()
    };
    let second = |length| {
        let mut writer = SegmentWriter::new(0);
        writer.copy(Source::Root, 5000, length);
        writer.zero(4096 - length);
        writer.pack(3).unwrap()
    };
    let delta = |second: &[u8]| {
        let segment = |packed: &[u8], start| Segment {
            offset: 0,
            packed: packed.len() as u32,
            start,
            length: 4096,
            sha256: Digest::of(packed),
        };
        let mut head = head(Kind::Root, &first, 8192, &images);
        head.segments = vec![segment(&first, 4096), segment(second, 0)];
        Head::parse(&head.to_bytes()).unwrap()
    };
    let (inside, outside) = (second(3192), second(3193));
    let (good, bad) = (delta(&inside), delta(&outside));
    images.root.fill(0);
    let mut made = Vec::new();
    Applier::new(&good, &images).apply(0, &first, &mut made).unwrap();
    images.root[4096..8192].copy_from_slice(&made);
    made.clear();
    Applier::new(&good, &images).apply(1, &inside, &mut made).unwrap();
    assert_eq!(made, [vec![7; 3192], vec![0; 904]].concat());
    let refused = Applier::new(&bad, &images).apply(1, &outside, &mut made);
    assert!(matches!(refused, Err(SegmentError::Malformed("position"))));
}

#[test]
fn compressed_bytes_are_made_again_whatever_they_are_compressed_with() {
    let images = images();
    let plain = &images.base[1000..90_000];
    let zstd = Zstd { level: 9, prefix: 0, last: true, checksum: true, content: Some(plain.len() as u64) };
    for recipe in [Recipe::Deflate(6), Recipe::Lz4(9), Recipe::Zstd(zstd)] {
        let packed = pack(recipe, plain);
        let mut writer = SegmentWriter::new(0);
        writer.literal(b"header");
        writer.rebuild(&rebuild(recipe, plain, packed.len(), Vec::new()));
        writer.copy(Source::Base, 1000, 60_000);
        writer.literal(&plain[60_000..]);
        writer.literal(b"trailer");
        let memory = writer.memory();
        let target = [b"header", &packed[..], b"trailer"].concat();
        assert_eq!(writer.length(), target.len() as u64);
        let segment = writer.pack(3).unwrap();
        let mut head = head(Kind::Uki, &segment, target.len(), &images);
        head.memory = memory as u32 + segment.len() as u32;
        assert_eq!(apply(&head, &segment, &images).unwrap(), target);
        head.memory -= 1;
        assert!(matches!(apply(&head, &segment, &images), Err(SegmentError::Memory(1))));
    }
}

#[test]
fn a_rebuild_that_cannot_be_is_refused() {
    let images = images();
    let refused = |change: fn(&mut Rebuild), inner: fn(&mut SegmentWriter)| {
        let mut writer = SegmentWriter::new(0);
        let mut rebuild = rebuild(Recipe::Deflate(9), b"12345", 7, vec![packed_part()]);
        change(&mut rebuild);
        writer.rebuild(&rebuild);
        inner(&mut writer);
        let packed = writer.pack(3).unwrap();
        let head = head(Kind::Root, &packed, rebuild.length as usize, &images);
        apply(&head, &packed, &images).unwrap_err().to_string()
    };
    let five: fn(&mut SegmentWriter) = |writer| writer.literal(b"12345");
    type Change = fn(&mut Rebuild);
    type Inner = fn(&mut SegmentWriter);
    let table: [(Change, Inner, &str); 9] = [
        (|_| {}, |writer| writer.zero(4), "end of a stream"),
        (|_| {}, |writer| writer.zero(6), "length of an operation"),
        (|_| {}, |writer| writer.copy(Source::Plain, 68, 5), "position"),
        (|rebuild| rebuild.length = 6, five, "more comes out"),
        (|rebuild| rebuild.length = 8, five, "end of a rebuild"),
        (|rebuild| rebuild.recipe = Recipe::Lz4(10), five, "recipe"),
        (|rebuild| rebuild.parts[0].plain -= 1, five, "invalid data"),
        (|rebuild| rebuild.parts[0].source = Source::Root, five, "position"),
        (|rebuild| rebuild.parts[0].plain = 1 << 40, five, "recipe"),
    ];
    for (change, inner, expected) in table {
        let error = refused(change, inner);
        assert!(error.contains(expected), "{error}, not {expected}");
    }
    let nested: fn(&mut SegmentWriter) = |writer| {
        writer.rebuild(&rebuild(Recipe::Deflate(9), b"12345", 5, Vec::new()));
        writer.literal(b"12345");
    };
    assert!(refused(|_| {}, nested).contains("operation"));
}

/// What version 1 wrote once must be read for ever.
#[test]
fn a_frozen_delta_still_applies() {
    let images = images();
    let delta = include_bytes!("fixtures/v1.delta");
    let head = Head::parse(&delta[..head_bytes(2, 1)]).unwrap();
    assert_eq!(head.file_size(), delta.len() as u64);
    let made = apply(&head, &delta[head_bytes(2, 1)..], &images).unwrap();
    assert_eq!(
        Digest::of(&made).to_string(),
        "9c02525f2b862d116950608fd59a619656ea781a5a4ee4b06dab75fd77dab99c"
    );
}

#[test]
fn a_head_round_trips_and_says_what_it_does_not_know() {
    let images = images();
    let (head, packed, _) = build(Kind::Root, &[Op::Zero(7)], &images);
    let bytes = head.to_bytes();
    assert_eq!(Head::parse(&bytes), Ok(head.clone()));
    assert_eq!(bytes.len(), head_bytes(2, 1));
    assert_eq!(head.file_size(), (bytes.len() + packed.len()) as u64);
    let changed = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        Head::parse(&bytes)
    };
    assert_eq!(changed(1, 0), Err(HeadError::Magic));
    assert_eq!(changed(8, 2), Err(HeadError::Version(2)));
    assert_eq!(changed(12, 4), Err(HeadError::Features(4)));
    assert_eq!(changed(10, 2), Err(HeadError::Impossible("kind")));
    assert_eq!(changed(19, 0xff), Err(HeadError::Impossible("memory bound")));
    assert_eq!(changed(23, 1), Err(HeadError::Length));
    assert_eq!(changed(24, 8), Err(HeadError::Impossible("target size")));
    assert_eq!(changed(64, 1), Err(HeadError::Impossible("source")));
    assert!((0..bytes.len()).all(|length| Head::parse(&bytes[..length]).is_err()));
    let changes: [(fn(&mut Segment), _); 4] = [
        (|segment| segment.packed = 0, "segment length"),
        (|segment| segment.packed = MAX_SEGMENT_PACKED + 1, "segment length"),
        (|segment| segment.length = 0, "segment target"),
        (|segment| segment.length = MAX_SEGMENT_TARGET + 1, "segment target"),
    ];
    for (change, what) in changes {
        let mut head = head.clone();
        change(&mut head.segments[0]);
        head.target_size = head.segments[0].length.into();
        assert_eq!(Head::parse(&head.to_bytes()), Err(HeadError::Impossible(what)));
    }
}

proptest! {
    #[test]
    fn a_segment_makes_what_its_operations_say(ops in prop::collection::vec(op(), 1..40)) {
        let images = images();
        let (head, packed, target) = build(Kind::Uki, &ops, &images);
        prop_assert_eq!(Head::parse(&head.to_bytes()), Ok(head.clone()));
        prop_assert_eq!(apply(&head, &packed, &images).unwrap(), target);
    }

    /// The publisher's own mistakes: the hash holds, the content does not.
    #[test]
    fn hostile_segments_end_in_an_error_or_in_the_right_length(
        ops in prop::collection::vec(op(), 1..12),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let images = images();
        let (head, mut packed, target) = build(Kind::Root, &ops, &images);
        for (at, byte) in damage {
            let at = at.index(packed.len());
            packed[at] = byte;
        }
        let head = super::tests::head(head.kind, &packed, target.len(), &images);
        if let Ok(made) = apply(&head, &packed, &images) {
            prop_assert_eq!(made.len(), target.len());
        }
    }

    #[test]
    fn noise_is_never_a_segment_that_panics(packed in prop::collection::vec(any::<u8>(), 1..200)) {
        let images = images();
        let head = head(Kind::Uki, &packed, 1000, &images);
        let _ = apply(&head, &packed, &images);
    }
}
