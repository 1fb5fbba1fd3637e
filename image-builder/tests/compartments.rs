//! Teams: who signs one channel changes nothing of another.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::path::Path;

use common::{NOW, Shop, request, small, three, version};
use jiff::SignedDuration;
use upright_image_builder::repo::ceremony;
use upright_image_builder::repo::check::{Report, Source, check};
use upright_image_builder::repo::files::OnDisk;
use upright_image_builder::repo::files::fake::CutOff;
use upright_image_builder::repo::metadata::Metadata;
use upright_image_builder::repo::progress::Silent;
use upright_image_builder::repo::published::Published;
use upright_image_builder::repo::rotate::Change;
use upright_image_builder::repo::signers::Signers;
use upright_manifests::digest::Digest;
use upright_manifests::name::ChannelName;

const BETA: &str = "acme.x86-64.beta";

/// A workspace with `stable`, and `beta`, which a team signs; nothing is published.
fn shop() -> Shop {
    let shop = Shop::new();
    shop.configure("channels = [\"stable\"]", "channels = [\"stable\", \"beta\"]");
    shop.team("beta", "[\"beta\"]");
    shop
}

fn beta() -> ChannelName {
    "beta".parse().unwrap()
}

fn audit(shop: &Shop) -> Report {
    let source = Source::new(shop.root().join("repository").to_str().unwrap()).unwrap();
    check(&source, fs::read(shop.root().join("root.json")).unwrap(), shop.now, &Silent).unwrap()
}

fn errors(shop: &Shop) -> Vec<String> {
    audit(shop).errors
}

fn document(shop: &Shop, name: &str) -> Vec<u8> {
    fs::read(shop.root().join("repository/metadata").join(name)).unwrap()
}

/// Replaces what the team lists below `folder` with something else, properly signed.
fn forge(shop: &Shop, folder: &str, change: impl Fn(&str) -> String) {
    let workspace = shop.open();
    let mut published = Published::read(&workspace).unwrap();
    let metadata = &mut published.metadata;
    let listed: Vec<String> = metadata
        .listed()
        .filter(|(role, path, _)| *role == BETA && path.starts_with(folder))
        .map(|(_, path, _)| path.to_owned())
        .collect();
    for path in listed {
        let place =
            |metadata: &Metadata| shop.root().join("repository").join(metadata.fetch_path(&path).unwrap());
        let text = fs::read_to_string(place(metadata)).unwrap();
        let forged = change(&text);
        assert_ne!(forged, text);
        metadata.set_target(&path, forged.len() as u64, Digest::of(forged.as_bytes())).unwrap();
        fs::write(place(metadata), forged).unwrap();
    }
    let signers = Signers::open(&workspace, &[BETA, "snapshot", "timestamp"], None).unwrap();
    for file in metadata.sign(&signers.all(), shop.now).unwrap() {
        fs::write(shop.root().join("repository/metadata").join(file.name), file.bytes).unwrap();
    }
}

/// The releases that are listed in a compartment.
fn listed(shop: &Shop, compartment: Option<&ChannelName>) -> Vec<String> {
    let published = Published::read(&shop.open()).unwrap();
    let releases = published.releases.iter().filter(|listed| listed.compartment.as_ref() == compartment);
    releases.map(|listed| listed.release.version.to_string()).collect()
}

#[test]
fn a_team_publishes_with_its_own_key_and_nothing_of_stable_changes() {
    let shop = shop();
    three(&shop);
    let outcome = shop.rotate(&[]).unwrap();
    assert!(matches!(&outcome.changes[..], [Change::AddTeam { role, threshold: 1, .. }] if role == BETA));
    shop.publish("1.0", "stable").unwrap();
    let stable = document(&shop, "3.targets.json");
    shop.lose(&["root", "targets"]);
    shop.publish("1.0", "beta").unwrap();
    let second = shop.publish("1.1", "beta").unwrap();
    assert_eq!(second.edges.len(), 1, "deltas come from the compartment's own releases: {second:?}");
    assert_eq!(document(&shop, "3.targets.json"), stable);
    assert!(!shop.root().join("repository/metadata/4.targets.json").exists());
    assert_eq!(
        (listed(&shop, None), listed(&shop, Some(&beta()))),
        (vec!["1.0".into()], vec!["1.0".into(), "1.1".into()])
    );
    assert_eq!(errors(&shop), Vec::<String>::new());
    let error = shop.publish("1.1", "stable").unwrap_err();
    assert!(
        error.starts_with("targets metadata cannot be signed: 0 of the 1 keys it needs are here"),
        "{error}"
    );
}

