//! Copies of a repository: what is in them, verified, and by the rules of expiry and teams.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::path::Path;

use common::copies::{Wanted, audit, channel, paths, team_shop, walk};
use common::{NOW, Shop, request, small, three};
use tempfile::TempDir;
use upright_image_builder::repo::check::{Source, check, check_whole};
use upright_image_builder::repo::copy::{Copy, Pick, into_file, into_folder};
use upright_image_builder::repo::error::Class;
use upright_image_builder::repo::files::OnDisk;
use upright_image_builder::repo::progress::Silent;
use upright_image_builder::repo::publish::Bench;
use upright_image_builder::repo::refresh::refresh;
use upright_image_builder::repo::signers::Signers;

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
fn an_export_into_a_folder_that_is_not_there_names_the_folder() {
    let shop = Shop::new();
    small(&shop);
    shop.publish("1.0", "stable").unwrap();
    let place = TempDir::new().unwrap();
    fs::write(place.path().join("file"), "").unwrap();
    let wanted = Wanted { pick: channel("stable"), ..Wanted::default() };
    for (folder, what) in [("missing", "is not there"), ("file", "is no folder"), ("file/in", "is no folder")]
    {
        let folder = place.path().join(folder);
        let (class, says) = wanted.copy(&shop, |copy| into_file(copy, &folder.join("a.tar"))).unwrap_err();
        assert!(
            class == Class::Refused && says.starts_with(&format!("the folder {} {what}", folder.display())),
            "{says}"
        );
    }
    assert_eq!(walk(place.path()), ["file"]);
}

