//! What publishers rely on: whatever the images, the delta makes exactly the target.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use upright_manifests::BLOCK_SIZE;
use upright_manifests::delta::{Applier, Head, Kind, Recipe, SegmentError, Source, Sources};
use upright_manifests::digest::Digest;

use super::*;
use crate::erofs::{FileRun, Layout, Run};

const BLOCK: usize = BLOCK_SIZE as usize;

/// What stands in an image, in order.
#[derive(Debug, Clone)]
enum Content {
    Metadata(Vec<u8>),
    File(String, Vec<u8>),
    Hole(u64),
}

fn image(contents: &[Content]) -> (File, Layout) {
    let mut bytes = Vec::new();
    let mut layout = Layout::default();
    for content in contents {
        let start = (bytes.len() / BLOCK) as u64;
        match content {
            Content::Metadata(content) => {
                bytes.extend(content);
                layout.metadata.push(Run { start, blocks: content.len().div_ceil(BLOCK) as u64 });
            }
            Content::File(path, content) => {
                bytes.extend(content);
                let sha256 = Digest::of(content);
                layout.files.push(FileRun { start, size: content.len() as u64, sha256, path: path.clone() });
            }
            Content::Hole(blocks) => bytes.resize(bytes.len() + *blocks as usize * BLOCK, 0),
        }
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    }
    layout.blocks = (bytes.len() / BLOCK) as u64;
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&bytes, 0).unwrap();
    (file, layout)
}

fn read(mut file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

struct Files<'a> {
    base: Option<&'a File>,
    root: Option<&'a File>,
}

impl Sources for Files<'_> {
    fn read_at(&self, source: Source, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let file = if source == Source::Base { self.base } else { self.root };
        file.ok_or(io::ErrorKind::NotFound)?.read_exact_at(buffer, offset)
    }
}

/// Applies a delta as a host would, from its bytes alone; segments one by one, each by an applier of its own.
fn apply(delta: &[u8], parted: &crate::payload::Parted, sources: &Files<'_>) -> (Head, Vec<u8>) {
    assert_eq!((delta.len() as u64, Digest::of(delta)), (parted.size, parted.sha256));
    let head = &delta[..parted.head_size as usize];
    assert_eq!(Digest::of(head), parted.head_sha256);
    let head = Head::parse(head).unwrap();
    assert_eq!(head.file_size(), parted.size);
    let image = tempfile::tempfile().unwrap();
    image.set_len(head.target_size).unwrap();
    // What is made is there to be read when the segments after it are applied.
    let root = if head.kind == Kind::Root { Some(&image) } else { sources.root };
    let sources = Files { base: sources.base, root };
    for (number, segment) in head.segments.iter().enumerate() {
        let packed = &delta[segment.range().start as usize..segment.range().end as usize];
        let mut made = Vec::new();
        Applier::new(&head, &sources).apply(number, packed, &mut made).unwrap();
        image.write_all_at(&made, segment.start).unwrap();
    }
    (head, read(&image))
}

fn round_trip(before: &[Content], after: &[Content]) -> (u64, Stats) {
    let (old, old_layout) = image(before);
    let (new, new_layout) = image(after);
    let source = Side { image: &old, layout: &old_layout, root_hash: Digest::of(b"old") };
    let target = Side { image: &new, layout: &new_layout, root_hash: Digest::of(b"new") };
    let make = || {
        let out = tempfile::tempfile().unwrap();
        let (parted, stats) = encode(source, target, &Options { level: 3 }, &out, &|_| {}).unwrap();
        (parted, stats, read(&out))
    };
    let (parted, stats, delta) = make();
    let (head, made) = apply(&delta, &parted, &Files { base: Some(&old), root: None });
    assert!(made == read(&new), "the delta makes another image");
    assert_eq!((head.kind, head.target_id), (Kind::Root, Digest::of(b"new")));
    assert_eq!(head.input(Source::Base).unwrap().id, Digest::of(b"old"));
    assert!(make().2 == delta, "equal input gives equal bytes");
    (parted.size, stats)
}

fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn file(path: &str, content: &[u8]) -> Content {
    Content::File(path.into(), content.to_vec())
}

