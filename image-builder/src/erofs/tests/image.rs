//! Images against `fsck.erofs`, the kernel and the reader.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// One of everything that an image can hold.
fn everything() -> Sketch {
    let mut sketch = Sketch::new();
    sketch.file(b"empty", b"");
    sketch.file(b"one", b"1");
    sketch.file(b"usr/block", &[7; 4096]);
    sketch.file(b"usr/block and a byte", &[8; 4097]);
    sketch.file(b"usr/same content", &[8; 4097]);
    sketch.file(b"usr/zeros", &[0; 20_000]);
    sketch.file(b"not UTF-8 \xff\xfe % \n", b"x");
    sketch.file(&[b'n'; 255], b"long name");
    for index in 0..2000 {
        sketch.file(format!("many/with a name that fills blocks {index}").as_bytes(), b"few");
    }
    sketch.directory(b"none");
    sketch.directory(b"!sorts before the dots");
    sketch.change(b"none").mode = 0o1777;
    sketch.file(b"su", b"#!");
    sketch.change(b"su").mode = 0o6755;
    sketch.link(b"hard link", b"su");
    sketch.link(b"usr/hard link", b"su");
    for (length, path) in
        [(1, b"link 1".as_slice()), (4000, b"link 4000"), (4064, b"link 4064"), (4095, b"link 4095")]
    {
        sketch.add(path, inode(Kind::Symlink(vec![b'/'; length]), 0o777));
    }
    sketch.add(b"dev/null", inode(Kind::CharDevice(Device { major: 1, minor: 3 }), 0o666));
    sketch.add(b"dev/large", inode(Kind::BlockDevice(Device { major: 0xfff, minor: 0x1_2345 }), 0o660));
    sketch.add(b"dev/pipe", inode(Kind::Fifo, 0o600));
    sketch.add(b"dev/socket", inode(Kind::Socket, 0o600));
    sketch.file(b"owned", b"by another");
    sketch.change(b"owned").uid = 65_535;
    sketch.change(b"owned").gid = 100;
    sketch.file(b"owned far", b"by another");
    sketch.change(b"owned far").uid = 100_000;
    sketch.change(b"owned far").gid = 4_000_000_000;
    sketch
}

/// Extended attributes of all kinds, equal and different ones.
fn with_xattrs() -> Sketch {
    let mut sketch = everything();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let acl = [2u32, 0x0007_0001, u32::MAX, 0x0005_0004, u32::MAX, 0x0005_0020, u32::MAX];
    let acl: Vec<u8> = acl.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut set = |path: &[u8], name: &str, value: &[u8]| {
        sketch.change(path).xattrs.insert(name.as_bytes().to_vec(), value.to_vec());
    };
    set(b"one", "security.capability", &capability);
    set(b"su", "security.capability", &capability);
    set(b"su", "user.only", b"here");
    set(b"su", "user.empty", b"");
    set(b"none", "system.posix_acl_default", &acl);
    set(b"none", "system.posix_acl_access", &acl);
    set(b"link 1", "trusted.link", b"on a link");
    set(b"link 4064", "trusted.link", b"another");
    set(b"dev/pipe", "trusted.pipe", b"on a pipe");
    set(b"", "user.root", &[9; 3000]);
    set(b"many", "user.large", &[3; 60_000]);
    set(b"usr", "user.large", &[3; 60_000]);
    set(b"owned far", &format!("user.{}", "n".repeat(250)), &[5; 10_000]);
    for index in 0..300 {
        set(b"empty", &format!("user.{index}"), b"shared");
        set(b"owned", &format!("user.{index}"), b"shared");
    }
    sketch
}

#[test]
fn reader_gives_back_everything() {
    let sketch = with_xattrs();
    let (image, written) = image_of(&sketch, None);
    assert!(!written.followed);
    assert!(read_back(&image) == sketch.normal());
    let again = image_of(&sketch, None);
    assert!(again == (image, written), "the same bytes each time");
    // Another digest means that rebuilding an old release no longer gives its image.
    let pinned = "c8ce6283f28cdd7e60465f4fa0b3e5ab40e11bfbff89d424313365a70fd34835";
    assert_eq!(again.1.sha256.to_string(), pinned);
}

