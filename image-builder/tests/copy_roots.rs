//! The roots of a copy: what is damaged is mended by the next run, tells nothing, and is no way back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{NOW, Shop, copy, small};
use tempfile::TempDir;
use upright_image_builder::repo::check::{Source, check};
use upright_image_builder::repo::copy::{Copied, Copy, Pick, into_folder};
use upright_image_builder::repo::error::Class;
use upright_image_builder::repo::files::OnDisk;
use upright_image_builder::repo::progress::Silent;
use upright_image_builder::repo::publish::Bench;
use upright_image_builder::repo::refresh::refresh;
use upright_image_builder::repo::signers::Signers;
use upright_keys::KeyPair;

/// How a file is damaged.
type Damage = (String, Box<dyn Fn(&[u8]) -> Option<Vec<u8>>>);

/// A mirror of `repository` into `folder`; `root` is what `--root` names.
fn mirror(repository: &Path, folder: &Path, root: Option<&[u8]>) -> Result<Copied, (Class, String)> {
    let copy = Copy {
        source: &Source::folder(repository.to_owned()).unwrap(),
        root: root.map(<[u8]>::to_owned),
        pick: &Pick::default(),
        allow_expired: false,
        prune: true,
        now: NOW,
        files: &OnDisk,
        progress: &Silent,
    };
    into_folder(&copy, folder).map_err(|error| (error.class(), error.to_string()))
}

fn repository(shop: &Shop) -> PathBuf {
    shop.root().join("repository")
}

fn root_of(folder: &Path, version: u64) -> PathBuf {
    folder.join(format!("metadata/{version}.root.json"))
}

/// A repository with one release.
fn shop() -> Shop {
    let shop = Shop::new();
    small(&shop);
    shop.publish("1.0", "stable").unwrap();
    shop
}

/// Signs the next root.
fn new_root(shop: &Shop) {
    let workspace = shop.open();
    let signers = Signers::open(&workspace, &["root", "snapshot", "timestamp"], None).unwrap();
    let bench =
        Bench { workspace: &workspace, signers: &signers, files: &OnDisk, progress: &Silent, now: NOW };
    refresh(&bench, &["root"], None).unwrap();
}

/// A repository with so many roots, the first of them, a mirror of it in `place`, and what that serves.
fn mirrored(place: &Path, roots: u64) -> (Shop, Vec<u8>, PathBuf, BTreeMap<PathBuf, Vec<u8>>) {
    let shop = shop();
    let first = fs::read(shop.root().join("root.json")).unwrap();
    (1..roots).for_each(|_| new_root(&shop));
    let folder = place.join("m");
    mirror(&repository(&shop), &folder, Some(&first)).unwrap();
    let whole = served(&folder);
    (shop, first, folder, whole)
}

