//! Trees that no image can hold, and contents that are not what the tree says.

use super::*;

fn refusal(sketch: &Sketch) -> String {
    let file = tempfile::tempfile().unwrap();
    let options = Options { time: TIME, base: None, salt: Digest::of(b"salt") };
    write(&sketch.tree, sketch, &options, &file).unwrap_err().to_string()
}

#[test]
fn impossible_names_and_places_are_refused() {
    let table: [(&[u8], &str); 7] = [
        (b"a//b", "/a//b is not in a directory of the tree"),
        (b"/a", "//a has an impossible name"),
        (b"a/..", "/a/.. has an impossible name"),
        (b".", "/. has an impossible name"),
        (b"a\0b", "/a\0b has an impossible name"),
        (&[b'n'; 256], "has a name of more than 255 bytes"),
        (b"missing/file", "/missing/file is not in a directory of the tree"),
    ];
    for (path, message) in table {
        let mut sketch = Sketch::new();
        sketch.directory(b"a");
        let content = sketch.content(b"x");
        sketch.tree.inodes.push(inode(Kind::File(content), 0o644));
        sketch.tree.paths.insert(path.to_vec(), 2);
        assert!(refusal(&sketch).ends_with(message), "{}", refusal(&sketch));
    }
}

#[test]
fn impossible_inodes_are_refused() {
    let table = [
        (inode(Kind::Symlink(Vec::new()), 0o777), "/x is a symbolic link with an impossible target"),
        (inode(Kind::Symlink(vec![b'x'; 4096]), 0o777), "/x is a symbolic link with an impossible target"),
        (inode(Kind::Symlink(b"a\0b".to_vec()), 0o777), "/x is a symbolic link with an impossible target"),
        (
            inode(Kind::CharDevice(Device { major: 4096, minor: 0 }), 0),
            "/x is a device with an impossible number",
        ),
        (
            inode(Kind::BlockDevice(Device { major: 0, minor: 1 << 20 }), 0),
            "/x is a device with an impossible number",
        ),
        (inode(Kind::Fifo, 0o10000), "/x has impossible permissions"),
    ];
    for (inode, message) in table {
        let mut sketch = Sketch::new();
        sketch.add(b"x", inode);
        assert_eq!(refusal(&sketch), message);
    }
}

#[test]
fn extended_attributes_that_would_be_lost_are_refused() {
    let table = [
        (
            "system.nfs4_acl",
            1,
            "/x has the extended attribute system.nfs4_acl, and EROFS cannot hold this name",
        ),
        (
            "user.a",
            65_536,
            "/x has the extended attribute user.a, and EROFS cannot hold a value of more than 65535 bytes",
        ),
    ];
    for (name, length, message) in table {
        let mut sketch = Sketch::new();
        sketch.file(b"x", b"");
        sketch.change(b"x").xattrs.insert(name.into(), vec![0; length]);
        assert_eq!(refusal(&sketch), message);
    }
    let mut sketch = Sketch::new();
    sketch.file(b"x", b"");
    for index in 0..5 {
        sketch.change(b"x").xattrs.insert(format!("user.{index}").into(), vec![0; 60_000]);
    }
    assert_eq!(refusal(&sketch), "/x has more than 256 KiB of extended attributes, which EROFS cannot hold");
}

#[test]
fn two_names_of_a_directory_and_a_missing_root_are_refused() {
    let mut sketch = Sketch::new();
    sketch.directory(b"a");
    sketch.link(b"b", b"a");
    assert_eq!(refusal(&sketch), "/b is a second name of a directory");
    let mut sketch = Sketch::new();
    sketch.change(b"").kind = Kind::Fifo;
    assert_eq!(refusal(&sketch), "/ is missing or not a directory");
    sketch.tree.paths.clear();
    assert_eq!(refusal(&sketch), "/ is missing or not a directory");
}

#[test]
fn contents_that_are_not_what_the_tree_says_are_refused() {
    let damage: [fn(&mut Vec<u8>); 2] = [|bytes| bytes[5000] ^= 1, |bytes| bytes.truncate(5000)];
    for (damage, message) in
        damage.into_iter().zip(["the content of /x is not the", "cannot read the content of /x"])
    {
        let mut sketch = Sketch::new();
        sketch.file(b"x", &[1; 10_000]);
        sketch.contents.values_mut().for_each(damage);
        assert!(refusal(&sketch).starts_with(message), "{}", refusal(&sketch));
    }
}