#[test]
fn moved_changed_renamed_and_new_files_cost_what_is_new_in_them() {
    let program = noise(1, 600_000);
    let mut changed = program.clone();
    // Addresses that moved: a byte in each 50, all by the same distance.
    changed.iter_mut().step_by(50).for_each(|byte| *byte = byte.wrapping_add(16));
    changed.splice(300_000..300_000, *b"a few more bytes");
    let module = noise(2, 100_000);
    let before = [
        Content::Metadata(noise(3, 9000)),
        file("bin/program", &program),
        file("lib/6.1.0-25/module.ko", &module),
        file("etc/gone", b"gone"),
    ];
    let after = [
        Content::Metadata(noise(3, 9000)),
        file("etc/new", b"something new"),
        Content::Hole(3),
        file("lib/6.1.0-30/module.ko", &module[..99_000]),
        file("bin/program", &changed),
    ];
    let (size, stats) = round_trip(&before, &after);
    assert!(size < 3000, "{size} bytes, {stats:?}");
    assert!(stats.zero >= 3 * BLOCK_SIZE, "{stats:?}");
}

#[test]
fn a_file_that_moved_under_another_name_costs_what_is_new_in_it() {
    let library = noise(1, 600_000);
    let mut engine = library.clone();
    engine.splice(20_000..20_000, *b"a few bytes that move the rest");
    let small = noise(2, 9000);
    let mut changed = small.clone();
    changed[100] ^= 1;
    let before = [
        file("usr/lib/libbig.so", &library),
        file("share/one", &small),
        file("share/other", &noise(3, 300_000)),
    ];
    let after =
        [file("opt/vendor/engine.bin", &engine), file("doc/two", &changed), file("doc/new", &noise(4, 5000))];
    let (size, stats) = round_trip(&before, &after);
    assert!((5000..7000).contains(&size), "{size} bytes, {stats:?}");
}

#[test]
fn constant_and_periodic_content_takes_no_time() {
    let zeros = vec![0; 3 << 20];
    let ones = [&[1u8; 100][..], &vec![0; 2 << 20], &[1; 50]].concat();
    let period = b"0123456789abcde".repeat(100_000);
    let before = [file("a", &zeros), file("b", &period), file("c", b"x")];
    let after = [file("a", &ones), file("b", &period[7..]), file("c", &period[..9000])];
    let (size, _) = round_trip(&before, &after);
    assert!(size < 2000, "{size} bytes");
}

#[test]
fn a_segment_too_large_for_a_reader_becomes_several() {
    let (size, _) = round_trip(&[file("a", b"old")], &[file("b", &noise(9, 9 << 20))]);
    assert!(size > 9 << 20);
}

/// A file as gzip makes it, but for its checksum.
fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3];
    let mut packer = Recipe::Deflate(9).packer(plain.len() as u64, &mut file).unwrap();
    packer.write_all(plain).unwrap();
    packer.finish().unwrap();
    file.extend([0; 4]);
    file.extend((plain.len() as u32).to_le_bytes());
    file
}

/// An initrd as `mkinitramfs` makes it.
fn initrd(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, content) in files.iter().chain(&[("TRAILER!!!", &b""[..])]) {
        let (size, name_size) = (content.len(), name.len() + 1);
        archive.extend(format!("070701{:0>48}{size:08x}{:0>32}{name_size:08x}{:08x}{name}", 0, 0, 0).bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(*content);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    zstd_frame(&archive, 1)
}

/// A frame as the `zstd` program makes it.
fn zstd_frame(plain: &[u8], level: i32) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level).unwrap();
    encoder.set_parameter(zstd::zstd_safe::CParameter::NbWorkers(1)).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.set_pledged_src_size(Some(plain.len() as u64)).unwrap();
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn compressed_files_cost_what_changed_in_what_they_hold() {
    let (manual, mut changed) = (noise(1, 90_000), noise(1, 90_000));
    changed.splice(100..110, *b"another thing");
    let (size, stats) = round_trip(&[file("a.gz", &gzip(&manual))], &[file("a.gz", &gzip(&changed))]);
    assert!(size < 500, "{size} bytes, {stats:?}");
    assert!(stats.rebuilt > 80_000, "{stats:?}");
    // Without an old one it costs what it holds, or stays as it is.
    let (size, _) = round_trip(&[file("b", b"other")], &[file("a.gz", &gzip(&changed))]);
    assert!(size < 91_000, "{size} bytes");
}