#[test]
fn what_a_team_signs_goes_along_and_what_it_breaks_is_in_nobody_elses_way() {
    let shop = team_shop();
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

/// Three releases, of which stable points at the newest and old at the first.
fn with_three(shop: &Shop) {
    three(shop);
    shop.configure("channels = [\"stable\"]", "channels = [\"stable\", \"old\"]");
    shop.publish("1.0", "old").unwrap();
    for version in ["1.0", "1.1", "1.2"] {
        shop.publish(version, "stable").unwrap();
    }
}

#[test]
fn a_copy_of_a_part_has_to_have_that_part_and_says_what_it_is() {
    let (shop, place) = (Shop::new(), TempDir::new().unwrap());
    with_three(&shop);
    let (folder, file) = (place.path().join("m"), place.path().join("m.tar"));
    let wanted = Wanted { pick: channel("stable"), ..Wanted::default() };
    wanted.mirror(&shop, &folder).unwrap();
    wanted.copy(&shop, |copy| into_file(copy, &file)).unwrap();
    for copy in [&folder, &file] {
        let report = audit(&shop, copy);
        assert_eq!(report.errors, Vec::<String>::new());
        assert_eq!((report.releases, report.listed, report.channels), (1, 3, 1));
        assert_eq!(report.part.unwrap().to_string(), "channel stable");
        let root = fs::read(shop.root().join("root.json")).unwrap();
        let whole = check_whole(&Source::new(copy.to_str().unwrap()).unwrap(), root, NOW, &Silent).unwrap();
        assert!(whole.errors.iter().any(|error| error.contains("1.0.json is not there")), "{whole:?}");
    }
    // Whatever is gone of it is missed.
    let mut gone = 0;
    for name in
        ["payloads", "deltas", "releases", "channels"].iter().flat_map(|part| paths(&folder.join(part)))
    {
        let bytes = fs::read(&name).unwrap();
        fs::remove_file(&name).unwrap();
        let report = audit(&shop, &folder);
        let name_ = name.file_name().unwrap().to_str().unwrap();
        assert!(report.errors.iter().any(|error| error.contains(name_)), "{name_}: {report:?}");
        fs::write(&name, bytes).unwrap();
        gone += 1;
    }
    assert!(gone > 5, "{gone}");
    // A whole repository says nothing of itself, and one that lost its last release is damaged.
    let repository = shop.root().join("repository");
    assert_eq!(audit(&shop, &repository).part, None);
    for name in
        paths(&repository.join("releases")).iter().filter(|path| path.to_str().unwrap().contains(".1.0."))
    {
        fs::remove_file(name).unwrap();
    }
    assert!(!audit(&shop, &repository).errors.is_empty());
}

#[test]
fn a_mirror_of_a_part_has_all_that_its_source_is_to_have() {
    let (shop, place) = (Shop::new(), TempDir::new().unwrap());
    with_three(&shop);
    let root = fs::read(shop.root().join("root.json")).unwrap();
    let copies = [
        channel("stable"),
        Pick { from: vec!["1.1".parse().unwrap()], ..channel("stable") },
        Pick { without_deltas: true, ..channel("old") },
        Pick { versions: vec!["1.1".parse().unwrap()], ..Pick::default() },
    ];
    for (number, pick) in copies.into_iter().enumerate() {
        let at = |name: &str| place.path().join(format!("{number}.{name}"));
        let (file, folder, second) = (at("tar"), at("m"), at("second"));
        let wanted = Wanted { pick, ..Wanted::default() };
        let first = wanted.copy(&shop, |copy| into_file(copy, &file)).unwrap();
        for (from, to) in [(&file, &folder), (&folder, &second)] {
            let source = Source::new(from.to_str().unwrap()).unwrap();
            let all = Pick::default();
            let copied = wanted.copy(&shop, |copy| {
                into_folder(&Copy { source: &source, pick: &all, root: Some(root.clone()), ..*copy }, to)
            });
            let copied = copied.unwrap();
            assert_eq!((&copied.part, &copied.releases), (&first.part, &first.releases));
            assert_eq!(audit(&shop, to).errors, Vec::<String>::new());
        }
        assert_eq!(walk(&folder), walk(&second));
        // What it has not got is not had of it.
        let source = Source::folder(folder).unwrap();
        let other = channel("none");
        let error = wanted.copy(&shop, |copy| {
            into_folder(&Copy { source: &source, pick: &other, root: None, ..*copy }, &second)
        });
        let (class, line) = error.unwrap_err();
        assert!(
            class == Class::Refused && line.contains("of its repository, and not channel none"),
            "{line}"
        );
    }
    // Where a mirror becomes whole again, it does not say otherwise.
    let folder = place.path().join("0.m");
    assert!(folder.join("part.json").exists());
    Wanted::default().mirror(&shop, &folder).unwrap();
    assert!(!folder.join("part.json").exists());
    assert_eq!(audit(&shop, &folder).releases, 3);
    // And what a source says of itself, which nobody signs, makes no less of it.
    let (source, all) = (Source::folder(place.path().join("2.m")).unwrap(), Pick::default());
    let error = Wanted::default()
        .copy(&shop, |copy| into_folder(&Copy { source: &source, pick: &all, root: None, ..*copy }, &folder));
    let (class, line) = error.unwrap_err();
    assert!(class == Class::Refused && line.contains("holds more; name with --channel"), "{line}");
    assert_eq!(audit(&shop, &folder).releases, 3);
}

#[test]
fn a_copy_of_a_part_that_does_not_know_any_more_of_what_is_mended_unless_it_holds_more() {
    let (shop, place) = (Shop::new(), TempDir::new().unwrap());
    with_three(&shop);
    let [from, folder, more] = ["from", "m", "more"].map(|name| place.path().join(name));
    let stable = Wanted { pick: channel("stable"), ..Wanted::default() };
    let both = Pick { channels: vec!["old".parse().unwrap(), "stable".parse().unwrap()], ..Pick::default() };
    stable.mirror(&shop, &from).unwrap();
    stable.mirror(&shop, &folder).unwrap();
    Wanted { pick: both, ..Wanted::default() }.mirror(&shop, &more).unwrap();
    let (source, all) = (Source::folder(from).unwrap(), Pick::default());
    let again = |folder: &Path| {
        stable.copy(&shop, |copy| {
            into_folder(&Copy { source: &source, pick: &all, root: None, ..*copy }, folder)
        })
    };
    let good = fs::read(folder.join("part.json")).unwrap();
    for damaged in [b"".as_slice(), &good[..good.len() / 2], b"\0\0\0\0"] {
        for folder in [&folder, &more] {
            fs::write(folder.join("part.json"), damaged).unwrap();
        }
        again(&folder).unwrap();
        assert_eq!(fs::read(folder.join("part.json")).unwrap(), good);
        let (class, line) = again(&more).unwrap_err();
        assert!(class == Class::Refused && line.contains("its part.json cannot be used"), "{line}");
        assert_eq!(fs::read(more.join("part.json")).unwrap(), damaged);
    }
    assert_eq!(audit(&shop, &folder).errors, Vec::<String>::new());
}

#[test]
fn a_channel_that_a_folder_holds_no_more_is_told() {
    let shop = Shop::new();
    with_three(&shop);
    let place = TempDir::new().unwrap();
    let notes = |channels: &[&str]| {
        let mut pick = channel(channels[0]);
        pick.channels = channels.iter().map(|name| name.parse().unwrap()).collect();
        let wanted = Wanted { pick, ..Wanted::default() };
        let notes = wanted.copy(&shop, |copy| into_folder(copy, place.path())).unwrap().notes;
        notes.into_iter().find(|note| note.contains("whose hosts can take nothing from it any more"))
    };
    assert_eq!(notes(&["stable"]), None);
    assert_eq!(notes(&["stable", "old"]), None);
    assert!(notes(&["old"]).is_some_and(|note| note.contains("held stable before")));
}

#[test]
fn a_repository_is_not_copied_onto_itself() {
    let shop = Shop::new();
    small(&shop);
    shop.publish("1.0", "stable").unwrap();
    let repository = shop.root().join("repository");
    let wanted = Wanted { pick: channel("stable"), ..Wanted::default() };
    assert_eq!(wanted.mirror(&shop, &repository).unwrap_err().0, Class::Refused);
    assert!(!repository.join("part.json").exists());
}