#[test]
fn equal_contents_and_equal_extended_attributes_are_stored_once() {
    let size = |contents: [u8; 2], values: [u8; 2]| {
        let mut sketch = Sketch::new();
        for (path, (content, value)) in [b"a", b"b"].into_iter().zip(contents.into_iter().zip(values)) {
            sketch.file(path, &[content; 50_000]);
            sketch.change(path).xattrs.insert(b"user.large".to_vec(), vec![value; 40_000]);
        }
        image_of(&sketch, None).1.size
    };
    let equal = size([1, 1], [1, 1]);
    assert_eq!(size([1, 2], [1, 1]), equal + 13 * 4096);
    assert!(size([1, 1], [1, 2]) >= equal + 40_000);
}

#[test]
fn what_a_compact_inode_cannot_hold_gets_an_extended_one_with_the_release_time() {
    let mut sketch = Sketch::new();
    sketch.file(b"small", b"");
    let large = Content { size: 1 << 32, ..sketch.content(b"") };
    sketch.add(b"large", inode(Kind::File(large), 0o644));
    sketch.file(b"linked", b"x");
    (0..65_535).for_each(|index| sketch.link(format!("links/{index}").as_bytes(), b"linked"));
    sketch.directory(b"links");
    let model = model::Model::new(&sketch.tree, 5).unwrap();
    let of = |path: &[u8]| &model.nodes.iter().find(|node| node.path() == path).unwrap().disk;
    assert_eq!((of(b"small").is_extended(), of(b"small").time), (false, None));
    assert_eq!((of(b"large").is_extended(), of(b"large").time), (true, Some(5)));
    assert_eq!((of(b"linked").links, of(b"linked").time), (65_536, Some(5)));
}

#[test]
fn a_new_release_time_changes_the_superblock_and_extended_inodes_alone() {
    let mut sketch = everything();
    sketch.tree.paths.remove(b"owned far".as_slice());
    let (image, _) = image_of(&sketch, None);
    let file = tempfile::tempfile().unwrap();
    let options = Options {
        time: Timestamp::constant(1, 0),
        release: "acme 1.0.0",
        base: None,
        salt: Digest::of(b"salt"),
    };
    write(&sketch.normal().tree, &sketch, &options, &file, &|_| {}).unwrap();
    let mut other = vec![0; image.len()];
    file.read_exact_at(&mut other, 0).unwrap();
    assert!(image[..4096] != other[..4096]);
    assert!(image[4096..] == other[4096..]);
}

#[test]
fn the_uuid_follows_the_content() {
    let (mut sketch, mut uuids) = (everything(), std::collections::BTreeSet::new());
    let mut uuid = |sketch: &Sketch| uuids.insert(image_of(sketch, None).1.uuid);
    assert!(uuid(&sketch));
    sketch.file(b"one", b"2");
    assert!(uuid(&sketch), "another content of the same length");
    sketch.change(b"one").mode = 0o600;
    assert!(uuid(&sketch), "another mode");
    assert!(!uuid(&sketch), "nothing else");
}

#[test]
fn fsck_passes_and_extracts_the_tree() {
    let folder = tempfile::tempdir().unwrap();
    let sketch = with_xattrs();
    let image = folder.path().join("image");
    fs::write(&image, image_of(&sketch, None).0).unwrap();
    let extracted = folder.path().join("extracted");
    let fsck = Command::new("fsck.erofs")
        .args([&format!("--extract={}", extracted.display()), "--preserve"])
        .arg(&image)
        .output()
        .unwrap();
    assert!(fsck.status.success(), "{}", String::from_utf8_lossy(&fsck.stderr));
    // Version 1.5 sets the owner last, which takes setuid and setgid away.
    compare(&extracted, &sketch, 0o1777);
}

