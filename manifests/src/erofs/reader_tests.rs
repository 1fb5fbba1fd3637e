//! The reader against images of `mkfs.erofs`, and against damage.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::erofs::SUPER_OFFSET;

/// An image with directories of one and of many blocks, inline and plain data, links and extended attributes.
fn image() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("many")).unwrap();
    for index in 0..300 {
        fs::write(root.join(format!("many/a-long-name-to-fill-blocks-{index}")), format!("{index}")).unwrap();
    }
    fs::write(root.join("large"), vec![7; 10_000]).unwrap();
    fs::set_permissions(root.join("large"), fs::Permissions::from_mode(0o4711)).unwrap();
    symlink("large", root.join("link")).unwrap();
    let attribute = |file: &str, name: &str, value: &str| {
        let set = Command::new("setfattr").args(["-n", name, "-v", value]).arg(root.join(file)).status();
        assert!(set.unwrap().success());
    };
    attribute("large", "user.one", "1");
    for index in 0..5 {
        attribute(&format!("many/a-long-name-to-fill-blocks-{index}"), "user.equal", "value");
    }
    let image = folder.path().join("image");
    let made = Command::new("mkfs.erofs").arg("-T0").arg(&image).arg(&root).output().unwrap();
    assert!(made.status.success());
    fs::read(image).unwrap()
}

fn walk(image: &[u8]) -> Result<Vec<(Vec<u8>, Node)>, ErofsError> {
    let reader = Reader::open(image)?;
    let mut found = Vec::new();
    reader.walk(&mut |path, node| {
        reader.xattrs(node)?;
        match node.inode.kind {
            FileType::Symlink => drop(reader.target(node)?),
            FileType::Regular => drop(reader.read(node, 0, &mut [0; 9000])?),
            _ => {}
        }
        found.push((path.to_vec(), node.clone()));
        Ok(())
    })?;
    Ok(found)
}

#[test]
fn reads_what_mkfs_wrote() {
    let image = image();
    let found = walk(&image).unwrap();
    assert_eq!(found.len(), 304);
    assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0));
    let reader = Reader::open(image.as_slice()).unwrap();
    let large = reader.lookup(b"large").unwrap().unwrap();
    assert_eq!((large.inode.size, large.inode.permissions), (10_000, 0o4711));
    let mut bytes = vec![0; 20_000];
    assert_eq!(reader.read(&large, 5, &mut bytes).unwrap(), 9_995);
    assert!(bytes[..9_995].iter().all(|&byte| byte == 7));
    assert_eq!(reader.xattrs(&large).unwrap(), BTreeMap::from([(b"user.one".to_vec(), b"1".to_vec())]));
    let link = reader.lookup(b"/link").unwrap().unwrap();
    assert_eq!(reader.target(&link).unwrap(), b"large");
    let small = reader.lookup(b"many/a-long-name-to-fill-blocks-4").unwrap().unwrap();
    assert_eq!(reader.read(&small, 0, &mut bytes).unwrap(), 1);
    assert_eq!(bytes[0], b'4');
    assert_eq!(reader.xattrs(&small).unwrap()[b"user.equal".as_slice()], b"value");
    assert_eq!(reader.lookup(b"many/none").unwrap(), None);
    assert_eq!(reader.lookup(b"large/none").unwrap(), None);
}

#[test]
fn a_directory_that_holds_itself_ends_the_walk() {
    let image = image();
    let many = Reader::open(image.as_slice()).unwrap().lookup(b"many").unwrap().unwrap().nid;
    let root: u64 = Reader::open(image.as_slice()).unwrap().superblock().root_nid.into();
    let entry = |nid| Dirent { nid, name_offset: 0, kind: FileType::Directory }.to_bytes()[..8].to_vec();
    let mut circle = image.clone();
    let places: Vec<usize> = (0..image.len() - 8).filter(|&at| image[at..at + 8] == entry(many)).collect();
    places.iter().for_each(|&at| circle[at..at + 8].copy_from_slice(&entry(root)));
    drop_checksum(&mut circle);
    let mut visited = 0;
    let reader = Reader::open(circle.as_slice()).unwrap();
    let walked = reader.walk(&mut |_, _| {
        visited += 1;
        Ok(())
    });
    assert!(visited <= 4, "{visited}: the three entries of the root, and the root once more");
    let error = walked.unwrap_err().to_string();
    assert!(error.contains("in a circle"), "{error}");
}

