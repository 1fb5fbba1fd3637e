//! What a host's state is after boots of its slots.

mod absent;
mod cuts;
mod owed;
mod reset;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use upright_manifests::name::Slot;

use super::*;

/// An image: its files by path.
#[derive(Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Image for Files {
    fn file(&self, path: &str, _: usize) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(path).cloned())
    }
    fn names(&self, folder: &str) -> io::Result<Vec<String>> {
        let below = self.0.keys().filter_map(|path| path.strip_prefix(folder)?.strip_prefix('/'));
        Ok(below.map(str::to_owned).collect())
    }
}

/// An image that declares this.
fn image(declares: &str) -> Files {
    Files([("usr/lib/upright/state.d/50.conf".to_owned(), declares.as_bytes().to_vec())].into())
}

const DECLARES: &str = "accounts /etc/shadow\nsticky /etc/folder\nidentity /etc/machine-id\nidentity /etc/ssh/ssh_host_*\n\
                        versioned /var/lib/app\nversioned /var/lib/file.db\n";

struct State {
    _folder: TempDir,
    layout: Layout,
}

impl State {
    /// A host that ran slot a, with the same in /etc and /var as [`put`](Self::put) puts there.
    fn new(files: &[(&str, &str)]) -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap();
        let layout = Layout::of_var(&folder.path().join("var"));
        let state = Self { _folder: folder, layout };
        files.iter().for_each(|(path, text)| state.put(path, text));
        state
    }

    fn path(&self, path: &str) -> PathBuf {
        match path.split_once(':') {
            Some((slot, path)) => self.layout.upper(slot.parse().unwrap()).join(path),
            None => self.layout.var().join(path),
        }
    }

    /// Writes `a:path` below the upper folder of slot a, or `path` below /var.
    fn put(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.path(path)).unwrap();
    }

    fn get(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok()
    }

    /// What a slot that is booted sees of a path below /var.
    fn sees(&self, slot: Slot, path: &str) -> Option<String> {
        let copies = kept(&self.layout, slot).unwrap();
        let at = match copies.iter().any(|copy| path == copy || path.starts_with(&format!("{copy}/"))) {
            true => self.layout.versioned(slot).join("files").join(path),
            false => self.layout.var().join(path),
        };
        fs::read_to_string(at).ok()
    }

    fn boot(&self, slot: Slot) -> Prepared {
        self.boot_of(&image(DECLARES), slot)
    }

    fn boot_of(&self, image: &Files, slot: Slot) -> Prepared {
        let prepared = prepare(&self.layout, &Hands::default(), image, slot).unwrap();
        assert_eq!(prepared.complaints, [""; 0]);
        prepared
    }

    fn stage(&self, from: Slot, to: Slot) {
        carry(&self.layout, &Hands::default(), from, to).unwrap();
    }

    /// Everything that is there: path, mode and content.
    fn all(&self) -> BTreeMap<String, (u32, String)> {
        let mut all = BTreeMap::new();
        let mut open = vec![self.layout.var().to_owned()];
        while let Some(path) = open.pop() {
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            let content = if meta.is_file() { fs::read_to_string(&path).unwrap() } else { String::new() };
            all.insert(
                path.strip_prefix(self.layout.var()).unwrap().display().to_string(),
                (meta.mode(), content),
            );
        }
        all
    }
}

use Slot::{A, B};

/// Slot a ran, slot b was written.
fn staged() -> State {
    let state = State::new(&[
        ("a:shadow", "root:old\n"),
        ("a:hosts", "at staging"),
        ("lib/app/data/db", "version 1"),
        ("lib/app/kept", "x"),
        ("lib/file.db", "file 1"),
        ("lib/other", "never versioned"),
    ]);
    state.boot(A);
    state.stage(A, B);
    state
}

#[test]
fn the_slot_that_ran_last_is_what_a_new_one_begins_with() {
    let state = staged();
    // Between staging and the reboot the host goes on.
    state.put("a:hosts", "after staging");
    state.put("a:new", "1");
    state.put("lib/app/data/db", "version 1, more");
    state.boot(B);
    assert_eq!(state.get("b:hosts").as_deref(), Some("after staging"));
    assert_eq!(state.get("b:new").as_deref(), Some("1"));
    assert_eq!(state.sees(B, "lib/app/data/db").as_deref(), Some("version 1, more"));
    // From its second boot on it has its own.
    state.put("a:hosts", "nobody runs a");
    state.boot(B);
    assert_eq!(state.get("b:hosts").as_deref(), Some("after staging"));
}