/// A loop mount that goes away with it.
struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// What the kernel makes of an image; none where it has no EROFS or no loop devices.
fn mount(image: &Path, at: PathBuf) -> Option<Mount> {
    fs::create_dir(&at).unwrap();
    let mounted = Command::new("mount").args(["-t", "erofs", "-o", "ro,loop"]).arg(image).arg(&at).output();
    mounted.unwrap().status.success().then_some(Mount(at))
}

#[test]
fn kernel_mounts_the_image_where_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let sketch = with_xattrs();
    let image = folder.path().join("image");
    fs::write(&image, image_of(&sketch, None).0).unwrap();
    // Whether this kernel can mount EROFS at all is asked with an image of mkfs.erofs.
    let (reference, empty) = (folder.path().join("reference"), folder.path().join("empty"));
    fs::create_dir(&empty).unwrap();
    assert!(Command::new("mkfs.erofs").arg(&reference).arg(&empty).output().unwrap().status.success());
    if mount(&reference, folder.path().join("mounted reference")).is_none() {
        return;
    }
    let mounted = mount(&image, folder.path().join("mounted")).unwrap();
    compare(&mounted.0, &sketch, 0o7777);
    for (path, index) in &sketch.tree.paths {
        let expected = &sketch.tree.inodes[*index].xattrs;
        if !expected.is_empty() {
            assert_eq!(&xattrs(&mounted.0.join(std::ffi::OsStr::from_bytes(path))), expected);
        }
        let at = mounted.0.join(std::ffi::OsStr::from_bytes(path));
        assert_eq!(fs::symlink_metadata(at).unwrap().mtime(), TIME.as_second());
    }
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65_536];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap();
    let names = names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 65_536];
        let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
        value[..length].to_vec()
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

/// Compares a folder with a sketch, except for extended attributes; of permissions what is in `mask`.
fn compare(folder: &Path, sketch: &Sketch, mask: u32) {
    let mut found = Vec::new();
    list(folder, &mut Vec::new(), &mut found);
    found.sort();
    assert_eq!(found.len(), sketch.tree.paths.len());
    for (path, (expected, &index)) in found.iter().zip(&sketch.tree.paths) {
        assert_eq!(path.escape_ascii().to_string(), expected.escape_ascii().to_string());
        let (at, expected) = (folder.join(std::ffi::OsStr::from_bytes(path)), &sketch.tree.inodes[index]);
        compare_inode(&at, expected, sketch);
        if !matches!(expected.kind, Kind::Symlink(_)) {
            let found = fs::symlink_metadata(&at).unwrap().mode();
            assert_eq!(found & mask, u32::from(expected.mode) & mask, "{}", at.display());
        }
    }
}

fn list(folder: &Path, path: &mut Vec<u8>, found: &mut Vec<Vec<u8>>) {
    found.push(path.clone());
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let length = path.len();
        path.extend(if length == 0 { b"".as_slice() } else { b"/" });
        path.extend(entry.file_name().as_bytes());
        match entry.file_type().unwrap().is_dir() {
            true => list(&entry.path(), path, found),
            false => found.push(path.clone()),
        }
        path.truncate(length);
    }
}

fn compare_inode(at: &Path, expected: &Inode, sketch: &Sketch) {
    let found = fs::symlink_metadata(at).unwrap();
    let kind = found.file_type();
    let device = |found: u64| Device { major: rustix::fs::major(found), minor: rustix::fs::minor(found) };
    let same = match &expected.kind {
        Kind::Directory => kind.is_dir(),
        Kind::File(content) => kind.is_file() && fs::read(at).unwrap() == sketch.contents[&content.sha256],
        Kind::Symlink(target) => {
            kind.is_symlink() && fs::read_link(at).unwrap().as_os_str().as_bytes() == target
        }
        Kind::CharDevice(expected) => kind.is_char_device() && device(found.rdev()) == *expected,
        Kind::BlockDevice(expected) => kind.is_block_device() && device(found.rdev()) == *expected,
        Kind::Fifo => kind.is_fifo(),
        Kind::Socket => kind.is_socket(),
    };
    assert!(same, "{}", at.display());
    assert_eq!((found.uid(), found.gid()), (expected.uid, expected.gid), "{}", at.display());
}
