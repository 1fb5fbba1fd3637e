//! What a user of the store relies on: trees come back as they were, and `ostree` understands what is there.

use std::io::Read;

use proptest::prelude::*;

use super::testing::{Draft, Drafts, Scratch, attributes, info, plain, small_tree, store_drafts};
use super::*;

fn read(contents: &dyn Contents, content: &Content) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    contents.open(content)?.read_to_end(&mut bytes).map(|_| bytes)
}

#[test]
fn a_tree_of_everything_comes_back() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let batch = store.begin().expect("a batch");
    let tree = store_drafts(&batch, &small_tree());
    let commit = batch.commit(&tree, &info("1")).expect("committed");
    let loaded = Store::open(store.path()).expect("opened").load("acme/x86-64/1").expect("loaded");
    assert_eq!(loaded, Loaded { tree, commit, version: "1".into(), time: 1_700_000_000 });
    let Some(Kind::File(ping)) = loaded.tree.inode(b"ping").map(|inode| &inode.kind) else {
        panic!("no file")
    };
    assert_eq!(read(&store, ping).expect("read"), b"ping\n");
    assert_eq!(ping.sha256, Digest::of(b"ping\n"));
}

#[test]
fn ostree_reads_what_was_committed() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let mut drafts = small_tree();
    scratch.commit(&store, &drafts, "1");
    drafts.push(plain(b"new", 0o755, Kind::Directory));
    drafts.push((vec![b"other".to_vec()], Draft::File(attributes(0o644), b"x".to_vec())));
    scratch.commit(&store, &drafts, "2");
    assert!(scratch.ostree(&["fsck"]).contains("object fsck of 2 commits completed successfully"));
    let refs = scratch.ostree(&["refs"]);
    assert!(refs.contains("acme/x86-64/1\n") && refs.contains("acme/x86-64/2\n"), "{refs}");
    let diff = scratch.ostree(&["diff", "acme/x86-64/1", "acme/x86-64/2"]);
    let mut lines: Vec<&str> = diff.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A    /new", "A    /other"]);
    let list = scratch.ostree(&["ls", "-R", "acme/x86-64/1"]);
    for line in
        ["-04755 7 4000000000      5 /ping", "d00700 0 0      0 /caf%e9%", "l00777 0 0      0 /link -> café"]
    {
        assert!(list.contains(line), "{line} in {list}");
    }
    assert!(scratch.ostree(&["log", "acme/x86-64/2"]).contains("Version: 2"));
}

#[test]
fn equal_trees_make_equal_commits_in_any_store() {
    let [one, two] = [Scratch::new(), Scratch::new()].map(|scratch| {
        let store = scratch.store();
        (scratch.commit(&store, &small_tree(), "1"), scratch.commit(&store, &small_tree(), "2"))
    });
    assert_eq!(one, two);
    assert_ne!(one.0, one.1);
}

/// Pinned: a change here changes the checksum of every commit to come.
#[test]
fn the_commit_of_a_known_tree_is_known() {
    let scratch = Scratch::new();
    let commit = scratch.commit(&scratch.store(), &small_tree(), "1");
    assert_eq!(commit.to_string(), "783262c2561ff2541747dab296e326d3749f8379b30fe1c5169324554adb9759");
}

#[test]
fn equal_files_are_kept_once() {
    let scratch = Scratch::new();
    let store = scratch.store();
    scratch.commit(&store, &small_tree(), "1");
    let objects = || {
        let objects = std::fs::read_dir(store.path().join("objects")).expect("a folder");
        objects
            .flat_map(|entry| std::fs::read_dir(entry.expect("an entry").path()).expect("a folder"))
            .count()
    };
    let before = objects();
    scratch.commit(&store, &small_tree(), "2");
    assert_eq!(objects(), before + 1, "the commit alone is new");
}