#[test]
fn stable_takes_a_release_over_from_beta_and_makes_nothing_again() {
    let shop = shop();
    three(&shop);
    shop.rotate(&[]).unwrap();
    shop.publish("1.0", "stable").unwrap();
    shop.publish("1.0", "beta").unwrap();
    shop.publish("1.2", "beta").unwrap();
    let before = shop.repository();
    // The team is away, and so are the builds.
    shop.lose(&["beta"]);
    fs::remove_dir_all(shop.root().join("builds/1.2")).unwrap();
    let mut promote = request("1.2", "stable");
    promote.from = Some(beta());
    let outcome = shop.request(&promote).unwrap();
    assert_eq!(outcome.edges.len(), 1, "the delta that beta has: {outcome:?}");
    let objects = |files: &[(std::path::PathBuf, Vec<u8>)]| {
        let object = |path: &Path| path.starts_with("payloads") || path.starts_with("deltas");
        files.iter().filter(|(path, _)| object(path)).cloned().collect::<Vec<_>>()
    };
    assert!(objects(&shop.repository()) == objects(&before));
    assert_eq!(errors(&shop), Vec::<String>::new());
    promote.version = version("1.0");
    let error = shop.request(&promote).unwrap_err();
    assert!(error.starts_with("beta points at 1.2, not at 1.0; promote what it points at"), "{error}");
}

#[test]
fn a_team_cannot_block_the_name_of_a_release() {
    let shop = shop();
    small(&shop);
    shop.rotate(&[]).unwrap();
    shop.publish("1.0", "beta").unwrap();
    // The same name for something else; stable is not bound by what beta did.
    shop.build("1.0", &[("vmlinuz", 1, 2), ("tool", 4, 9)]);
    shop.publish("1.0", "stable").unwrap();
    assert_eq!(errors(&shop), Vec::<String>::new());
    let mut promote = request("1.0", "stable");
    promote.from = Some(beta());
    let error = shop.request(&promote).unwrap_err();
    assert!(error.starts_with("1.0 is listed for stable already, with root hash "), "{error}");
}

#[test]
fn what_a_team_breaks_is_in_nobody_elses_way() {
    let shop = shop();
    three(&shop);
    shop.rotate(&[]).unwrap();
    shop.publish("1.0", "stable").unwrap();
    shop.publish("1.1", "beta").unwrap();
    let published = Published::read(&shop.open()).unwrap();
    let payload =
        published.release(Some(&beta()), &version("1.1")).unwrap().release.root.full.path.to_string();
    fs::write(shop.root().join(format!("repository/metadata/2.{BETA}.json")), "{}").unwrap();
    let report = audit(&shop);
    let found = format!("hosts refuse what {BETA} lists: ");
    assert!(report.errors.iter().any(|error| error.starts_with(&found)), "{report:?}");
    let error = shop.publish("1.2", "beta").unwrap_err();
    assert!(error.starts_with(&format!("what {BETA} signed is not usable: ")), "{error}");
    let shop = shop.later(2);
    shop.publish("1.2", "stable").unwrap();
    // Objects that the broken document may need are kept.
    assert!(shop.root().join("repository").join(payload).exists());
}

