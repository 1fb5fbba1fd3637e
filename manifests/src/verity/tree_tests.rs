//! The tree against `veritysetup`, byte for byte.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::*;

fn data(blocks: usize) -> Vec<u8> {
    (0..blocks).flat_map(|block| [(block % 251) as u8; BLOCK]).collect()
}

fn build(data: &[u8], salt: Digest) -> (VerityParams, Vec<u8>) {
    let blocks = (data.len() / BLOCK) as u64;
    let mut area = vec![0; Geometry::new(blocks).unwrap().hash_size() as usize];
    let mut put = |offset: u64, block: &[u8; BLOCK]| {
        let at = offset as usize;
        assert!(area[at..at + BLOCK].iter().all(|&byte| byte == 0), "block {offset} comes once");
        area[at..at + BLOCK].copy_from_slice(block);
        Ok::<_, std::convert::Infallible>(())
    };
    let mut builder = TreeBuilder::new(salt, blocks, &mut put).unwrap();
    data.chunks(7 * BLOCK).for_each(|piece| builder.update(piece).unwrap());
    let (params, _) = builder.finish().unwrap();
    let superblock = params.superblock().unwrap().to_bytes();
    area[..superblock.len()].copy_from_slice(&superblock);
    (params, area)
}

fn veritysetup(arguments: &[&str], folder: &Path, tail: &[&str]) -> bool {
    let status = Command::new("veritysetup")
        .arg(arguments[0])
        .arg(folder.join("data"))
        .arg(folder.join("hash"))
        .args(tail)
        .args(&arguments[1..])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status();
    status.unwrap().success()
}

#[test]
fn equals_veritysetup_byte_for_byte_and_passes_its_check() {
    let salt = Digest::of(b"salt");
    for blocks in [1, 2, 127, 128, 129, 128 * 128, 128 * 128 + 1] {
        let folder = tempfile::tempdir().unwrap();
        let data = data(blocks);
        let (params, area) = build(&data, salt);
        fs::write(folder.path().join("data"), &data).unwrap();
        let options = ["format", "--salt", &salt.to_string(), "--uuid", &params.uuid];
        assert!(veritysetup(&options, folder.path(), &[]));
        let theirs = fs::read(folder.path().join("hash")).unwrap();
        // With a single data block veritysetup writes the superblock's 512 bytes alone.
        assert!(theirs.len() <= area.len());
        assert!(theirs == area[..theirs.len()], "{blocks} blocks");
        assert!(area[theirs.len()..].iter().all(|&byte| byte == 0));
        assert_eq!(params.hash_size, area.len() as u64);
        fs::write(folder.path().join("hash"), &area).unwrap();
        let root = params.root_hash.to_string();
        assert!(veritysetup(&["verify"], folder.path(), &[&root]), "{blocks} blocks");
        let wrong = Digest::of(b"").to_string();
        assert!(!veritysetup(&["verify"], folder.path(), &[&wrong]));
    }
}

#[test]
fn root_alone_equals_the_root_of_the_whole_tree_and_leaves_are_where_they_are_said_to_be() {
    let salt = Digest::of(b"salt");
    let data = data(300);
    let (params, area) = build(&data, salt);
    let mut verifier = TreeBuilder::new(salt, 300, Discard).unwrap();
    verifier.update(&data).unwrap();
    assert_eq!(verifier.finish().unwrap().0, params);
    let hasher = BlockHasher::new(&salt);
    for (index, block) in data.as_chunks().0.iter().enumerate() {
        let at = params.geometry().unwrap().leaf_offset(index as u64).unwrap() as usize;
        assert_eq!(&area[at..at + HASH], hasher.hash(block).as_bytes());
    }
}

#[test]
fn too_many_too_few_and_partial_blocks_are_refused() {
    let salt = Digest::of(b"salt");
    let mut builder = TreeBuilder::new(salt, 2, Discard).unwrap();
    assert_eq!(builder.update(&[0; BLOCK + 1]), Err(TreeError::Unaligned(BLOCK + 1)));
    builder.update(&[0; BLOCK]).unwrap();
    let few = builder.finish().err();
    assert_eq!(few, Some(TreeError::Count { found: 1, expected: 2 }));
    let mut builder = TreeBuilder::new(salt, 2, Discard).unwrap();
    let many = builder.update(&[0; 3 * BLOCK]);
    assert_eq!(many, Err(TreeError::Count { found: 3, expected: 2 }));
}

#[test]
fn a_sink_that_fails_stops_the_build() {
    let full = |_: u64, _: &[u8; BLOCK]| Err("no space");
    let mut builder = TreeBuilder::new(Digest::of(b""), 200, full).unwrap();
    assert_eq!(builder.update(&[0; 200 * BLOCK]), Err(TreeError::Sink("no space")));
}

#[test]
fn salts_differ_between_systems_and_are_pinned() {
    let debian = crate::verity::salt(&"debian".parse().unwrap());
    assert_eq!(debian, Digest::of(b"upright verity salt 1\0debian"));
    assert_ne!(debian, crate::verity::salt(&"other".parse().unwrap()));
}
