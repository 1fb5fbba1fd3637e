//! Copies of a repository: whole for who reads them at every step, verified, and by the rules of expiry and teams.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::path::Path;

use common::{NOW, Shop, request, small, three};
use jiff::Timestamp;
use tempfile::TempDir;
use upright_image_builder::repo::check::{Source, check};
use upright_image_builder::repo::copy::{Copied, Copy, Pick, into_file, into_folder};
use upright_image_builder::repo::error::Class;
use upright_image_builder::repo::files::fake::CutOff;
use upright_image_builder::repo::files::{Files, OnDisk};
use upright_image_builder::repo::progress::Silent;
use upright_image_builder::repo::publish::Bench;
use upright_image_builder::repo::refresh::refresh;
use upright_image_builder::repo::signers::Signers;

struct Wanted<'a> {
    pick: Pick,
    files: &'a dyn Files,
    now: Timestamp,
    allow_expired: bool,
    prune: bool,
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        Self { pick: Pick::default(), files: &OnDisk, now: NOW, allow_expired: false, prune: false }
    }
}

impl Wanted<'_> {
    fn copy<T>(
        &self,
        shop: &Shop,
        work: impl FnOnce(&Copy<'_>) -> upright_image_builder::repo::Result<T>,
    ) -> Result<T, (Class, String)> {
        let source = Source::folder(shop.root().join("repository")).unwrap();
        let copy = Copy {
            source: &source,
            root: Some(fs::read(shop.root().join("root.json")).unwrap()),
            pick: &self.pick,
            allow_expired: self.allow_expired,
            prune: self.prune,
            now: self.now,
            files: self.files,
            progress: &Silent,
        };
        work(&copy).map_err(|error| (error.class(), error.to_string()))
    }

    fn mirror(&self, shop: &Shop, folder: &Path) -> Result<Copied, (Class, String)> {
        self.copy(shop, |copy| into_folder(copy, folder))
    }
}

/// What a host finds that reads the copy; every object is read and compared.
fn versions(shop: &Shop, folder: &Path) -> Vec<String> {
    let root = fs::read(shop.root().join("root.json")).unwrap();
    let report = check(&Source::folder(folder.to_owned()).unwrap(), root, NOW, &Silent).unwrap();
    assert_eq!(report.errors, Vec::<String>::new());
    let mut found: Vec<String> = walk(&folder.join("releases"));
    found.retain(|name| report.releases > 0 && !name.is_empty());
    found
}

fn walk(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(walk(&path)),
            false => found.push(path.file_name().unwrap().to_str().unwrap().to_owned()),
        }
    }
    found.sort();
    found
}

fn channel(name: &str) -> Pick {
    Pick { channels: vec![name.parse().unwrap()], ..Pick::default() }
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
fn what_has_expired_is_copied_only_when_that_is_wanted() {
    let shop = Shop::new();
    small(&shop);
    shop.publish("1.0", "stable").unwrap();
    let place = TempDir::new().unwrap();
    let late = NOW + jiff::SignedDuration::from_hours(24 * 8);
    let out = place.path().join("out.tar");
    let strict = Wanted { pick: channel("stable"), now: late, ..Wanted::default() };
    let (class, says) = strict.copy(&shop, |copy| into_file(copy, &out)).unwrap_err();
    assert_eq!(class, Class::Unverified);
    assert!(says.contains("expired on") && says.contains("--allow-expired"), "{says}");
    assert!(!out.exists());
    let lenient = Wanted { allow_expired: true, ..strict };
    let copied = lenient.copy(&shop, |copy| into_file(copy, &out)).unwrap();
    assert!(copied.good_until < late && copied.notes.iter().any(|note| note.contains("offline-expiry")));
    assert_eq!(walk(place.path()), ["out.tar"]);
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
fn what_a_team_signs_goes_along_and_what_it_breaks_is_in_nobody_elses_way() {
    let shop = Shop::new();
    three(&shop);
    shop.publish("1.0", "stable").unwrap();
    shop.configure("channels = [\"stable\"]", "channels = [\"stable\", \"beta\"]");
    shop.team("edge", "[\"beta\"]");
    shop.rotate(&[]).unwrap();
    shop.request(&request("1.1", "beta")).unwrap();
    let place = TempDir::new().unwrap();
    let copied = Wanted { pick: channel("beta"), ..Wanted::default() }
        .mirror(&shop, &place.path().join("beta"))
        .unwrap();
    assert_eq!((copied.channels, copied.releases), (vec!["beta".to_owned()], vec!["1.1".to_owned()]));
    assert!(walk(&place.path().join("beta/metadata")).iter().any(|name| name.ends_with("edge.json")));
    // The team's document is damaged where it is published.
    let metadata = shop.root().join("repository/metadata");
    for name in walk(&metadata).iter().filter(|name| name.ends_with("edge.json")) {
        fs::write(metadata.join(name), b"{}").unwrap();
    }
    let stable = place.path().join("stable");
    let copied = Wanted { pick: channel("stable"), ..Wanted::default() }.mirror(&shop, &stable).unwrap();
    assert_eq!(copied.releases, ["1.0"]);
    assert!(copied.notes.iter().any(|note| note.contains("edge")), "{:?}", copied.notes);
    let (class, _) = Wanted { pick: channel("beta"), ..Wanted::default() }
        .mirror(&shop, &place.path().join("new"))
        .unwrap_err();
    assert_ne!(class, Class::Failed);
}

#[test]
fn a_rotated_root_comes_along_with_those_before_it() {
    let shop = Shop::new();
    small(&shop);
    shop.publish("1.0", "stable").unwrap();
    let old = fs::read(shop.root().join("root.json")).unwrap();
    let workspace = shop.open();
    let signers = Signers::open(&workspace, &["root", "snapshot", "timestamp"], None).unwrap();
    let bench =
        Bench { workspace: &workspace, signers: &signers, files: &OnDisk, progress: &Silent, now: NOW };
    refresh(&bench, &["root"], None).unwrap();
    let place = TempDir::new().unwrap();
    let folder = place.path().join("m");
    Wanted::default().mirror(&shop, &folder).unwrap();
    assert!(folder.join("metadata/1.root.json").exists() && folder.join("metadata/2.root.json").exists());
    let report = check(&Source::folder(folder).unwrap(), old, NOW, &Silent).unwrap();
    assert_eq!(report.errors, Vec::<String>::new());
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