/// An image of five blocks whose root holds 100 directories that all claim the same two blocks of entries.
fn shared_directories() -> Vec<u8> {
    const NID: u64 = 1;
    let directory = |block, size| Inode {
        layout: DataLayout::Plain,
        kind: FileType::Directory,
        permissions: 0o755,
        links: 2,
        uid: 0,
        gid: 0,
        size,
        block,
        ino: 0,
        xattr_count: 0,
        time: None,
    };
    let superblock = Superblock {
        root_nid: NID as u16,
        inodes: 0,
        time: 0,
        blocks: 5,
        meta_block: 1,
        xattr_block: 1,
        uuid: [0; 16].into(),
    };
    let mut image = superblock.to_block().to_vec();
    image.extend([0; SLOT]);
    image.extend(directory(2, BLOCK_SIZE).to_bytes());
    (0..100).for_each(|_| image.extend(directory(3, 2 * BLOCK_SIZE).to_bytes()));
    image.extend(directory(0, 0).to_bytes());
    for (kind, from) in [(FileType::Directory, 100), (FileType::Regular, 200), (FileType::Regular, 300)] {
        image.resize(image.len().next_multiple_of(BLOCK), 0);
        let entry = |index: u64| {
            let nid = if kind == FileType::Directory { NID + 1 + index } else { NID + 101 };
            Dirent { nid, name_offset: 1200 + 3 * index as u16, kind }.to_bytes()
        };
        image.extend((0..100).flat_map(entry));
        image.extend((0..100).flat_map(|index| format!("{}", from + index).into_bytes()));
    }
    // What the entries call a regular file is one without content.
    let file = BLOCK + (NID as usize + 101) * SLOT;
    image[file + 4..file + 6].copy_from_slice(&FileType::Regular.mode_bits().to_le_bytes());
    image.resize(5 * BLOCK, 0);
    image
}

#[test]
fn directories_that_claim_more_than_the_image_holds_end_the_walk() {
    let image = shared_directories();
    let reader = Reader::open(image.as_slice()).unwrap();
    let first = reader.lookup(b"100").unwrap().unwrap();
    assert_eq!(reader.entries(&first).unwrap().len(), 200);
    let mut visited = 0;
    let walked = reader.walk(&mut |_, _| {
        visited += 1;
        Ok(())
    });
    assert!(matches!(walked, Err(ErofsError::Corrupt { .. })));
    assert!(visited < 1000, "{visited} of 20,101");
}

#[test]
fn what_lies_behind_the_image_on_the_same_device_is_not_read() {
    let mut device = shared_directories();
    let entries = device[2 * BLOCK..3 * BLOCK].to_vec();
    device.extend(entries);
    assert!(Reader::open(device.as_slice()).unwrap().lookup(b"100").unwrap().is_some());
    let root_block = BLOCK + SLOT + 16;
    device[root_block] = 5;
    let found = Reader::open(device.as_slice()).unwrap().lookup(b"100");
    assert!(matches!(found, Err(ErofsError::Outside { offset: 20_480, length: 4096, size: 20_480 })));
}

#[test]
fn truncated_images_are_refused() {
    let image = image();
    for length in [0, 1024, 4095, 4096, image.len() - 4096] {
        assert!(walk(&image[..length]).is_err(), "{length}");
    }
}

/// Without the checksum, damage to the superblock's block reaches the code behind it too.
fn drop_checksum(image: &mut [u8]) {
    image[SUPER_OFFSET + 8] &= !1;
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]
    #[test]
    fn damage_never_panics(damage in prop::collection::vec((0usize..20_000, any::<u8>()), 1..20)) {
        let mut image = IMAGE.with(Clone::clone);
        for (at, byte) in damage {
            let length = image.len();
            image[at % length] = byte;
        }
        drop_checksum(&mut image);
        let _ = walk(&image);
    }
}

thread_local! {
    static IMAGE: Vec<u8> = image();
}
