//! What publishers and hosts rely on: what is made is what the programs themselves make. The digests are those of the
//! output of gzip 1.12, lz4 1.9.4 and zstd 1.5.4, as Debian 12 has them.

use super::*;
use crate::digest::Digest;

/// Text of few words, bytes without order, and zeros.
fn content(length: usize) -> Vec<u8> {
    let words = ["update", "image", " of ", "the", "\n", "slot", "verity", "0123456789", " and ", "boots"];
    let mut state = 7u32;
    let mut next = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % below
    };
    let mut content = Vec::with_capacity(length);
    while content.len() < length {
        match next(400) {
            0 => (0..next(40_000)).for_each(|_| content.push(next(256) as u8)),
            1 => content.resize(content.len() + next(3000) as usize, 0),
            _ => content.extend(words[next(10) as usize].bytes()),
        }
    }
    content.truncate(length);
    content
}

fn made(recipe: Recipe, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut packer = recipe.packer(plain.len() as u64, &mut out).unwrap();
    plain.chunks(10_000).for_each(|chunk| packer.write_all(chunk).unwrap());
    packer.finish().unwrap();
    out
}

#[test]
fn deflate_streams_are_those_of_gzip() {
    let table = [
        (1, 9, "72141ea911fdcddb13081f1b77cc50303952c7b11780e8e232e8477e46e1cdec"),
        (3000, 9, "26f6cd9cd61f80f1e167c9c0ead78a37109e2ea54df8b30ed170054492273de9"),
        (70_000, 6, "7eab8f6ce389e797a3d15fc897ba3e00249cae16e0fe1117e18f8c208fbfc306"),
        (1_500_000, 4, "4994fc5c68008b87809b73cf0f3458a6633a546b630313bf64e5da91e9921833"),
        (1_500_000, 5, "1c4b4381495a8449f927d767d658a4dd991c7f5a56fca26b085477cb4ea9be4c"),
        (1_500_000, 6, "af79266e60556d77b2fd585c247618f53793affe4f0d6ab83b4ff9479f6ab65f"),
        (1_500_000, 7, "8dadf58968af5604267de4f0486b3c5e9804e10199f7f438297ac1b8f3a7a910"),
        (1_500_000, 8, "c83fa03241dc19ba847e7d18974c9ee49da837551cf6fd99679bfcae68b9ae32"),
        (1_500_000, 9, "89f4950e779d6ccab881158e0d1ecdd63bdb5e0673746cc7ee2e6a396303662a"),
    ];
    for (length, level, digest) in table {
        let plain = content(length);
        let packed = made(Recipe::Deflate(level), &plain);
        assert_eq!(Digest::of(&packed).to_string(), digest, "{length} bytes at level {level}");
        let mut unpacked = Vec::new();
        Packing::Deflate.unpack(&packed, length, &mut unpacked).unwrap();
        assert!(unpacked == plain);
    }
}

#[test]
fn lz4_blocks_are_those_of_lz4() {
    let plain = content(1_500_000);
    let packed = made(Recipe::Lz4(9), &plain);
    assert_eq!(
        Digest::of(&packed).to_string(),
        "c76183b96554d83e8ec8b797ffa25dd962781237c8528b9f833216277c7f74a9"
    );
    let mut unpacked = b"before".to_vec();
    Packing::Lz4.unpack(&packed, plain.len(), &mut unpacked).unwrap();
    assert!(unpacked == [b"before", &plain[..]].concat());
    for length in [plain.len() - 1, plain.len() + 1] {
        assert!(Packing::Lz4.unpack(&packed, length, &mut Vec::new()).is_err());
    }
}

#[test]
fn sections_together_are_the_frame_of_zstd() {
    let plain = content(5_000_000);
    // At level 1, sections are 2 MiB, of which the next one sees 64 KiB.
    let (section, overlap) = (2 << 20, 64 << 10);
    let mut frame = Vec::new();
    for start in (0..plain.len()).step_by(section) {
        let (prefix, end) = (overlap.min(start), (start + section).min(plain.len()));
        let recipe = Recipe::Zstd(Zstd {
            level: 1,
            prefix: prefix as u32,
            last: end == plain.len(),
            checksum: true,
            content: Some(plain.len() as u64),
        });
        frame.extend(made(recipe, &plain[start - prefix..end]));
    }
    // The checksum is not part of the last section.
    assert_eq!(
        Digest::of(&frame).to_string(),
        "e7303a814afd7d7094b8995caeee2450a1e356d3e9a1dea2dae4a1895329c430"
    );
    let whole = Zstd { level: 9, prefix: 0, last: true, checksum: true, content: Some(5_000_000) };
    assert_eq!(
        Digest::of(&made(Recipe::Zstd(whole), &plain)).to_string(),
        "5608b770f8310d5ce3dbbbcf8a8dd50db8090defb17ac3903ce7294ed7a2097f"
    );
}

#[test]
fn zstd_frames_of_any_level_are_unpacked() {
    let plain = content(3_000_000);
    for level in [1, 9, 19] {
        let packed = ::zstd::bulk::compress(&plain, level).unwrap();
        let mut unpacked = b"before".to_vec();
        Packing::Zstd.unpack(&packed, plain.len(), &mut unpacked).unwrap();
        assert!(unpacked == [b"before", &plain[..]].concat());
        for length in [plain.len() - 1, plain.len() + 1] {
            assert!(Packing::Zstd.unpack(&packed, length, &mut Vec::new()).is_err());
        }
    }
}

#[test]
fn what_takes_too_much_memory_is_not_begun() {
    let part = Part { packing: Packing::Lz4, source: Source::Base, offset: 0, packed: 1000, plain: 8 << 20 };
    let rebuild = |plain, length, parts: &[Part]| {
        Rebuild { recipe: Recipe::Lz4(9), plain, length, parts: parts.to_vec() }.memory()
    };
    let memory = rebuild(8 << 20, 4 << 20, &[part; 2]).unwrap();
    assert!((32 << 20..34 << 20).contains(&memory), "{memory}");
    assert_eq!(rebuild((8 << 20) + 1, 4 << 20, &[part; 2]), None);
    assert_eq!(rebuild(8 << 20, MAX_PLAIN + 1, &[]), None);
    assert_eq!(rebuild(u64::MAX, 1, &[]), None);
    assert_eq!(rebuild(1, 1, &[Part { plain: u64::MAX, ..part }; 2]), None);
    assert_eq!(rebuild(1, 1, &[Part { packed: u64::MAX, ..part }]), None);
}
