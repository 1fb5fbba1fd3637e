//! What a host's state is after boots of its slots, and after power cuts between any two steps of them.

use std::cell::{Cell, RefCell};
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

/// Power goes at a step; content that was not synced by then is lost, though names may be there.
struct Cut {
    left: Cell<usize>,
    taken: Cell<usize>,
    volatile: RefCell<Vec<PathBuf>>,
}

impl Cut {
    fn after(steps: usize) -> Self {
        Self { left: Cell::new(steps), taken: Cell::default(), volatile: RefCell::default() }
    }

    fn ask(&self, step: Step<'_>) -> io::Result<()> {
        if self.left.get() == 0 {
            self.lose();
            if let Step::Remove(path) = step {
                remove_some(path);
            }
            return Err(io::Error::other("the power is gone"));
        }
        self.left.set(self.left.get() - 1);
        self.taken.set(self.taken.get() + 1);
        match step {
            Step::Make(path) => self.volatile.borrow_mut().push(path.to_owned()),
            Step::Rename(from, to) => {
                for path in self.volatile.borrow_mut().iter_mut() {
                    if let Ok(rest) = path.strip_prefix(from) {
                        *path = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
                    }
                }
            }
            Step::Sync => self.volatile.borrow_mut().clear(),
            Step::Remove(_) | Step::Write(_) | Step::Copy => {}
        }
        Ok(())
    }

    fn lose(&self) {
        for path in self.volatile.borrow_mut().drain(..) {
            if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file()) {
                fs::write(&path, "").unwrap();
            }
        }
    }
}

/// A removal that was cut off.
fn remove_some(path: &Path) {
    let mut entries = fs::read_dir(path).into_iter().flatten().flatten();
    if let Some(entry) = entries.next() {
        let path = entry.path();
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }
}

