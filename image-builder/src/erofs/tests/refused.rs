//! Trees that no image can hold, and contents that are not what the tree says.

use super::*;

fn refusal(sketch: &Sketch) -> String {
    let file = tempfile::tempfile().unwrap();
    let options = Options { time: TIME, release: "acme 1.0.0", base: None, salt: Digest::of(b"salt") };
    write(&sketch.tree, sketch, &options, &file, &|_| {}).unwrap_err().to_string()
}

#[test]
fn what_is_not_a_tree_is_refused() {
    let mut sketch = Sketch::new();
    let content = sketch.content(b"x");
    sketch.tree.inodes.push(inode(Kind::File(content), 0o644));
    sketch.tree.paths.insert(b"missing/file".to_vec(), 1);
    assert_eq!(refusal(&sketch), "/missing/file has no parent directory in the tree");
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
