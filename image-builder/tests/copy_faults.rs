//! Copies that are cut off, damaged, or find no room, and repositories that lost something: what is there stays whole, and the next run mends
//! it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod common;

use std::cell::Cell;
use std::fs;
use std::path::Path;

use common::copies::{Wanted, audit, channel, paths, team_shop, walk};
use common::{NOW, Shop, small};
use rustix::io::Errno;
use tempfile::TempDir;
use upright_image_builder::repo::check::{Source, check};
use upright_image_builder::repo::copy::into_file;
use upright_image_builder::repo::error::Class;
use upright_image_builder::repo::files::fake::CutOff;
use upright_image_builder::repo::files::{Files, OnDisk};
use upright_image_builder::repo::progress::Silent;

/// What a host finds that reads the copy; every object is read and compared.
fn versions(shop: &Shop, folder: &Path) -> Vec<String> {
    let root = fs::read(shop.root().join("root.json")).unwrap();
    let report = check(&Source::folder(folder.to_owned()).unwrap(), root, NOW, &Silent).unwrap();
    assert_eq!(report.errors, Vec::<String>::new());
    let mut found: Vec<String> = walk(&folder.join("releases"));
    found.retain(|name| report.releases > 0 && !name.is_empty());
    found
}

#[test]
fn a_mirror_that_is_cut_off_after_any_step_is_whole_and_is_finished_by_the_next() {
    let shop = Shop::new();
    small(&shop);
    shop.publish("1.0", "stable").unwrap();
    let first = TempDir::new().unwrap();
    Wanted::default().mirror(&shop, &first.path().join("m")).unwrap();
    shop.publish("1.1", "stable").unwrap();
    for prune in [false, true] {
        let (mut moved, mut ended) = (false, false);
        for steps in 0..400 {
            let place = TempDir::new().unwrap();
            let folder = place.path().join("m");
            assert!(
                std::process::Command::new("cp")
                    .arg("-r")
                    .arg(first.path().join("m"))
                    .arg(&folder)
                    .status()
                    .unwrap()
                    .success()
            );
            let old = fs::read(folder.join("metadata/timestamp.json")).unwrap();
            let files = CutOff::after(steps);
            let result = Wanted { files: &files, prune, ..Wanted::default() }.mirror(&shop, &folder);
            let now = fs::read(folder.join("metadata/timestamp.json")).unwrap();
            versions(&shop, &folder);
            assert!(now != old || !moved, "after {steps} steps");
            moved |= now != old;
            if result.is_ok() {
                assert!(steps > 20, "a mirror has more than {steps} steps");
                ended = true;
                break;
            }
            Wanted::default().mirror(&shop, &folder).unwrap();
            assert_eq!(walk(&folder.join("payloads")), walk(&shop.root().join("repository/payloads")));
            versions(&shop, &folder);
        }
        assert!(moved && ended);
    }
}

#[test]
fn an_export_that_is_cut_off_leaves_the_one_before() {
    let shop = Shop::new();
    small(&shop);
    shop.publish("1.0", "stable").unwrap();
    let place = TempDir::new().unwrap();
    let out = place.path().join("out.tar");
    let wanted = Wanted { pick: channel("stable"), ..Wanted::default() };
    wanted.copy(&shop, |copy| into_file(copy, &out)).unwrap();
    let old = fs::read(&out).unwrap();
    shop.publish("1.1", "stable").unwrap();
    for steps in 0..2 {
        let files = CutOff::after(steps);
        let wanted = Wanted { pick: channel("stable"), files: &files, ..Wanted::default() };
        wanted.copy(&shop, |copy| into_file(copy, &out)).unwrap_err();
        assert!(fs::read(&out).unwrap() == old, "after {steps} steps");
    }
    // An object that is not what was signed is in no export.
    let payloads = shop.root().join("repository/payloads");
    let payload = walk(&payloads).into_iter().find(|name| name.ends_with(".zst")).unwrap();
    for name in walk(&payloads).iter().filter(|name| name.ends_with(".zst")) {
        let mut bytes = fs::read(payloads.join(name)).unwrap();
        bytes[40] ^= 1;
        fs::write(payloads.join(name), bytes).unwrap();
    }
    let (class, says) = wanted.copy(&shop, |copy| into_file(copy, &out)).unwrap_err();
    assert!(class == Class::Unverified && says.contains("is not the"), "{says} {payload}");
    assert_eq!((walk(place.path()), fs::read(&out).unwrap() == old), (vec!["out.tar".to_owned()], true));
}