#[test]
fn a_batch_that_is_dropped_leaves_nothing() {
    let scratch = Scratch::new();
    let store = scratch.synced_store();
    let batch = store.begin().expect("a batch");
    let tree = store_drafts(&batch, &small_tree());
    drop(batch);
    assert_eq!(store.refs("").expect("refs"), []);
    let Some(Kind::File(ping)) = tree.inode(b"ping").map(|inode| &inode.kind) else { panic!("no file") };
    assert_eq!(read(&store, ping).expect_err("not there").kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn damaged_content_is_never_read_to_its_end() {
    let scratch = Scratch::new();
    let store = scratch.store();
    scratch.commit(&store, &small_tree(), "1");
    let loaded = store.load("acme/x86-64/1").expect("loaded");
    let Some(Kind::File(ping)) = loaded.tree.inode(b"ping").map(|inode| &inode.kind) else {
        panic!("no file")
    };
    let name = ping.object.to_string();
    let path = store.path().join("objects").join(&name[..2]).join(format!("{}.file", &name[2..]));
    for damage in [&b"pong\n"[..], b"ping", b"ping\n\n"] {
        std::fs::write(&path, damage).expect("written");
        let error = read(store.objects(), ping).expect_err("refused").to_string();
        assert_eq!(error, format!("{} is damaged: ostree fsck names all such objects", path.display()));
    }
}

#[test]
fn content_that_ends_early_is_refused() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let batch = store.begin().expect("a batch");
    let error = batch.write_file(&attributes(0o644), 5, &mut &b"four"[..]).expect_err("refused").to_string();
    assert_eq!(error, "it ends before its stated length");
}

#[test]
fn attributes_that_no_object_holds_are_refused_in_words() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let batch = store.begin().expect("a batch");
    // one more than Linux takes for the one attribute that OSTree keeps them in
    let xattrs = (0..2).map(|name| (format!("user.{name}").into_bytes(), vec![0; 40_000])).collect();
    let many = Attributes { mode: 0o644, xattrs, ..Attributes::default() };
    let error = batch.write_file(&many, 0, &mut &b""[..]).expect_err("refused").to_string();
    let place = store.path().display();
    assert_eq!(
        error,
        format!(
            "cannot store a file with 80012 bytes of extended attributes in the tree store {place}: \
             put the store on a file system that holds them, such as xfs or btrfs"
        )
    );
    let xattrs = [(b"user.x".to_vec(), vec![0; 65537])].into();
    let long = Attributes { mode: 0o644, xattrs, ..Attributes::default() };
    let error = batch.write_file(&long, 0, &mut &b""[..]).expect_err("refused").to_string();
    assert_eq!(
        error,
        "its extended attribute user.x has 65537 bytes, and Linux holds 65536 at most; leave it out"
    );
}

#[test]
fn what_is_not_there_is_named() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let place = store.path().display().to_string();
    let error = store.load("acme/x86-64/9").expect_err("refused").to_string();
    assert_eq!(error, format!("the tree store {place} has no acme/x86-64/9: ostree refs lists what it has"));
    std::fs::create_dir(scratch.path().join("empty")).expect("a folder");
    assert!(Store::open(&scratch.path().join("empty")).is_err());
    let archive = scratch.path().join("archive");
    let mut init = std::process::Command::new("ostree");
    init.args(["init", "--mode=archive", "--repo"]).arg(&archive);
    assert!(init.status().expect("ostree runs").success());
    let error = Store::open(&archive).err().expect("refused").to_string();
    let place = archive.display();
    assert_eq!(error, format!("tree store {place} is a repository in archive mode: it must be bare-user"));
}

#[test]
fn a_commit_of_another_program_is_not_loaded() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let folder = scratch.path().join("root");
    std::fs::create_dir(&folder).expect("a folder");
    let tree = format!("--tree=dir={}", folder.display());
    scratch.ostree(&["commit", "-b", "foreign", &tree]);
    let error = store.load("foreign").expect_err("refused").to_string();
    assert!(error.ends_with("cannot be read: it was not made by upright-build"), "{error}");
}

/// Set in the process that is to die while it stores a tree.
const VICTIM: &str = "UPRIGHT_TEST_VICTIM_STORE";

