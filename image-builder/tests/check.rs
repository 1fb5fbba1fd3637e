//! The audit: what a host would trip over is found and named.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use common::{NOW, Shop, request, three};
use jiff::{SignedDuration, Timestamp};
use upright_image_builder::repo::check::{Report, Source, check};
use upright_image_builder::repo::expiry::require_good;
use upright_image_builder::repo::progress::{Progress, Silent};
use upright_image_builder::repo::publish::Bench;
use upright_image_builder::repo::refresh::refresh;
use upright_image_builder::repo::serve::Server;
use upright_image_builder::repo::signers::Signers;

fn audit(shop: &Shop, place: &str, now: Timestamp) -> Report {
    let root = fs::read(shop.root().join("root.json")).unwrap();
    check(&Source::new(place).unwrap(), root, now, &Silent).unwrap()
}

fn here(shop: &Shop) -> Report {
    audit(shop, shop.root().join("repository").to_str().unwrap(), shop.now)
}

fn published() -> Shop {
    let shop = Shop::new();
    three(&shop);
    shop.publish("1.0", "stable").unwrap();
    shop.publish("1.1", "stable").unwrap();
    shop
}

/// Keeps what a person would be told.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Progress for Notes {
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn reached(&self, _: u64) {}
    fn end(&self, _: &str) {}
    fn note(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
}

fn days(count: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * count)
}

/// Flips a bit in the middle of each file whose path contains `part`.
fn damage(shop: &Shop, part: &str) -> Vec<PathBuf> {
    let files = shop.repository().into_iter();
    let hit = files.filter(|(path, _)| path.to_str().unwrap().contains(part));
    hit.map(|(path, mut bytes)| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(shop.root().join("repository").join(&path), bytes).unwrap();
        path
    })
    .collect()
}

#[test]
fn a_repository_as_published_is_clean_in_a_folder_and_behind_a_server() {
    let shop = published();
    let report = here(&shop);
    assert_eq!(report.errors, Vec::<String>::new());
    assert_eq!(report.warnings, Vec::<String>::new());
    assert_eq!((report.releases, report.channels, report.objects), (2, 1, 7));
    let root = shop.root().join("repository");
    let server = Server::bind(([127, 0, 0, 1], 0).into(), &root, Arc::new(|_, _, _| {})).unwrap();
    let address = format!("http://{}", server.address().unwrap());
    std::thread::spawn(move || server.run());
    assert_eq!(audit(&shop, &address, NOW), report);
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    for part in
        [".zst", ".chunks", ".uki", ".delta", "releases/", "channels/", "timestamp.json", "3.snapshot.json"]
    {
        let shop = published();
        let paths = damage(&shop, part);
        let report = here(&shop);
        let named = |error: &String| {
            let named =
                |path: &PathBuf| path.starts_with("metadata") || error.contains(path.to_str().unwrap());
            paths.iter().any(named)
        };
        assert!(report.errors.iter().any(named), "{part}: {report:?}");
    }
}

#[test]
fn what_is_missing_is_named() {
    for part in [".zst", ".chunks", ".uki", ".delta", "releases/", "3.targets.json"] {
        let shop = published();
        let files = shop.repository();
        let (path, _) = files.iter().find(|(path, _)| path.to_str().unwrap().contains(part)).unwrap();
        fs::remove_file(shop.root().join("repository").join(path)).unwrap();
        let report = here(&shop);
        let told = |error: &String| error.contains("is not there") || path.starts_with("metadata");
        assert!(report.errors.iter().any(told), "{part}: {report:?}");
    }
}

#[test]
fn a_longer_file_is_not_what_was_signed() {
    let shop = published();
    let files = shop.repository();
    let (path, _) = files.iter().find(|(path, _)| path.extension().is_some_and(|e| e == "zst")).unwrap();
    let place = shop.root().join("repository").join(path);
    let mut bytes = fs::read(&place).unwrap();
    bytes.push(0);
    fs::write(&place, bytes).unwrap();
    let report = here(&shop);
    assert_eq!(report.errors.len(), 1, "{report:?}");
    assert!(report.errors[0].contains("bytes that were signed"), "{report:?}");
}