#[test]
fn a_team_that_speaks_of_another_channel_under_its_own_name_is_not_listened_to() {
    let shop = Shop::new();
    shop.configure("channels = [\"stable\"]", "channels = [\"stable\", \"beta\", \"late\"]");
    shop.team("beta", "[\"beta\"]");
    three(&shop);
    shop.rotate(&[]).unwrap();
    shop.publish("1.0", "stable").unwrap();
    shop.publish("1.1", "beta").unwrap();
    // What stands under its own path says that it is the pointer of late, or a manifest of another version.
    for (folder, from, to) in [
        ("channels", "\"channel\": \"beta\"", "\"channel\": \"late\""),
        ("releases", "\"version\": \"1.1\"", "\"version\": \"1.9\""),
    ] {
        let shop = shop.copy();
        forge(&shop, folder, |text| text.replace(from, to));
        let published = Published::read(&shop.open()).unwrap();
        assert!(published.damage[BETA].contains("it belongs to "), "{:?}", published.damage);
        assert!(published.channel(&"late".parse().unwrap()).is_none());
        assert!(errors(&shop).iter().any(|error| error.contains("it belongs to ")), "{:?}", errors(&shop));
        // Whoever signs for late signs nothing that the team has made up.
        shop.publish("1.1", "stable").unwrap();
        let published = Published::read(&shop.open()).unwrap();
        assert!(published.channel(&"late".parse().unwrap()).is_none());
        assert!(shop.publish("1.2", "beta").unwrap_err().contains("is not usable: "));
    }
}

#[test]
fn a_team_whose_key_was_stolen_begins_anew_with_another() {
    let shop = shop();
    three(&shop);
    shop.rotate(&[]).unwrap();
    shop.publish("1.0", "stable").unwrap();
    shop.publish("1.1", "beta").unwrap();
    // Nothing of what the thief has left behind can be used, and the old key is gone.
    fs::write(shop.root().join(format!("repository/metadata/2.{BETA}.json")), "{}").unwrap();
    shop.lose(&["beta", "root"]);
    let key = upright_keys::KeyPair::generate().unwrap();
    key.save(&shop.root().join("keys/beta-2.pem"), None).unwrap();
    shop.configure("keys/beta.pem", "keys/beta-2.pem");
    let changes = shop.rotate(&[]).unwrap().changes;
    assert!(changes.iter().any(|change| matches!(change, Change::BeginAnew { .. })), "{changes:?}");
    assert_eq!(listed(&shop, Some(&beta())), Vec::<String>::new());
    shop.publish("1.2", "beta").unwrap();
    assert_eq!(errors(&shop), Vec::<String>::new());
    assert!(shop.root().join(format!("repository/metadata/4.{BETA}.json")).exists());
}

#[test]
fn a_channel_takes_its_releases_along_when_it_gets_a_team() {
    let shop = Shop::new();
    shop.configure("channels = [\"stable\"]", "channels = [\"stable\", \"beta\"]");
    three(&shop);
    shop.publish("1.0", "beta").unwrap();
    shop.publish("1.1", "beta").unwrap();
    shop.team("beta", "[\"beta\"]");
    let error = shop.publish("1.2", "beta").unwrap_err();
    assert!(error.starts_with("beta is signed by beta according to upright.toml, but by targets"), "{error}");
    shop.rotate(&[]).unwrap();
    assert_eq!(listed(&shop, Some(&beta())), ["1.0", "1.1"]);
    assert_eq!(errors(&shop), Vec::<String>::new());
    shop.lose(&["root", "targets"]);
    assert_eq!(shop.publish("1.2", "beta").unwrap().edges.len(), 2);
    assert_eq!(errors(&shop), Vec::<String>::new());
}