#[test]
fn a_digit_that_flipped_in_a_copy_does_not_stop_it_for_good() {
    let (shop, folder) = (Shop::new(), TempDir::new().unwrap());
    small(&shop);
    shop.publish("1.0", "stable").unwrap();
    Wanted::default().mirror(&shop, folder.path()).unwrap();
    let path = folder.path().join("metadata/timestamp.json");
    let text = fs::read_to_string(&path).unwrap();
    let at = text.find("\"version\":").unwrap()
        + text[text.find("\"version\":").unwrap()..].find(char::is_numeric).unwrap();
    let flipped = format!("{}9{}", &text[..at], &text[at + 1..]);
    assert_ne!(text, flipped);
    fs::write(&path, flipped).unwrap();
    Wanted::default().mirror(&shop, folder.path()).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_pipe_in_a_repository_is_not_waited_for() {
    let (shop, folder) = (Shop::new(), TempDir::new().unwrap());
    small(&shop);
    shop.publish("1.0", "stable").unwrap();
    let path = shop.root().join("repository/metadata/timestamp.json");
    fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let (_, line) = Wanted::default().mirror(&shop, folder.path()).unwrap_err();
    assert!(line.contains("not a regular file"), "{line}");
}

#[test]
fn two_do_not_write_one_mirror_at_once() {
    use rustix::fs::{FlockOperation, flock};
    let shop = Shop::new();
    small(&shop);
    shop.publish("1.0", "stable").unwrap();
    let place = TempDir::new().unwrap();
    fs::create_dir_all(place.path().join(".partial")).unwrap();
    let held = fs::File::open(place.path().join(".partial")).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    assert_eq!(Wanted::default().mirror(&shop, place.path()).unwrap_err().0, Class::Busy);
    drop(held);
    Wanted::default().mirror(&shop, place.path()).unwrap();
}

/// A repository with the channel beta of a team beside stable, both with a first release that was mirrored, and a second one since.
fn with_team(folder: &Path) -> Shop {
    let shop = team_shop();
    shop.publish("1.1", "beta").unwrap();
    Wanted::default().mirror(&shop, folder).unwrap();
    shop
}

/// Removes what was added to a folder of the repository.
fn lose(shop: &Shop, before: &[std::path::PathBuf], part: &str) {
    let folder = shop.root().join("repository");
    let added = paths(&folder).into_iter().filter(|path| !before.contains(path));
    for path in added.filter(|path| path.to_str().unwrap().contains(part)) {
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn what_a_team_lost_is_named_and_keeps_nobody_else_from_the_new_state() {
    for part in ["/payloads/", ".zst", "/releases/", "/channels/", "/deltas/"] {
        let place = TempDir::new().unwrap();
        let folder = place.path().join("m");
        let shop = with_team(&folder);
        let before = paths(&shop.root().join("repository"));
        shop.publish("1.2", "beta").unwrap();
        lose(&shop, &before, part);
        shop.publish("1.1", "stable").unwrap();
        let copied = Wanted::default().mirror(&shop, &folder).unwrap();
        assert!(!copied.missing.is_empty(), "{part}");
        let error = copied.require_all("there").unwrap_err();
        assert!(error.class() == Class::Unverified && error.to_string().contains("is not there"), "{error}");
        let report = audit(&shop, &folder);
        assert!(
            report.errors.iter().all(|error| !error.contains("1.0")) && !report.errors.is_empty(),
            "{report:?}"
        );
        // Alone, the team's channel stays what it was.
        let alone = place.path().join("alone");
        let wanted = Wanted { pick: channel("beta"), ..Wanted::default() };
        let outcome = wanted.mirror(&shop, &alone);
        // Without a delta there is still a way.
        assert_eq!(outcome.is_ok(), part == "/deltas/", "{part}");
        assert_eq!(alone.join("metadata/timestamp.json").exists(), part == "/deltas/");
    }
}

#[test]
fn a_state_that_the_publishers_own_hosts_could_not_take_is_not_made_visible_and_the_rest_is_copied() {
    for (part, visible) in [(".zst", false), ("/releases/", false), ("/channels/", false), ("/deltas/", true)]
    {
        let place = TempDir::new().unwrap();
        let folder = place.path().join("m");
        let shop = with_team(&folder);
        let old = fs::read(folder.join("metadata/timestamp.json")).unwrap();
        let before = paths(&shop.root().join("repository"));
        shop.publish("1.2", "stable").unwrap();
        lose(&shop, &before, part);
        let outcome = Wanted::default().mirror(&shop, &folder);
        let new = fs::read(folder.join("metadata/timestamp.json")).unwrap();
        assert_eq!((outcome.is_ok(), new != old), (visible, visible), "{part}");
        match outcome {
            Ok(copied) => assert!(!copied.missing.is_empty()),
            Err((class, line)) => {
                assert_eq!(class, Class::Unverified);
                assert!(
                    line.contains("stable")
                        && line.contains("is not there")
                        && line.contains("find the last state"),
                    "{line}"
                );
            }
        }
        // What there is of it came along.
        let objects = |root: &Path| ["payloads", "deltas"].map(|name| walk(&root.join(name))).concat();
        let (here, there) = (objects(&folder), objects(&shop.root().join("repository")));
        let wanted = if part == "/channels/" || part == "/releases/" { here.clone() } else { there };
        assert!(wanted.iter().all(|name| here.contains(name)), "{part}");
    }
}

/// A disk with so much room, which fails in the end.
struct Tight {
    free: u64,
    /// The number of steps that go through, and how those fail that follow.
    fails: (Cell<u64>, Errno),
}

impl Tight {
    fn with_room_for(free: u64) -> Self {
        Self { free, fails: (Cell::new(u64::MAX), Errno::NOSPC) }
    }

    fn failing_after(steps: u64, errno: Errno) -> Self {
        Self { free: u64::MAX, fails: (Cell::new(steps), errno) }
    }

    fn step(&self) -> std::io::Result<()> {
        let (left, errno) = &self.fails;
        left.set(left.get().checked_sub(1).ok_or_else(|| std::io::Error::from(*errno))?);
        Ok(())
    }
}

impl Files for Tight {
    fn create_folder(&self, path: &Path) -> std::io::Result<()> {
        self.step()?;
        OnDisk.create_folder(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        self.step()?;
        OnDisk.write(path, bytes)
    }

    fn sync(&self, path: &Path) -> std::io::Result<()> {
        self.step()?;
        OnDisk.sync(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.step()?;
        OnDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> std::io::Result<()> {
        self.step()?;
        OnDisk.remove(path)
    }

    fn free(&self, _: &Path) -> Option<u64> {
        Some(self.free)
    }
}

#[test]
fn what_does_not_fit_is_told_with_the_shortfall_before_anything_is_written() {
    let (shop, place) = (Shop::new(), TempDir::new().unwrap());
    small(&shop);
    shop.publish("1.0", "stable").unwrap();
    let (folder, file) = (place.path().join("m"), place.path().join("m.tar"));
    let tight = Tight::with_room_for(5000);
    let wanted = Wanted { files: &tight, pick: channel("stable"), ..Wanted::default() };
    let errors = [
        wanted.mirror(&shop, &folder).unwrap_err(),
        wanted.copy(&shop, |copy| into_file(copy, &file)).unwrap_err(),
    ];
    for (class, line) in errors {
        assert_eq!(class, Class::Failed);
        assert!(
            line.contains("which has room for 5.00 kB: ") && line.contains("too few; make room there"),
            "{line}"
        );
    }
    assert!(!file.exists() && walk(&folder).is_empty());
    // What is there already needs no room.
    Wanted::default().mirror(&shop, &folder).unwrap();
    Wanted { files: &Tight::with_room_for(0), ..Wanted::default() }.mirror(&shop, &folder).unwrap();
}

#[test]
fn what_cannot_be_written_says_what_to_do_whenever_it_comes_and_is_written_by_the_same_command_later() {
    let (shop, place) = (Shop::new(), TempDir::new().unwrap());
    small(&shop);
    shop.publish("1.0", "stable").unwrap();
    let whole = place.path().join("whole");
    Wanted::default().mirror(&shop, &whole).unwrap();
    let failures = [
        (Errno::NOSPC, "; make room there"),
        (Errno::ROFS, "; mount it for writing"),
        (Errno::ACCESS, "; let the user who runs this write there"),
    ];
    for (errno, says) in failures {
        let mut steps = 0;
        loop {
            let folder = place.path().join(format!("{}-{steps}", errno.raw_os_error()));
            let failing = Tight::failing_after(steps, errno);
            let Err((class, line)) = (Wanted { files: &failing, ..Wanted::default() }).mirror(&shop, &folder)
            else {
                break;
            };
            assert_eq!(class, Class::Failed);
            let is_advice = line.contains(says) && line.ends_with("run the same command again");
            assert!(is_advice && !line.contains('\n'), "after {steps} steps: {line}");
            Wanted::default().mirror(&shop, &folder).unwrap();
            assert_eq!(walk(&folder), walk(&whole));
            steps += 1;
        }
        assert!(steps > 20, "{steps}");
    }
}

#[test]
fn whatever_is_damaged_in_a_mirror_the_next_run_mends_it() {
    let place = TempDir::new().unwrap();
    let folder = place.path().join("m");
    let shop = with_team(&folder);
    let whole: Vec<_> =
        paths(&folder).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    for (path, bytes) in &whole {
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        for damaged in [Some(flipped.as_slice()), Some(&bytes[..bytes.len() / 2]), Some(&[]), None] {
            match damaged {
                Some(damaged) => fs::write(path, damaged).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
            let copied = Wanted::default().mirror(&shop, &folder);
            let length = damaged.map(<[u8]>::len);
            assert!(
                copied.as_ref().is_ok_and(|copied| copied.notes.is_empty()),
                "{path:?} {length:?}: {copied:?}"
            );
            assert!(fs::read(path).unwrap() == *bytes, "{path:?} {length:?}");
        }
    }
    assert_eq!(paths(&folder).len(), whole.len());
}