#[test]
fn an_expiry_is_told_before_and_after() {
    let shop = published();
    let place = shop.root().join("repository");
    let place = place.to_str().unwrap();
    let late = audit(&shop, place, NOW + days(6));
    assert_eq!(late.errors, Vec::<String>::new());
    let text = late.warnings.join("\n");
    assert!(
        text.contains("timestamp expires in 24 hours") && text.contains("run `upright-build refresh`"),
        "{text}"
    );
    let gone = audit(&shop, place, NOW + days(8));
    assert_eq!(gone.errors.len(), 1, "{gone:?}");
    assert!(gone.errors[0].starts_with("hosts refuse this repository: timestamp expired on "), "{gone:?}");
    assert!(
        gone.errors[0].ends_with(", snapshot expired on 2030-03-24T17:46:40Z; run `upright-build refresh`")
    );
    assert_eq!(gone.objects, 7, "the rest is audited all the same");
}

#[test]
fn refresh_makes_it_good_again_and_a_new_root_keeps_old_hosts() {
    let shop = published();
    let shipped = fs::read(shop.root().join("root.json")).unwrap();
    let shop = shop.later(8);
    let workspace = shop.open();
    let roles = ["root", "targets", "snapshot", "timestamp"];
    let signers = Signers::open(&workspace, &roles, None).unwrap();
    let files = &upright_image_builder::repo::files::OnDisk;
    let bench = Bench { workspace: &workspace, signers: &signers, files, progress: &Silent, now: shop.now };
    refresh(&bench, &["root", "targets"], None).unwrap();
    assert_eq!(here(&shop).errors, Vec::<String>::new());
    let source = Source::new(shop.root().join("repository").to_str().unwrap()).unwrap();
    let report = check(&source, shipped, shop.now, &Silent).unwrap();
    assert_eq!(report.errors, Vec::<String>::new());
    assert_eq!(report.metadata[0].version, 2);
    // Publishing goes on under the new root.
    let mut third = request("1.2", "stable");
    third.hold = Some("not yet".into());
    shop.request(&third).unwrap();
    assert_eq!(here(&shop).warnings, ["channel stable is on hold: not yet"]);
}

/// Refreshes the online roles and `roles`: what was noted, and how it ended.
fn refreshed(shop: &Shop, roles: &[&str]) -> (Vec<String>, Result<(), String>) {
    let workspace = shop.open();
    let signers = Signers::open(&workspace, &["root", "targets", "snapshot", "timestamp"], None).unwrap();
    let (files, notes) = (&upright_image_builder::repo::files::OnDisk, Notes::default());
    let bench = Bench { workspace: &workspace, signers: &signers, files, progress: &notes, now: shop.now };
    let (status, _) = refresh(&bench, roles, None).unwrap();
    (notes.0.into_inner().unwrap(), require_good(&status, shop.now).map_err(|error| error.to_string()))
}

#[test]
fn a_refresh_tells_what_it_does_not_sign_before_that_expires_and_fails_after() {
    let shop = published();
    assert_eq!(refreshed(&shop.copy().later(59), &[]), (vec![], Ok(())));
    let (notes, ended) = refreshed(&shop.copy().later(61), &[]);
    assert_eq!((notes.len(), ended), (1, Ok(())));
    assert!(notes[0].starts_with("targets expires in 696 hours, on "), "{notes:?}");
    assert!(notes[0].ends_with("; run `upright-build refresh --role targets`"), "{notes:?}");
    let shop = shop.later(366);
    let (_, ended) = refreshed(&shop, &[]);
    let error = ended.unwrap_err();
    assert!(error.starts_with("hosts refuse this repository: root expired on 2031-03-17T"), "{error}");
    assert!(error.contains(", targets expired on 2030-06-15T"), "{error}");
    assert!(error.ends_with("; run `upright-build refresh --role root --role targets`"), "{error}");
    // The online roles were signed all the same; the audit says the same of the rest.
    let audit = here(&shop).errors;
    assert_eq!(audit, [error]);
    assert_eq!(refreshed(&shop, &["root", "targets"]), (vec![], Ok(())));
    assert_eq!(here(&shop).errors, Vec::<String>::new());
}