#[test]
fn a_process_that_dies_leaves_a_whole_store() {
    if let Some(path) = std::env::var_os(VICTIM) {
        let store = Store::open(path.as_ref()).expect("a store");
        let batch = store.begin().expect("a batch");
        store_drafts(&batch, &small_tree());
        std::process::abort();
    }
    let scratch = Scratch::new();
    let store = scratch.synced_store();
    let first = scratch.commit(&store, &vec![plain(b"", 0o755, Kind::Directory)], "0");
    let victim = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "tree::tests::a_process_that_dies_leaves_a_whole_store"])
        .env(VICTIM, store.path())
        .output()
        .expect("started");
    assert!(!victim.status.success(), "the victim lives");
    drop(store);
    let store = Store::open(&scratch.path().join("ostree")).expect("opened");
    assert_eq!(store.refs("").expect("refs"), [("acme/x86-64/0".to_owned(), first)]);
    assert!(scratch.ostree(&["fsck"]).contains("of 1 commits completed successfully"));
    scratch.commit(&store, &small_tree(), "1");
    store.load("acme/x86-64/1").expect("loaded");
    assert!(scratch.ostree(&["fsck"]).contains("of 2 commits completed successfully"));
}

fn any_attributes() -> impl Strategy<Value = Attributes> {
    let xattr = (r"(user|trusted)\.[a-z]{1,3}", prop::collection::vec(any::<u8>(), 0..4));
    let xattrs = prop::collection::btree_map(xattr.0.prop_map(String::into_bytes), xattr.1, 0..3);
    (0_u16..0o10000, any::<u32>(), any::<u32>(), xattrs).prop_map(|(mode, uid, gid, xattrs)| Attributes {
        mode,
        uid,
        gid,
        xattrs,
    })
}

fn any_draft() -> impl Strategy<Value = Draft> {
    let device = || (0_u32..1 << 12, 0_u32..1 << 20).prop_map(|(major, minor)| Device { major, minor });
    let target = prop::collection::vec(1..=u8::MAX, 1..6);
    prop_oneof![
        4 => (any_attributes(), prop::collection::vec(any::<u8>(), 0..9))
            .prop_map(|(attributes, bytes)| Draft::File(attributes, bytes)),
        4 => (any_attributes(), prop_oneof![
            device().prop_map(Kind::CharDevice),
            device().prop_map(Kind::BlockDevice),
            target.prop_map(Kind::Symlink),
            Just(Kind::Fifo),
            Just(Kind::Socket),
        ])
        .prop_map(|(attributes, kind)| Draft::Plain(Inode { mode: attributes.mode, ..attributes.inode(kind) })),
    ]
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec![&b"a"[..], b"b", b"\xff", b"%ff", b"%ff%", b"\xe9\xff", "é".as_bytes(), b"\n"])
        .prop_map(<[u8]>::to_vec)
}

/// Files and hard links in a few directories with names that are hard on OSTree.
fn any_tree() -> impl Strategy<Value = Drafts> {
    let directories = prop::collection::btree_map(any_name(), any_attributes(), 0..4);
    let files =
        prop::collection::vec((any_draft(), prop::collection::vec((any_name(), any_name()), 1..3)), 0..8);
    (any_attributes(), directories, files).prop_map(|(root, directories, files)| {
        let mut taken = std::collections::BTreeSet::from([Vec::new()]);
        let mut drafts = vec![(vec![Vec::new()], Draft::Plain(root.inode(Kind::Directory)))];
        for (name, attributes) in &directories {
            taken.insert(name.clone());
            drafts.push((vec![name.clone()], Draft::Plain(attributes.clone().inode(Kind::Directory))));
        }
        for (draft, places) in files {
            let place = |(directory, name): (Vec<u8>, Vec<u8>)| match directories.contains_key(&directory) {
                true => [&directory[..], b"/", &name].concat(),
                false => name,
            };
            let paths: Vec<_> =
                places.into_iter().map(place).filter(|path| taken.insert(path.clone())).collect();
            if !paths.is_empty() {
                drafts.push((paths, draft));
            }
        }
        drafts
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_tree_comes_back(drafts in any_tree()) {
        let scratch = Scratch::new();
        let store = scratch.store();
        let batch = store.begin().expect("a batch");
        let tree = store_drafts(&batch, &drafts);
        prop_assert_eq!(tree.check(), Ok(()));
        batch.commit(&tree, &info("1")).expect("committed");
        prop_assert_eq!(store.load("acme/x86-64/1").expect("loaded").tree, tree);
    }
}