/// All roots and the timestamp that a folder serves.
fn served(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(folder.join("metadata")).unwrap().map(|entry| entry.unwrap().path());
    let names = files.filter(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.ends_with(".root.json") || name == "timestamp.json"
    });
    names.map(|path| (path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

/// The bytes with one bit changed, so many bytes further than `after` ends: a digit becomes another, and it is JSON as before.
fn flipped(bytes: &[u8], after: &str, further: usize) -> Vec<u8> {
    let at = String::from_utf8_lossy(bytes).find(after).unwrap() + after.len() + further;
    let mut bytes = bytes.to_owned();
    bytes[at] ^= 1;
    bytes
}

fn damages(length: usize) -> Vec<Damage> {
    let named =
        |name: &str, damage: fn(&[u8]) -> Option<Vec<u8>>| -> Damage { (name.to_owned(), Box::new(damage)) };
    let mut damages = vec![
        named("another year", |bytes| Some(flipped(bytes, "\"expires\": \"", 3))),
        named("another key", |bytes| Some(flipped(bytes, "\"public\": \"", 7))),
        named("another version", |bytes| Some(flipped(bytes, "\"version\": ", 0))),
        named("another signature", |bytes| Some(flipped(bytes, "\"sig\": \"", 9))),
        named("cut short", |bytes| Some(bytes[..bytes.len() / 2].to_owned())),
        named("empty", |_| Some(Vec::new())),
        named("gone", |_| None),
    ];
    for at in (0..length).step_by(67) {
        let flip = move |bytes: &[u8]| {
            let mut bytes = bytes.to_owned();
            bytes[at] ^= 4;
            Some(bytes)
        };
        damages.push((format!("byte {at}"), Box::new(flip)));
    }
    damages
}

fn harm(path: &Path, damage: &dyn Fn(&[u8]) -> Option<Vec<u8>>) {
    match damage(&fs::read(path).unwrap()) {
        Some(bytes) => fs::write(path, bytes).unwrap(),
        None => fs::remove_file(path).unwrap(),
    }
}

#[test]
fn whichever_root_of_a_mirror_is_damaged_the_next_run_mends_it() {
    let place = TempDir::new().unwrap();
    let (shop, first, folder, whole) = mirrored(place.path(), 3);
    let newest = fs::read(shop.root().join("root.json")).unwrap();
    assert_eq!((whole.len(), &whole), (4, &served(&repository(&shop))));
    for version in 1..=3 {
        for (name, damage) in damages(newest.len()) {
            for (given, root) in [("none", None), ("the first", Some(&first)), ("the newest", Some(&newest))]
            {
                let case = format!("{version}.root.json: {name}; given: {given}");
                harm(&root_of(&folder, version), &damage);
                let mirrored = mirror(&repository(&shop), &folder, root.map(Vec::as_slice));
                assert!(
                    mirrored.as_ref().is_ok_and(|copied| copied.notes.is_empty()),
                    "{case}: {mirrored:?}"
                );
                assert_eq!(served(&folder), whole, "{case}");
            }
        }
    }
    // A root under the name of another is not that one.
    for version in 1..=2 {
        fs::write(root_of(&folder, version), &newest).unwrap();
        mirror(&repository(&shop), &folder, None).unwrap();
        assert_eq!(served(&folder), whole);
    }
    let report = check(&Source::folder(folder).unwrap(), first, NOW, &Silent).unwrap();
    assert_eq!(report.errors, Vec::<String>::new());
}

#[test]
fn a_mirror_all_of_whose_roots_are_damaged_is_mended_by_one_that_is_given() {
    let place = TempDir::new().unwrap();
    let (shop, first, folder, whole) = mirrored(place.path(), 2);
    for (name, damage) in damages(first.len()) {
        (1..=2).for_each(|version| harm(&root_of(&folder, version), &damage));
        let (class, line) = mirror(&repository(&shop), &folder, None).unwrap_err();
        assert_eq!(class, Class::Refused, "{name}");
        assert!(line.contains("has no root that can be used yet; name the root.json"), "{name}: {line}");
        mirror(&repository(&shop), &folder, Some(&first)).unwrap();
        assert_eq!(served(&folder), whole, "{name}");
    }
    // Nor is one that is given taken at its word.
    let damaged = flipped(&first, "\"expires\": \"", 3);
    let (class, line) = mirror(&repository(&shop), &folder, Some(&damaged)).unwrap_err();
    assert_eq!(class, Class::Refused);
    assert!(line.contains("no root that its own keys have signed"), "{line}");
}

/// A mirror that has seen the third root and release 1.1, and what its source was before.
fn ahead(place: &Path, new_keys: bool) -> (Shop, PathBuf, PathBuf) {
    let shop = shop();
    let (folder, old) = (place.join("m"), place.join("old"));
    let first = fs::read(shop.root().join("root.json")).unwrap();
    copy(&repository(&shop), &old);
    match new_keys {
        true => ["root", "timestamp"].iter().for_each(|role| new_key(&shop, role)),
        false => (0..2).for_each(|_| new_root(&shop)),
    }
    shop.publish("1.1", "stable").unwrap();
    mirror(&repository(&shop), &folder, Some(&first)).unwrap();
    (shop, folder, old)
}

/// Signs a root that appoints another key for a role.
fn new_key(shop: &Shop, role: &str) {
    let key = KeyPair::generate().unwrap();
    key.save(&shop.root().join(format!("keys/new-{role}.pem")), None).unwrap();
    shop.configure(&format!("keys/{role}.pem"), &format!("keys/new-{role}.pem"));
    shop.rotate(&["root.pem"]).unwrap();
}

#[test]
fn a_damaged_root_lets_no_mirror_go_back() {
    for new_keys in [false, true] {
        let place = TempDir::new().unwrap();
        let (shop, folder, old) = ahead(place.path(), new_keys);
        let first = fs::read(root_of(&folder, 1)).unwrap();
        let whole = served(&folder);
        for given in [None, Some(first.as_slice())] {
            for version in 1..=3 {
                // Nothing is left of a newest root that is gone, and by what it alone appoints nobody can tell what came after.
                let tells = |name: &str| !(new_keys && version == 3 && name == "gone");
                for (name, damage) in damages(0).into_iter().filter(|(name, _)| tells(name)) {
                    let path = root_of(&folder, version);
                    harm(&path, &damage);
                    let damaged = served(&folder);
                    let (class, line) = mirror(&old, &folder, given).unwrap_err();
                    assert_ne!(class, Class::Failed, "{version} {name}: {line}");
                    assert_eq!(served(&folder), damaged, "{version} {name}: {line}");
                    fs::write(path, &whole[&PathBuf::from(format!("metadata/{version}.root.json"))]).unwrap();
                }
            }
        }
        // Where all else is gone, the name of what it had seen is left.
        fs::remove_file(folder.join("metadata/timestamp.json")).unwrap();
        for version in 2..=3 {
            fs::write(root_of(&folder, version), b"").unwrap();
        }
        let (class, line) = mirror(&old, &folder, None).unwrap_err();
        assert_eq!(class, Class::Unverified, "{line}");
        assert!(line.contains("damaged 2.root.json") && line.contains("remove the file"), "{line}");
        mirror(&repository(&shop), &folder, None).unwrap();
        assert_eq!(served(&folder), whole);
    }
}

#[test]
fn what_is_in_between_is_taken_from_the_source_and_what_comes_after_still_counts() {
    let place = TempDir::new().unwrap();
    let (shop, folder, _) = ahead(place.path(), true);
    let whole = served(&folder);
    // Only the second root says whose the third is, and the source has lost that one.
    fs::remove_file(root_of(&repository(&shop), 3)).unwrap();
    fs::write(root_of(&folder, 2), b"").unwrap();
    mirror(&repository(&shop), &folder, None).unwrap();
    assert_eq!(served(&folder), whole);
}

#[test]
fn a_root_that_nobody_has_any_more_is_passed_over_where_the_next_is_of_the_same_keys() {
    let place = TempDir::new().unwrap();
    let (shop, folder, _) = ahead(place.path(), false);
    for folder in [&repository(&shop), &folder] {
        fs::remove_file(root_of(folder, 2)).unwrap();
    }
    let copied = mirror(&repository(&shop), &folder, None).unwrap();
    assert_eq!(served(&folder), served(&repository(&shop)));
    assert!(copied.notes.iter().any(|note| note.starts_with("2.root.json cannot be had")), "{copied:?}");
}

#[test]
fn a_root_that_is_damaged_is_neither_this_publishers_nor_anothers() {
    let place = TempDir::new().unwrap();
    let (theirs, ours) = (shop(), shop());
    let their_root = fs::read(theirs.root().join("root.json")).unwrap();
    let our_root = fs::read(ours.root().join("root.json")).unwrap();
    new_root(&theirs);
    let folder = place.path().join("m");
    mirror(&repository(&theirs), &folder, Some(&their_root)).unwrap();
    let refused = |says: &str| {
        let before = served(&folder);
        let (class, line) = mirror(&repository(&ours), &folder, Some(&our_root)).unwrap_err();
        assert_eq!(class, Class::Refused, "{line}");
        assert!(line.contains(says), "{line}");
        assert_eq!(served(&folder), before);
    };
    refused("holds another repository, whose 1.root.json differs");
    // The one that is left tells whose it is.
    fs::write(root_of(&folder, 1), flipped(&their_root, "\"expires\": \"", 3)).unwrap();
    refused("holds 2.root.json, to which nothing leads");
    fs::write(root_of(&folder, 1), &our_root).unwrap();
    refused("holds 2.root.json, to which nothing leads");
}

#[test]
fn what_nobody_signed_of_a_root_makes_it_no_other() {
    let place = TempDir::new().unwrap();
    let (shop, first, folder, whole) = mirrored(place.path(), 2);
    fs::write(root_of(&folder, 1), [&first[..], b"\n"].concat()).unwrap();
    mirror(&repository(&shop), &folder, None).unwrap();
    assert_eq!(served(&folder), whole);
}

#[test]
fn a_root_that_is_damaged_at_the_source_does_not_take_the_place_of_one_that_is_not() {
    let place = TempDir::new().unwrap();
    let (shop, _, folder, whole) = mirrored(place.path(), 3);
    for version in 1..=2 {
        let path = root_of(&repository(&shop), version);
        let good = fs::read(&path).unwrap();
        fs::write(&path, flipped(&good, "\"expires\": \"", 3)).unwrap();
        let copied = mirror(&repository(&shop), &folder, None).unwrap();
        assert_eq!((copied.notes, served(&folder)), (Vec::new(), whole.clone()));
        fs::write(&path, good).unwrap();
    }
}