/// Power goes at each step of `act`, and at each step of what is done again after that; done again without a cut it has to
/// end as if there had been none. Says how many steps there are.
fn every_cut(start: impl Fn() -> State, act: impl Fn(&State, &Hands<'_>)) -> usize {
    let count = |cut: &Cut, state: &State| {
        act(state, &Hands::that_ask(&|step| cut.ask(step)));
        cut.taken.get()
    };
    let whole = start();
    let steps = count(&Cut::after(usize::MAX), &whole);
    let expected = whole.all();
    for first in 0..steps {
        for second in [usize::MAX].into_iter().chain((0..steps).step_by(3)) {
            let state = start();
            count(&Cut::after(first), &state);
            count(&Cut::after(second), &state);
            act(&state, &Hands::default());
            assert_eq!(state.all(), expected, "cut at step {first} of {steps}, then at {second}");
        }
    }
    steps
}

/// A boot whose power may go.
fn try_boot(state: &State, hands: &Hands<'_>, slot: Slot) {
    let image = image(DECLARES);
    let _ = carry_out_reset(&state.layout, hands, &image, slot);
    let _ = prepare(&state.layout, hands, &image, slot);
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
    assert_eq!(room(&nothing.layout, B, &["lib/nothing".to_owned()]).unwrap(), Need::default());
}

#[test]
fn power_may_go_at_every_step_of_a_first_boot() {
    let steps = every_cut(staged, |state, hands| try_boot(state, hands, B));
    assert!(steps > 20, "{steps} steps");
}

#[test]
fn power_may_go_at_every_step_of_a_boot_that_something_follows_to() {
    let back = || {
        let state = staged();
        state.boot(B);
        state.put("b:shadow", "root:rotated\n");
        state.put("b:ssh/ssh_host_rsa_key", "secret");
        state.put("b:folder/one", "1");
        state.put("a:folder/two", "2");
        state.put("a:machine-id", "gone in b");
        state
    };
    let steps = every_cut(back, |state, hands| try_boot(state, hands, A));
    assert!(steps > 15, "{steps} steps");
}

#[test]
fn power_may_go_at_every_step_of_carrying() {
    let steps = every_cut(
        || {
            let state = staged();
            state.boot(B);
            state.put("b:hosts", "b's");
            state
        },
        |state, hands| drop(carry(&state.layout, hands, B, A)),
    );
    assert!(steps > 8, "{steps} steps");
}

/// What was staged must stand when it cannot be copied again, and the slot that ran is never touched.
#[test]
fn a_cut_first_boot_leaves_the_slot_before_it_as_it_was() {
    let total = {
        let (state, cut) = (staged(), Cut::after(usize::MAX));
        try_boot(&state, &Hands::that_ask(&|step| cut.ask(step)), B);
        cut.taken.get()
    };
    for steps in 0..total {
        let (state, cut) = (staged(), Cut::after(steps));
        try_boot(&state, &Hands::that_ask(&|step| cut.ask(step)), B);
        state.boot(A);
        for (path, text) in
            [("a:shadow", "root:old\n"), ("a:hosts", "at staging"), ("lib/app/data/db", "version 1")]
        {
            assert_eq!(state.get(path).as_deref(), Some(text), "{path} after {steps} steps");
        }
        assert_eq!(kept_in(&state, A), [""; 0]);
    }
}

#[test]
fn the_copy_of_the_staging_stands_where_it_cannot_be_made_again_after_a_cut() {
    let start = || {
        let state = staged();
        state.put("a:hosts", "after staging");
        state
    };
    for steps in 0..60 {
        let (state, cut) = (start(), Cut::after(steps));
        try_boot(&state, &Hands::that_ask(&|step| cut.ask(step)), B);
        let full = |step: Step<'_>| match step {
            Step::Make(path) if path.to_string_lossy().contains("/etc/b.new") => {
                Err(io::Error::other("no space"))
            }
            _ => Ok(()),
        };
        let prepared = prepare(&state.layout, &Hands::that_ask(&full), &image(DECLARES), B).unwrap();
        let hosts = state.get("b:hosts").unwrap_or_default();
        assert!(matches!(hosts.as_str(), "at staging" | "after staging"), "{hosts:?} after {steps} steps");
        let again =
            prepared.complaints.iter().any(|line| line.contains("has the /etc of when it was written"));
        assert!(again || hosts == "after staging", "{:?} after {steps} steps", prepared.complaints);
    }
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
        let stopped = prepare(&state.layout, &Hands::default(), &deep, B).unwrap_err();
        let says = stopped.reason.to_string();
        assert!(!stopped.again && says.contains("a symbolic link leads there"), "{says}");
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

fn asked(request: Request) -> State {
    let state = staged();
    state.boot(B);
    state.put("b:machine-id", "me");
    state.put("b:ssh/ssh_host_rsa_key", "secret");
    state.put("b:ssh/sshd_config", "changed");
    for (path, text) in
        [("lib/upright/state.json", "{}"), ("lib/upright/tuf/root.json", "{}"), ("lib/upright/filled", "")]
    {
        state.put(path, text);
    }
    state.put("log/journal/x", "y");
    request.leave(&state.layout).unwrap();
    state
}

#[test]
fn a_reset_empties_what_was_asked_for_and_keeps_what_the_agent_must_not_forget() {
    for (var, keep_identity) in [(false, false), (false, true), (true, false), (true, true)] {
        let request = Request { var, keep_identity };
        let state = asked(request);
        assert_eq!(Request::pending(&state.layout).unwrap(), Some(request));
        try_boot(&state, &Hands::default(), B);
        assert_eq!(Request::pending(&state.layout).unwrap(), None);
        let identity = keep_identity.then_some("secret");
        // A rollback brings nothing back.
        for round in 0..2 {
            for slot in ["a", "b"] {
                assert_eq!(
                    state.get(&format!("{slot}:ssh/ssh_host_rsa_key")).as_deref(),
                    identity,
                    "{request:?} {round}"
                );
                for gone in ["hosts", "shadow", "ssh/sshd_config"] {
                    assert_eq!(state.get(&format!("{slot}:{gone}")), None, "{gone} {request:?}");
                }
            }
            state.boot(A);
            state.boot(B);
        }
        for kept in ["lib/upright/state.json", "lib/upright/tuf/root.json"] {
            assert_eq!(state.get(kept).as_deref(), Some("{}"), "{request:?}");
        }
        for there in ["lib/upright/filled", "log/journal/x", "lib/other", "lib/app/data/db"] {
            assert_eq!(state.get(there).is_none(), var, "{there} {request:?}");
        }
        assert_eq!(kept_in(&state, B).is_empty(), var);
        assert!(!state.layout.own().join("reset-kept").exists());
    }
}

#[test]
fn a_slot_that_has_not_run_is_one_after_a_reset_too() {
    let state = staged();
    state.put("a:machine-id", "me");
    Request { var: false, keep_identity: true }.leave(&state.layout).unwrap();
    try_boot(&state, &Hands::default(), B);
    assert_eq!((state.get("b:machine-id").as_deref(), state.get("b:hosts")), (Some("me"), None));
    assert_eq!(kept_in(&state, B), ["lib/app", "lib/file.db"], "not on the only copy");
}

#[test]
fn power_may_go_at_every_step_of_a_reset() {
    for (var, keep_identity) in [(false, false), (true, true)] {
        let request = Request { var, keep_identity };
        let steps = every_cut(|| asked(request), |state, hands| try_boot(state, hands, B));
        assert!(steps > 5, "{steps} steps");
    }
}

#[test]
fn an_identity_that_is_declared_twice_is_kept_once() {
    let state = asked(Request { var: false, keep_identity: true });
    let declares =
        "sticky /etc/ssh\nidentity /etc/ssh\nidentity /etc/ssh/ssh_host_*\nidentity /etc/machine-*\n";
    let complaints = carry_out_reset(&state.layout, &Hands::default(), &image(declares), B).unwrap();
    assert_eq!(complaints, [""; 0]);
    for slot in ["a", "b"] {
        assert_eq!(state.get(&format!("{slot}:ssh/ssh_host_rsa_key")).as_deref(), Some("secret"));
        assert_eq!(state.get(&format!("{slot}:machine-id")).as_deref(), Some("me"));
    }
    assert_eq!(Request::pending(&state.layout).unwrap(), None);
}

#[test]
fn a_reset_ends_though_something_cannot_be_removed() {
    let state = asked(Request { var: true, keep_identity: true });
    let stubborn = |step: Step<'_>| match step {
        Step::Remove(path) if path.ends_with("etc/b") || path.ends_with("upright/versioned") => {
            Err(io::Error::other("operation not permitted"))
        }
        _ => Ok(()),
    };
    let hands = Hands::that_ask(&stubborn);
    let complaints = carry_out_reset(&state.layout, &hands, &image(DECLARES), B).unwrap();
    assert_eq!(complaints.len(), 2, "{complaints:?}");
    assert_eq!(Request::pending(&state.layout).unwrap(), None);
    state.boot(B);
    assert_eq!((state.get("b:machine-id").as_deref(), state.get("b:hosts")), (Some("me"), None));
    assert_eq!(kept_in(&state, B), [""; 0]);
}

#[test]
fn a_damaged_request_resets_nothing_and_loses_nothing_of_one_that_was_under_way() {
    let state = asked(Request { var: true, keep_identity: true });
    state.put("lib/upright/reset-kept/machine-id", "me");
    state.put("lib/upright/reset", "\0\0\0");
    try_boot(&state, &Hands::default(), B);
    assert!(Request::pending(&state.layout).is_err());
    assert_eq!(state.get("b:ssh/sshd_config").as_deref(), Some("changed"));
    assert_eq!(state.get("lib/upright/reset-kept/machine-id").as_deref(), Some("me"));
    Request::cancel(&state.layout).unwrap();
    assert_eq!(Request::pending(&state.layout).unwrap(), None);
}

#[test]
fn a_reset_can_be_taken_back() {
    let state = asked(Request { var: true, keep_identity: false });
    Request::cancel(&state.layout).unwrap();
    try_boot(&state, &Hands::default(), B);
    assert_eq!(state.get("b:ssh/sshd_config").as_deref(), Some("changed"));
    Request::cancel(&state.layout).unwrap();
}