#[test]
fn configuration_and_databases_come_back_and_passwords_stay() {
    let state = staged();
    let mounts = state.boot(B).mounts;
    let over: Vec<_> =
        mounts.iter().map(|mount| mount.over.strip_prefix(state.layout.var()).unwrap()).collect();
    assert_eq!(over, [Path::new("lib/app"), Path::new("lib/file.db")]);
    fs::write(mounts[0].from.join("data/db"), "version 2").unwrap();
    fs::remove_file(mounts[0].from.join("kept")).unwrap();
    state.put("b:hosts", "new release's");
    state.put("b:shadow", "root:rotated\n");
    // Back.
    assert_eq!(state.boot(A).mounts, []);
    assert_eq!(state.get("a:hosts").as_deref(), Some("at staging"));
    assert_eq!(state.get("a:shadow").as_deref(), Some("root:rotated\n"));
    assert_eq!(state.sees(A, "lib/app/data/db").as_deref(), Some("version 1"));
    assert_eq!(state.sees(A, "lib/app/kept").as_deref(), Some("x"));
    // And forward: a password of this side follows, the migrated database is as it was left.
    state.put("a:shadow", "root:again\n");
    state.boot(B);
    assert_eq!(state.get("b:shadow").as_deref(), Some("root:again\n"));
    assert_eq!(state.get("b:hosts").as_deref(), Some("new release's"));
    assert_eq!(state.sees(B, "lib/app/data/db").as_deref(), Some("version 2"));
}