#[test]
fn a_team_that_ends_offers_nothing_any_more_and_may_come_back() {
    let shop = shop();
    small(&shop);
    shop.rotate(&[]).unwrap();
    shop.publish("1.0", "stable").unwrap();
    shop.publish("1.1", "beta").unwrap();
    let with_team = fs::read_to_string(shop.root().join("upright.toml")).unwrap();
    shop.configure("[teams.beta]\nchannels = [\"beta\"]\nkeys = [\"keys/beta.pem\"]\n", "");
    // Neither the root's key nor the team's is needed for that.
    shop.lose(&["root"]);
    let changes = shop.rotate(&[]).unwrap().changes;
    assert_eq!(changes, [Change::RemoveTeam { role: BETA.into() }]);
    assert_eq!(listed(&shop, Some(&beta())), Vec::<String>::new());
    assert!(Published::read(&shop.open()).unwrap().channel(&beta()).is_none());
    shop.publish("1.1", "beta").unwrap();
    assert_eq!(listed(&shop, None), ["1.0", "1.1"]);
    fs::write(shop.root().join("upright.toml"), with_team).unwrap();
    shop.rotate(&[]).unwrap();
    // Hosts that have seen the team's second document take no second one that says something else.
    assert!(shop.root().join(format!("repository/metadata/3.{BETA}.json")).exists());
    assert_eq!(listed(&shop, Some(&beta())), ["1.1"]);
    assert_eq!(errors(&shop), Vec::<String>::new());
}

#[test]
fn a_rotation_that_is_cut_off_at_any_step_is_brought_to_its_end() {
    let shop = Shop::new();
    small(&shop);
    shop.publish("1.0", "stable").unwrap();
    shop.configure("channels = [\"stable\"]", "channels = [\"stable\", \"beta\"]");
    shop.team("beta", "[\"beta\"]");
    let key = upright_keys::KeyPair::generate().unwrap();
    key.save(&shop.root().join("keys/timestamp-2.pem"), None).unwrap();
    shop.configure("keys/timestamp.pem", "keys/timestamp-2.pem");
    let mut steps = 0;
    loop {
        let shop = shop.copy();
        let done = shop.rotate_through(&CutOff::after(steps), &[]).is_ok();
        let workspace = shop.open();
        ceremony::finish(&workspace, &OnDisk).unwrap();
        let changes = shop.rotate(&[]).unwrap().changes;
        assert!(changes.is_empty() || !done);
        assert_eq!(errors(&shop), Vec::<String>::new(), "after {steps} steps");
        shop.publish("1.1", "beta").unwrap();
        if done {
            assert!(steps > 10, "{steps}");
            break;
        }
        steps += 1;
    }
}

#[test]
fn a_teams_role_is_told_about_before_it_expires() {
    let shop = shop();
    small(&shop);
    shop.rotate(&[]).unwrap();
    shop.publish("1.0", "beta").unwrap();
    let shop = shop.later(61);
    let report = audit(&shop);
    let warned = report.warnings.iter().find(|warning| warning.starts_with(BETA)).unwrap();
    assert!(warned.contains("run `upright-build refresh --role beta`"), "{warned}");
    assert!(
        report
            .metadata
            .iter()
            .any(|role| role.role == BETA && role.expires == NOW + SignedDuration::from_hours(90 * 24))
    );
    let report = audit(&shop.later(30));
    assert!(
        report.errors.iter().any(|e| e.starts_with(&format!("hosts refuse what {BETA} lists: it expired"))),
        "{report:?}"
    );
}

#[test]
fn an_audit_reads_nothing_outside_of_the_repository() {
    let shop = shop();
    small(&shop);
    shop.rotate(&[]).unwrap();
    shop.publish("1.0", "stable").unwrap();
    let digest = Digest::of(b"secret");
    fs::write(shop.root().join(format!("{digest}.secret")), "secret").unwrap();
    let workspace = shop.open();
    let mut metadata = Published::read(&workspace).unwrap().metadata;
    metadata.set_target("releases/../../secret", 6, digest).unwrap();
    let roles = ["targets", "snapshot", "timestamp"];
    let signers = Signers::open(&workspace, &roles, None).unwrap();
    for file in metadata.sign(&signers.all(), shop.now).unwrap() {
        fs::write(shop.root().join("repository/metadata").join(file.name), file.bytes).unwrap();
    }
    let found = format!("releases/../../secret: releases/../../{digest}.secret is not there");
    assert_eq!(errors(&shop), [found]);
}