#[test]
fn nothing_is_signed_with_a_clock_that_is_behind() {
    let mut shop = published();
    // Files that are made now say so, whatever time the test is at.
    let path = shop.root().join("repository/metadata/timestamp.json");
    fs::File::options().append(true).open(path).unwrap().set_modified(NOW.into()).unwrap();
    let before = shop.repository();
    for earlier in [-1, -399, -21590] {
        shop = shop.later(earlier);
        let errors = [
            shop.publish("1.2", "stable").unwrap_err(),
            shop.publish("1.1", "stable").unwrap_err(),
            shop.rotate(&[]).unwrap_err(),
        ];
        for error in errors {
            assert!(error.starts_with("this machine's clock says "), "{error}");
            assert!(error.contains("what is published was signed on 2030-03-17T17:46:40Z: "), "{error}");
            assert!(error.ends_with("; set the clock"), "{error}");
        }
        assert_eq!(shop.repository(), before);
    }
    // A lifetime that was shortened since is no sign of it.
    let timestamp = "[roles.timestamp]\nkeys = [\"keys/timestamp.pem\"]\nthreshold = 1\ndays = ";
    shop.configure(&format!("{timestamp}7"), &format!("{timestamp}1"));
    shop.later(21991).publish("1.2", "stable").unwrap();
}

#[test]
fn a_release_of_the_future_is_refused_since_its_hosts_would_know_better() {
    let shop = published();
    let path = shop.root().join("builds/1.2/build.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("1970-01-01T00:00:00Z"), "{text}");
    fs::write(&path, text.replace("1970-01-01T00:00:00Z", "2030-03-18T00:00:00Z")).unwrap();
    let error = shop.publish("1.2", "stable").unwrap_err();
    assert!(
        error.starts_with(
            "1.2 is of 2030-03-18T00:00:00Z, and this machine's clock says 2030-03-17T17:46:40Z"
        )
    );
    assert!(
        error.ends_with("set the clock, or build it under a new version with an earlier --time"),
        "{error}"
    );
    shop.later(1).publish("1.2", "stable").unwrap();
}

#[test]
fn an_audit_finds_a_release_that_hosts_refuse_as_one_of_the_future() {
    let shop = published();
    let path = shop.root().join("builds/1.2/build.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("1970-01-01T00:00:00Z", "2030-06-01T00:00:00Z")).unwrap();
    // It was published by a clock that was ahead, which is right again.
    let shop = shop.later(100);
    shop.publish("1.2", "stable").unwrap();
    let shop = shop.later(-100);
    let workspace = shop.open();
    let signers = Signers::open(&workspace, &["snapshot", "timestamp"], None).unwrap();
    let files = &upright_image_builder::repo::files::OnDisk;
    let bench = Bench { workspace: &workspace, signers: &signers, files, progress: &Silent, now: NOW };
    refresh(&bench, &[], None).unwrap();
    let errors = here(&shop).errors;
    assert!(errors.len() == 1 && errors[0].starts_with("hosts refuse releases/"), "{errors:?}");
    assert!(
        errors[0].contains("it is of 2030-06-01T00:00:00Z, and the timestamp expires on 2030-03-24"),
        "{errors:?}"
    );
}

#[test]
fn another_root_of_trust_is_refused() {
    let shop = published();
    let other = published();
    let root = fs::read(other.root().join("root.json")).unwrap();
    let source = Source::new(shop.root().join("repository").to_str().unwrap()).unwrap();
    let report = check(&source, root, NOW, &Silent).unwrap();
    assert!(report.errors[0].starts_with("hosts refuse this repository: "), "{report:?}");
    assert_eq!(report.objects, 0);
}

#[test]
fn the_online_roles_are_refreshed_without_the_offline_keys() {
    let shop = published();
    for key in ["root", "targets"] {
        fs::remove_file(shop.root().join(format!("keys/{key}.pem"))).unwrap();
    }
    let workspace = shop.open();
    let signers = Signers::open(&workspace, &["snapshot", "timestamp"], None).unwrap();
    let files = &upright_image_builder::repo::files::OnDisk;
    let bench =
        Bench { workspace: &workspace, signers: &signers, files, progress: &Silent, now: NOW + days(5) };
    refresh(&bench, &[], None).unwrap();
    let place = shop.root().join("repository");
    assert_eq!(audit(&shop, place.to_str().unwrap(), NOW + days(10)).errors, Vec::<String>::new());
    assert!(Path::new(&place).join("metadata/4.snapshot.json").exists());
}