#[test]
fn what_is_sticky_follows_with_folders_links_and_absence() {
    let state = staged();
    state.boot(B);
    state.put("b:ssh/ssh_host_rsa_key", "secret");
    fs::set_permissions(state.path("b:ssh/ssh_host_rsa_key"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(state.path("b:ssh"), fs::Permissions::from_mode(0o711)).unwrap();
    state.put("b:ssh/sshd_config", "stays in b");
    state.put("b:folder/one", "1");
    symlink("../x", state.path("b:machine-id")).unwrap();
    state.remove("b:shadow");
    state.boot(A);
    assert_eq!(state.get("a:ssh/ssh_host_rsa_key").as_deref(), Some("secret"));
    let mode = |path: &str| fs::symlink_metadata(state.path(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("a:ssh/ssh_host_rsa_key"), mode("a:ssh")), (0o600, 0o711));
    assert_eq!(fs::read_link(state.path("a:machine-id")).unwrap(), Path::new("../x"));
    assert_eq!((state.get("a:ssh/sshd_config"), state.get("a:shadow")), (None, None));
    // A folder is what it is on the other side, not both together.
    state.put("a:folder/two", "2");
    state.remove("a:folder/one");
    state.boot(B);
    assert_eq!((state.get("b:folder/one"), state.get("b:folder/two").as_deref()), (None, Some("2")));
    assert_eq!(state.get("b:ssh/sshd_config").as_deref(), Some("stays in b"));
}

#[test]
fn users_that_only_the_image_knows_are_there_in_every_slot() {
    let state = staged();
    let mut release = image(DECLARES);
    release.0.insert("etc/shadow".to_owned(), b"root:*\ndb:!\n".to_vec());
    fs::set_permissions(state.path("a:shadow"), fs::Permissions::from_mode(0o640)).unwrap();
    state.boot_of(&release, B);
    assert_eq!(state.get("b:shadow").as_deref(), Some("root:old\ndb:!\n"));
    assert_eq!(fs::metadata(state.path("b:shadow")).unwrap().mode() & 0o7777, 0o640);
    // The other way round, too, and a user that was deleted stays deleted.
    state.put("b:shadow", "root:old\ndb:!\nanna:!\n");
    state.boot(A);
    state.put("a:shadow", "root:old\n");
    state.boot_of(&release, B);
    assert_eq!(state.get("b:shadow").as_deref(), Some("root:old\ndb:!\n"));
}

#[test]
fn a_path_stays_versioned_though_the_next_release_does_not_say_so() {
    let state = staged();
    let mounts = state.boot(B).mounts;
    fs::write(mounts[0].from.join("data/db"), "version 2").unwrap();
    state.stage(B, A);
    let prepared = state.boot_of(&image("versioned /var/lib/app/data\n"), A);
    assert_eq!(prepared.mounts.len(), 2);
    assert_eq!(state.sees(A, "lib/app/data/db").as_deref(), Some("version 2"));
}

#[test]
fn a_wider_path_takes_what_was_versioned_in_it_from_where_that_is() {
    let state = staged();
    let mounts = state.boot_of(&image("versioned /var/lib/app/data\n"), B).mounts;
    fs::write(mounts[0].from.join("db"), "version 2").unwrap();
    state.put("lib/app/kept", "y");
    state.stage(B, A);
    let prepared = state.boot(A);
    assert_eq!(prepared.mounts.len(), 2);
    assert_eq!(state.sees(A, "lib/app/data/db").as_deref(), Some("version 2"));
    assert_eq!(state.sees(A, "lib/app/kept").as_deref(), Some("y"));
}

#[test]
fn a_release_does_not_start_on_the_only_copy() {
    let state = staged();
    fs::remove_dir_all(state.path("lib/app")).unwrap();
    symlink("other", state.path("lib/app")).unwrap();
    let boot = || prepare(&state.layout, &Hands::default(), &image(DECLARES), B).unwrap_err();
    let stopped = boot();
    assert!(
        stopped.again && stopped.reason.to_string().contains("a symbolic link leads there"),
        "{stopped:?}"
    );
    assert!(is_fresh(&state.layout, B).unwrap());
    let kept = super::stopped(&state.layout, B).unwrap();
    assert!(kept.starts_with("/var/lib/app cannot be kept for each slot"), "{kept}");
    // The other slot boots, and the mark stays.
    state.boot(A);
    assert!(super::stopped(&state.layout, B).is_some() && is_fresh(&state.layout, B).unwrap());
    // A machine that has nothing else to boot comes up in the end, with its data out of reach.
    assert!((0..20).map(|_| boot().again).any(|again| !again));
    // Once it can be done, it is.
    state.remove("lib/app");
    state.put("lib/app/data/db", "version 1");
    state.boot(B);
    assert_eq!(super::stopped(&state.layout, B), None);
    assert_eq!(kept_in(&state, B), ["lib/app", "lib/file.db"]);
}

/// What cannot be read is not taken for something that is not there.
#[test]
fn data_that_cannot_be_reached_is_not_replaced_by_what_the_other_slot_has() {
    let state = staged();
    state.boot(B);
    let boot = |slot| prepare(&state.layout, &Hands::default(), &image(DECLARES), slot);
    fs::remove_file(state.path("lib/upright/versioned/b/paths")).unwrap();
    assert!(!boot(B).unwrap_err().again, "b has copies, and nobody knows which");
    state.put("lib/upright/versioned/b/paths", "lib/app\n");
    fs::remove_dir_all(state.path("lib/upright/versioned/b/files/lib/app")).unwrap();
    assert!(!boot(B).unwrap_err().again, "its copy is lost");
    state.stage(B, A);
    let stopped = boot(A).unwrap_err();
    assert!(stopped.again && stopped.reason.to_string().contains("the copy of the slot that runs is gone"));
    state.put("lib/upright/fresh", "?");
    assert!(!boot(A).unwrap_err().again);
    // Nor is an image whose declarations cannot be read one that declares nothing.
    struct Broken;
    impl Image for Broken {
        fn file(&self, _: &str, _: usize) -> io::Result<Option<Vec<u8>>> {
            Err(io::Error::other("input/output error"))
        }
        fn names(&self, _: &str) -> io::Result<Vec<String>> {
            Err(io::Error::other("input/output error"))
        }
    }
    let state = staged();
    assert!(prepare(&state.layout, &Hands::default(), &Broken, B).is_err());
    assert!(prepare(&state.layout, &Hands::default(), &Broken, A).is_ok());
}

fn kept_in(state: &State, slot: Slot) -> Vec<String> {
    kept(&state.layout, slot).unwrap()
}

#[test]
fn room_is_counted_before_anything_is_copied() {
    let state = staged();
    let paths = ["lib/app".to_owned(), "lib/nothing".to_owned()];
    let before = room(&state.layout, B, &paths).unwrap();
    let file = fs::File::create(state.path("lib/app/data/large")).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 3 << 20).unwrap();
    let need = room(&state.layout, B, &paths).unwrap();
    assert_eq!(need.needed - before.needed, 3 << 20);
    // So is what is copied for the slot's /etc.
    let file = fs::File::create(state.path("a:large")).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 1 << 20).unwrap();
    assert_eq!(room(&state.layout, B, &paths).unwrap().needed - before.needed, 4 << 20);
    assert_eq!(Need { needed: 7, available: 5 }.missing(), 2);
    // What the slot has for the release before is removed first.
    state.boot(B);
    let freed = room(&state.layout, B, &paths).unwrap();
    assert!(freed.available >= freed.needed + (3 << 20));
    let nothing = State::new(&[]);
    let need = room(&nothing.layout, B, &["lib/nothing".to_owned()]).unwrap();
    assert!(need.needed == 0 && need.available > 0, "{need:?}");
}