#[test]
fn a_zstd_file_costs_what_changed_in_what_it_holds() {
    let digits: Vec<u8> =
        noise(4, 100_000).iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect();
    // An old frame may be of a level that cannot be made again.
    for (level, was) in [(6, 6), (6, 19)] {
        let old = zstd_frame(&[&b"first"[..], &digits].concat(), was);
        let new = zstd_frame(&[&b"another"[..], &digits].concat(), level);
        let (size, stats) = round_trip(&[file("a.zst", &old)], &[file("a.zst", &new)]);
        assert!(size < 1000, "{size} bytes from level {was} to {level}, {stats:?}");
    }
}

#[test]
fn an_initrd_is_put_together_from_the_files_of_its_image() {
    let (shell, driver, changed) = (noise(1, 3_000_000), noise(2, 1_500_000), noise(3, 2_000_000));
    let archive =
        initrd(&[("bin/sh", &shell), ("lib/d.ko", &driver), ("init", b"#!/bin/sh"), ("x", &changed[5..])]);
    let before = [file("usr/bin/sh", &shell)];
    let after = [
        file("boot/initrd.img", &archive),
        file("usr/bin/sh", &shell),
        file("usr/lib/d.ko", &driver),
        file("usr/x", &changed),
    ];
    let (size, stats) = round_trip(&before, &after);
    assert!(stats.rebuilt > 6_000_000, "{stats:?}");
    // The driver and the changed file are new, once.
    assert!(size < 3_510_000, "{size} bytes, {stats:?}");
    // An archive in which there is another is brought along: neither is there when the other is made.
    let outer = initrd(&[("initrd.img", &archive), ("bin/sh", &shell)]);
    round_trip(
        &before,
        &[file("boot/outer", &outer), file("initrd.img", &archive), file("usr/bin/sh", &shell)],
    );
}

#[test]
fn a_layout_of_another_image_is_refused() {
    let (image_file, layout) = image(&[file("a", &[1; 9000]), file("b", &[2; 9000])]);
    let refused = |change: fn(&mut Layout)| {
        let mut bad = layout.clone();
        change(&mut bad);
        let good = Side { image: &image_file, layout: &layout, root_hash: Digest::of(b"") };
        let bad = Side { layout: &bad, ..good };
        let refused = encode(good, bad, &Options::default(), &tempfile::tempfile().unwrap(), &|_| {});
        matches!(refused, Err(DeltaError::Layout(_)))
    };
    assert!(refused(|layout| layout.blocks += 1));
    assert!(refused(|layout| layout.files[1].start -= 1));
    assert!(refused(|layout| layout.files[1].size = u64::MAX));
    assert!(refused(|layout| layout.files[1].start = u64::MAX));
}

#[test]
fn a_uki_costs_what_the_root_image_does_not_hold() {
    let (kernel, initrd) = (noise(5, 300_000), noise(6, 500_001));
    let (root, layout) = image(&[file("boot/initrd", &initrd), file("boot/vmlinuz", &kernel)]);
    let uki = [&b"stub"[..], &kernel, b"padding", &initrd, b"command line"].concat();
    let at = |n: usize| layout.files[n].start * BLOCK_SIZE;
    let parts = [
        Part { at: 4, length: 300_000, root_offset: at(1) },
        Part { at: 300_011, length: 500_001, root_offset: at(0) },
    ];
    let out = tempfile::tempfile().unwrap();
    let parted = compose(&uki, &root, Digest::of(b"root"), &parts, 19, &out).unwrap();
    assert!(parted.size < 400, "{}", parted.size);
    let (head, made) = apply(&read(&out), &parted, &Files { base: None, root: Some(&root) });
    assert!(made == uki);
    assert_eq!((head.kind, head.target_id), (Kind::Uki, Digest::of(&uki)));
    let moved = [Part { at: 5, ..parts[0] }];
    let out = tempfile::tempfile().unwrap();
    let refused = compose(&uki, &root, Digest::of(b"root"), &moved, 3, &out);
    assert!(matches!(refused, Err(DeltaError::Part { at: 5, .. })));
}

