//! What publishers rely on: a recipe makes the very bytes, and what has none is left alone.

use flate2::{Compression, GzBuilder};

use super::*;

/// Text that compresses, but not to nothing.
fn text(seed: u32, lines: u32) -> Vec<u8> {
    let line =
        |number: u32| format!("{:x} line {number} of {lines}\n", (number ^ seed).wrapping_mul(2_654_435_761));
    (0..lines).map(line).collect::<String>().into_bytes()
}

/// What comes out when all members are made again.
fn again(file: &[u8], inside: &Inside) -> Vec<u8> {
    let mut out = file.to_vec();
    for member in &inside.members {
        let plain = &inside.plain[member.plain.clone()];
        let mut packer = member.recipe.unwrap().packer(plain.len() as u64, Vec::new()).unwrap();
        packer.write_all(plain).unwrap();
        assert_eq!(
            made(member.recipe.unwrap(), plain, &file[member.packed.clone()]),
            Some(member.packed.len())
        );
        out[member.packed.clone()].fill(0);
    }
    out
}

fn gzip(recipe: Recipe, plain: &[u8], name: &str) -> Vec<u8> {
    let mut file = [&[0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 2, 3][..], name.as_bytes(), &[0]].concat();
    let mut packer = recipe.packer(plain.len() as u64, &mut file).unwrap();
    packer.write_all(plain).unwrap();
    packer.finish().unwrap();
    file.extend([1, 2, 3, 4]);
    file.extend((plain.len() as u32).to_le_bytes());
    file
}

#[test]
fn all_members_of_a_gzip_file_are_found() {
    let (first, second) = (text(1, 900), text(2, 3));
    let file = [gzip(Recipe::Deflate(9), &first, "first"), gzip(Recipe::Deflate(9), &second, "2")].concat();
    let inside = Inside::new(&file);
    assert_eq!(inside.members.len(), 2);
    assert!(inside.plain == [&first[..], &second].concat());
    let left = again(&file, &inside);
    assert!(left.starts_with(&[0x1f, 0x8b]) && left.ends_with(&(second.len() as u32).to_le_bytes()));
    let old = Inside::old(&file);
    assert!(old.members.iter().zip(&inside.members).all(|(old, new)| old.plain == new.plain));
}

#[test]
fn a_level_that_few_ask_for_is_found() {
    for (level, lines) in [(4, 30), (5, 16_000), (8, 16_000)] {
        let mut file = gzip(Recipe::Deflate(level), &text(3, lines), "x");
        file[8] = 0;
        let [member] = &Inside::new(&file).members[..] else { panic!("level {level}") };
        assert!(
            matches!(member.recipe, Some(Recipe::Deflate(found)) if lines < 100 || found == level),
            "{level}"
        );
    }
}

#[test]
fn an_old_zstd_frame_is_unpacked_as_a_whole() {
    let plain = text(1, 9000);
    for level in [6, 19] {
        let frame = ::zstd::bulk::compress(&plain, level).unwrap();
        let old = Inside::old(&[&frame[..], b"behind"].concat());
        assert!(old.plain == plain);
        let [member] = &old.members[..] else { panic!("level {level}") };
        assert_eq!((member.packed.clone(), member.packing), (0..frame.len(), Some(Packing::Zstd)));
        assert_eq!(Inside::old(&frame[..frame.len() - 1]).members, []);
    }
    let large = ::zstd::bulk::compress(&vec![0; 12 << 20 | 1], 1).unwrap();
    assert_eq!(Inside::old(&large).members, []);
}

#[test]
fn what_another_program_compressed_is_left_alone() {
    let mut file = Vec::new();
    let mut encoder = GzBuilder::new().write(&mut file, Compression::new(5));
    encoder.write_all(&text(1, 9000)).unwrap();
    encoder.finish().unwrap();
    assert_eq!(Inside::old(&file).members.len(), 1);
    assert_eq!(Inside::new(&file).members, []);
}