/// The system runs while its /etc is copied.
#[test]
fn a_file_that_vanishes_while_etc_is_carried_is_left_out() {
    let state = staged();
    state.put("a:gone", "x");
    let vanish = |step: Step<'_>| match step {
        Step::Make(path) if path.ends_with("upper/gone") => fs::remove_file(state.path("a:gone")),
        _ => Ok(()),
    };
    carry(&state.layout, &Hands::that_ask(&vanish), A, B).unwrap();
    assert_eq!((state.get("b:gone"), state.get("b:hosts").as_deref()), (None, Some("at staging")));
}

/// A password that somebody got to know was changed between staging and reboot, and /etc cannot be copied again.
#[test]
fn what_follows_the_host_follows_where_the_copy_of_the_staging_stands() {
    let state = staged();
    state.put("a:hosts", "after staging");
    state.put("a:shadow", "root:rotated\n");
    state.put("a:ssh/ssh_host_rsa_key", "secret");
    let boot = |full: &str| {
        let refuse = |step: Step<'_>| match step {
            Step::Make(path) if path.to_string_lossy().contains(full) => Err(io::Error::other("no space")),
            _ => Ok(()),
        };
        prepare(&state.layout, &Hands::that_ask(&refuse), &image(DECLARES), B)
    };
    // A rollback would bring the old one back for good, so it is not to run like this.
    let stopped = boot("/etc/b").unwrap_err();
    assert!(stopped.again && stopped.reason.to_string().contains("does not follow"), "{stopped:?}");
    assert!(is_fresh(&state.layout, B).unwrap());
    let complaints = boot("/etc/b.new").unwrap().complaints;
    assert!(complaints.iter().any(|line| line.contains("has the /etc of when it was written")));
    assert_eq!(state.get("b:hosts").as_deref(), Some("at staging"));
    assert_eq!(state.get("b:shadow").as_deref(), Some("root:rotated\n"));
    assert_eq!(state.get("b:ssh/ssh_host_rsa_key").as_deref(), Some("secret"));
    state.boot(A);
    assert_eq!(state.get("a:shadow").as_deref(), Some("root:rotated\n"));
}

/// Puts something in the place of a folder that no look at what is in it gets through.
fn make_unreadable(folder: &Path) {
    fs::rename(folder, folder.with_extension("away")).unwrap();
    symlink(folder.file_name().unwrap(), folder).unwrap();
}

#[test]
fn what_cannot_be_looked_at_is_not_taken_for_what_is_not_there() {
    let state = staged();
    state.boot(B);
    make_unreadable(&state.layout.etc(B));
    let complaints = prepare(&state.layout, &Hands::default(), &image(DECLARES), A).unwrap().complaints;
    assert!(
        complaints.iter().any(|line| line.contains("/etc/shadow does not follow from slot b")),
        "{complaints:?}"
    );
    assert_eq!(state.get("a:shadow").as_deref(), Some("root:old\n"), "removed");
    // Nor does a slot begin with the image's /etc because nobody could see what was changed.
    let state = staged();
    make_unreadable(&state.layout.etc(A));
    assert!(carry(&state.layout, &Hands::default(), A, B).is_err());
    assert_eq!(state.get("b:hosts").as_deref(), Some("at staging"));
    assert!(prepare(&state.layout, &Hands::default(), &image(DECLARES), B).unwrap_err().again);
}