/// Content with enough structure to match: few symbols, repeats, and edits of another.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        (any::<u8>(), 0usize..9000).prop_map(|(byte, length)| vec![byte; length]),
        (0u32..3, 0usize..5000, 0usize..9000)
            .prop_map(|(seed, skip, length)| { noise(seed, skip + length).split_off(skip) }),
    ];
    let plain = prop::collection::vec(piece, 0..5).prop_map(|pieces| [&b"."[..], &pieces.concat()].concat());
    (plain, 0..7).prop_map(|(plain, kind)| match kind {
        0 => gzip(&plain),
        2 => zstd_frame(&plain, 3),
        1 => initrd(&[("b/2.0", &plain), ("init", b"#!/bin/sh")]),
        _ => plain,
    })
}

fn contents() -> impl Strategy<Value = Vec<Content>> {
    let one = prop_oneof![
        1 => content().prop_map(Content::Metadata),
        4 => ("[ab]/[12]\\.[0-9]", content()).prop_map(|(path, content)| Content::File(path, content)),
        1 => (0u64..5).prop_map(Content::Hole),
    ];
    prop::collection::vec(one, 1..8)
}

/// Applies the segments of a delta from number `from` on; stops after `count` of them, as a host does whose power goes.
fn apply_some(
    head: &Head,
    delta: &[u8],
    base: &File,
    image: &File,
    from: usize,
    count: usize,
) -> Result<(), SegmentError> {
    let sources = Files { base: Some(base), root: Some(image) };
    let mut applier = Applier::new(head, &sources);
    for (number, segment) in head.segments.iter().enumerate().skip(from).take(count) {
        let mut made = Vec::new();
        let outcome = applier.apply(
            number,
            &delta[segment.range().start as usize..segment.range().end as usize],
            &mut made,
        );
        assert!(made.len() <= segment.length as usize);
        image.write_all_at(&made, segment.start).unwrap();
        outcome?;
        assert_eq!(made.len(), segment.length as usize);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_pair_of_images_round_trips(before in contents(), after in contents()) {
        round_trip(&before, &after);
    }

    /// Any pair, any instant of a power cut, any byte that is wrong in the delta. Whole updates with bytes that are wrong in the image
    /// they start from are in `tests/tests/any_update.rs`: it is the read-back that tells.
    #[test]
    fn any_pair_leads_to_the_exact_image_or_to_an_error(
        before in contents(),
        after in contents(),
        cut in any::<prop::sample::Index>(),
        noted in any::<prop::sample::Index>(),
        wrong in any::<prop::sample::Index>(),
    ) {
        let ((old, old_layout), (new, new_layout)) = (image(&before), image(&after));
        let source = Side { image: &old, layout: &old_layout, root_hash: Digest::of(b"old") };
        let target = Side { image: &new, layout: &new_layout, root_hash: Digest::of(b"new") };
        let out = tempfile::tempfile().unwrap();
        let (parted, _) = encode(source, target, &Options { level: 3 }, &out, &|_| {}).unwrap();
        let (mut delta, wanted) = (read(&out), read(&new));
        let head = Head::parse(&delta[..parted.head_size as usize]).unwrap();
        let slot = || {
            let slot = tempfile::tempfile().unwrap();
            slot.write_all_at(&noise(8, wanted.len()), 0).unwrap();
            slot
        };

        // The power goes while a segment is written; what was noted last is behind that.
        let (made, done) = (slot(), cut.index(head.segments.len() + 1));
        apply_some(&head, &delta, &old, &made, 0, done).unwrap();
        if let Some(torn) = head.segments.get(done) {
            made.write_all_at(&noise(9, torn.length as usize / 2), torn.start).unwrap();
        }
        apply_some(&head, &delta, &old, &made, noted.index(done + 1), usize::MAX).unwrap();
        prop_assert!(read(&made) == wanted, "an interrupted update makes another image");

        // What was signed tells about each byte of the delta.
        let at = wrong.index(delta.len());
        delta[at] ^= 0x20;
        let damaged = Digest::of(&delta[..parted.head_size as usize]) != parted.head_sha256
            || apply_some(&head, &delta, &old, &slot(), 0, usize::MAX).is_err();
        prop_assert!(damaged, "byte {} of the delta does not matter", at);
    }
}