#[test]
fn what_is_cut_off_or_only_looks_compressed_is_left_alone() {
    let gzip = gzip(Recipe::Deflate(9), &text(1, 900), "x");
    let zstd = ::zstd::bulk::compress(&text(1, 900), 9).unwrap();
    let lz4 = lz4_frame(&text(1, 900));
    for file in [&gzip, &zstd, &lz4] {
        assert_eq!(Inside::new(file).members.len(), 1);
        for length in 0..file.len().min(200) {
            assert_eq!(Inside::new(&file[..length]).members, [], "{length}");
        }
        assert_eq!(Inside::new(&file[..file.len() - 9]).members, []);
    }
    let kernel = [&[0; 0x202][..], b"HdrS", &[0xff; 0x100]].concat();
    assert_eq!(Inside::new(&kernel).members, []);
}

fn lz4_frame(plain: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x02, 0x21, 0x4c, 0x18];
    for block in plain.chunks(8 << 20) {
        let mode = ::lz4::block::CompressionMode::HIGHCOMPRESSION(9);
        let block = ::lz4::block::compress(block, Some(mode), false).unwrap();
        frame.extend((block.len() as u32).to_le_bytes());
        frame.extend(block);
    }
    frame
}

#[test]
fn the_payload_of_a_kernel_is_found() {
    let plain = text(3, 400_000);
    let frame = lz4_frame(&plain);
    let mut kernel = vec![0; 0x400];
    kernel[0x1f1] = 1;
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    kernel[0x248..0x24c].copy_from_slice(&100u32.to_le_bytes());
    kernel[0x24c..0x250].copy_from_slice(&(frame.len() as u32).to_le_bytes());
    kernel.extend([0x90; 100]);
    kernel.extend(&frame);
    kernel.extend(b"signature");
    let inside = Inside::new(&kernel);
    assert_eq!(inside.members.len(), plain.len().div_ceil(8 << 20));
    assert!(inside.plain == plain);
    again(&kernel, &inside);
}

#[test]
fn an_initrd_is_found_behind_microcode() {
    let plain = text(4, 200_000);
    let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.set_parameter(::zstd::zstd_safe::CParameter::NbWorkers(1)).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(&plain).unwrap();
    let frame = encoder.finish().unwrap();
    let file = [&b"070701"[..], &[0; 506], &frame, b"more"].concat();
    let inside = Inside::new(&file);
    assert_eq!(inside.members[0].packed.start, 512);
    assert!(inside.plain == plain);
    again(&file, &inside);
}

#[test]
fn entries_of_an_archive_are_where_their_content_is() {
    let entry = |name: &str, content: &str| {
        let mut bytes =
            format!("070701{:0>48}{:08x}{:0>32}{:08x}{:08x}", 0, content.len(), 0, name.len() + 1, 0);
        bytes += name;
        bytes.push('\0');
        let pad = |bytes: &mut String| {
            bytes.extend(std::iter::repeat_n('\0', bytes.len().next_multiple_of(4) - bytes.len()))
        };
        pad(&mut bytes);
        bytes += content;
        pad(&mut bytes);
        bytes
    };
    let archive = [
        entry("etc", ""),
        entry("./etc/os", "NAME=x"),
        entry("usr/bin/sh", "12345"),
        entry("TRAILER!!!", ""),
    ]
    .concat();
    let found = entries(archive.as_bytes());
    let found: Vec<_> =
        found.iter().map(|entry| (entry.path.as_str(), &archive[entry.content.clone()])).collect();
    assert_eq!(found, [("etc/os", "NAME=x"), ("usr/bin/sh", "12345")]);
    for length in 0..archive.len() {
        assert!(entries(&archive.as_bytes()[..length]).len() <= 2);
    }
    assert_eq!(entries("070701ffffffffffffffff".repeat(20).as_bytes()), []);
}
