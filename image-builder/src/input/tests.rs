//! What inputs are recognised as, and folders.

use std::os::unix::fs::PermissionsExt;

use super::Source;
use super::tar::testing::Archive;
use super::testing::take;
use crate::tree::Kind;
use crate::tree::testing::Scratch;

fn detect(text: impl AsRef<std::ffi::OsStr>) -> Result<Source, String> {
    Source::detect(text.as_ref()).map_err(|error| format!("{error}: {}", error.reason))
}

#[test]
fn inputs_are_told_apart_by_looking() {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path().join(name);
    let write = |name: &str, archive: Archive| std::fs::write(path(name), archive.end()).expect("written");
    std::fs::create_dir(path("root")).expect("a folder");
    assert_eq!(detect(path("root")), Ok(Source::Directory(path("root"))));
    std::fs::write(path("root/oci-layout"), "{}").expect("written");
    assert_eq!(detect(path("root")), Ok(Source::OciLayout(path("root"))));
    write("tree", Archive::default().directory(b"./", 0o755).file(b"./bin", b"").file(b"oci-layout", b""));
    assert_eq!(detect(path("tree")), Ok(Source::Tar(path("tree"))));
    write(
        "oci",
        Archive::default().directory(b"blobs/", 0o755).file(b"blobs/sha256/x", b"x").file(b"oci-layout", b""),
    );
    assert_eq!(detect(path("oci")), Ok(Source::OciArchive(path("oci"))));
    assert_eq!(
        detect("ostree:/srv/repo:acme/x86-64/1"),
        Ok(Source::Ostree {
            repository: "/srv/repo".into(),
            reference: "acme/x86-64/1".into(),
            keys: Vec::new()
        })
    );
}

#[test]
fn what_is_no_input_is_refused_with_what_to_do() {
    let scratch = Scratch::new();
    let path = scratch.path().join("docker");
    let archive = Archive::default().file(&[b'a'; 64], b"").file(b"manifest.json", b"[]").end();
    std::fs::write(&path, archive).expect("written");
    let at = path.display();
    assert_eq!(
        detect(&path).expect_err("refused"),
        format!(
            "cannot take {at}: it is a docker archive: make an OCI archive of it with \
             skopeo copy docker-archive:{at} oci-archive:FILE"
        )
    );
    let folder = scratch.path().join("unpacked");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("manifest.json"), "[]").expect("written");
    let error = detect(&folder).expect_err("refused");
    assert!(error.contains("it is a docker archive that was unpacked: make an OCI archive"), "{error}");
    let named = Archive::default().file(b"config.json", b"{}").file(b"manifest.json", b"[]").end();
    std::fs::write(&path, named).expect("written");
    assert!(detect(&path).expect_err("refused").contains("it is a docker archive: "));
    drop(scratch.synced_store());
    let repository = scratch.path().join("ostree");
    let at = repository.display();
    assert_eq!(
        detect(&repository).expect_err("refused"),
        format!("cannot take {at}: it is an OSTree repository: name a tree as ostree:{at}:REF")
    );
    assert_eq!(
        detect("ostree:/srv/repo").expect_err("refused"),
        "cannot take ostree:/srv/repo: an OSTree tree is named as ostree:REPOSITORY:REF"
    );
    let error = take(format!("ostree:{at}:none")).err().expect("refused");
    assert_eq!(
        error,
        format!("cannot take {at}: the tree store {at} has no none: ostree refs lists what it has")
    );
    assert_eq!(
        detect("/nonexistent").expect_err("refused"),
        "cannot take /nonexistent: No such file or directory (os error 2)"
    );
}

#[test]
fn a_file_beyond_reason_is_refused_before_it_is_read() {
    let scratch = Scratch::new();
    let root = scratch.path().join("root");
    std::fs::create_dir(&root).expect("a folder");
    let file = std::fs::File::create(root.join("huge")).expect("a file");
    file.set_len(70 << 30).expect("a hole");
    let error = take(&root).err().expect("refused");
    assert!(error.ends_with("huge is 75161927680 bytes long: at most 68719476736 are taken"), "{error}");
}

#[test]
fn a_folder_is_taken_as_it_stands() {
    let scratch = Scratch::new();
    let root = scratch.path().join("root");
    std::fs::create_dir_all(root.join("empty")).expect("folders");
    std::fs::write(root.join("tool"), "tool").expect("written");
    std::fs::set_permissions(root.join("tool"), PermissionsExt::from_mode(0o4711)).expect("a mode");
    std::fs::hard_link(root.join("tool"), root.join("tool2")).expect("linked");
    std::os::unix::fs::symlink("/etc", root.join("link")).expect("linked");
    rustix::fs::lsetxattr(root.join("empty"), "user.note", b"a\0b", rustix::fs::XattrFlags::empty())
        .expect("set");
    let pipe = std::process::Command::new("mkfifo").arg(root.join("pipe")).status().expect("mkfifo runs");
    assert!(pipe.success());
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).expect("a socket");
    let taken = take(&root).expect("taken");
    assert_eq!(taken.paths(), ["", "empty", "link", "pipe", "socket", "tool", "tool2"]);
    assert_eq!(taken.tree.inode(b"empty").expect("a folder").xattrs[&b"user.note"[..]], b"a\0b");
    assert_eq!(taken.tree.inode(b"tool").expect("a file").mode, 0o4711);
    assert_eq!(taken.tree.paths[&b"tool"[..]], taken.tree.paths[&b"tool2"[..]]);
    assert_eq!(taken.content(b"tool2"), b"tool");
    let kind = |path: &[u8]| taken.tree.inode(path).map(|inode| inode.kind.clone());
    assert_eq!(kind(b"link"), Some(Kind::Symlink(b"/etc".to_vec())));
    assert_eq!((kind(b"pipe"), kind(b"socket")), (Some(Kind::Fifo), Some(Kind::Socket)));
    let modified =
        std::fs::metadata(root.join("socket")).and_then(|metadata| metadata.modified()).expect("a time");
    let seconds = modified.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    assert_eq!(taken.newest, seconds);
}