#[test]
fn nothing_is_mounted_or_copied_through_a_link() {
    for replaced in ["lib/app", "lib/app/sub"] {
        let state = staged();
        state.put("lib/app/sub/data/db", "version 1");
        state.put("victim/data/db", "somebody else's");
        let deep = image("versioned /var/lib/app/sub/data\n");
        assert_eq!(state.boot_of(&deep, B).mounts.len(), 1);
        fs::rename(state.path(replaced), state.path("lib/away")).unwrap();
        symlink(state.path("victim"), state.path(replaced)).unwrap();
        // Whoever puts it there does not keep the host from its state.
        for complaints in [1, 0] {
            let prepared = prepare(&state.layout, &Hands::default(), &deep, B).unwrap();
            assert_eq!(prepared.complaints.len(), complaints, "{prepared:?}");
            let over = &prepared.mounts[0].over;
            assert_eq!((over, over.canonicalize().unwrap()), (&state.path("lib/app/sub/data"), over.clone()));
        }
        fs::remove_dir_all(state.path(replaced)).unwrap();
        symlink(state.path("victim"), state.path(replaced)).unwrap();
        // A wider path, in whose copy that of the narrower one takes its place.
        state.stage(B, A);
        assert!(prepare(&state.layout, &Hands::default(), &image(DECLARES), A).is_err());
        assert_eq!(state.get("victim/data/db").as_deref(), Some("somebody else's"));
    }
}

#[test]
fn a_damaged_mark_keeps_no_slot_down_that_ran_last() {
    let state = staged();
    state.put("lib/upright/fresh", "\0");
    let prepared = prepare(&state.layout, &Hands::default(), &image(DECLARES), A).unwrap();
    assert!(prepared.complaints.iter().any(|line| line.contains("this slot ran last")), "{prepared:?}");
    assert!(!prepare(&state.layout, &Hands::default(), &image(DECLARES), B).unwrap_err().again);
}

#[test]
fn a_user_of_the_image_gets_no_group_of_somebody_elses() {
    let state = staged();
    let declares = "accounts /etc/passwd\naccounts /etc/group\n";
    let mut release = image(declares);
    release.0.insert("etc/passwd".to_owned(), b"root:x:0:0:::\ndb:x:105:105:::\nweb:x:106:106:::\n".to_vec());
    release.0.insert("etc/group".to_owned(), b"root:x:0:\ndb:x:105:\nweb:x:106:\n".to_vec());
    state.put("a:passwd", "root:x:0:0:::\nanna:x:1000:1000:::\n");
    state.put("a:group", "root:x:0:\ncontractors:x:105:anna\n");
    let prepared = prepare(&state.layout, &Hands::default(), &release, B).unwrap();
    assert_eq!(
        state.get("b:passwd").as_deref(),
        Some("root:x:0:0:::\nanna:x:1000:1000:::\nweb:x:106:106:::\n")
    );
    assert!(
        prepared.complaints.iter().any(|line| line.starts_with("/etc/passwd lacks db of the image")),
        "{prepared:?}"
    );
}

/// As a tree that was unpacked in the wrong place may be.
#[test]
fn a_path_that_is_too_long_is_named() {
    use rustix::fs::{Mode, OFlags, mkdirat, openat};
    let state = staged();
    state.put("a:deep/file", "x");
    let mut at = fs::File::open(state.path("a:deep")).map(std::os::fd::OwnedFd::from).unwrap();
    let name = "d".repeat(200);
    for _ in 0..25 {
        mkdirat(&at, name.as_str(), Mode::RWXU).unwrap();
        at = openat(&at, name.as_str(), OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
    }
    let told = room(&state.layout, B, &[]).unwrap_err().to_string();
    let top = state.path("a:deep").display().to_string();
    assert!(told.contains(&top) && told.contains("ddd, a path of 4") && told.len() < 600, "{told}");
    let told = carry(&state.layout, &Hands::default(), A, B).unwrap_err().to_string();
    assert!(told.contains(&top) && told.contains("ddd, a path of 4"), "{told}");
}
