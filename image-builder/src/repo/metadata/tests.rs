//! What a publisher and the hosts behind it rely on.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use upright_keys::{KeyPair, Signer};
use upright_manifests::tuf::{Answer, Client, Fetch, Kind, Outside, Stored, Target};

use super::*;

/// A served `metadata/` folder, and a host's store.
#[derive(Default, Clone)]
struct World {
    served: BTreeMap<String, Vec<u8>>,
    stored: BTreeMap<String, Vec<u8>>,
}

impl World {
    fn upload(&mut self, files: Vec<MetadataFile>) -> Vec<String> {
        let names = files.iter().map(|file| file.name.clone()).collect();
        self.served.extend(files.into_iter().map(|file| (file.name, file.bytes)));
        names
    }

    fn look_up(&mut self, target: &str, now: Time) -> Result<Target, TufError> {
        let shipped = self.served.get("1.root.json").cloned();
        Client::new(Stored::new(shipped, self.stored.clone())?, now)?.target(target, self)
    }

    fn open(&self) -> Metadata {
        let read = |name: &str| Ok(self.served.get(name).cloned());
        Metadata::open(&self.served["1.root.json"], Lifetimes::default(), read).unwrap()
    }
}

impl Outside for World {
    type Error = TufError;

    fn fetch(&mut self, file: &Fetch) -> Result<Answer, TufError> {
        Ok(self.served.get(&file.name).cloned().map_or(Answer::NotFound, Answer::Bytes))
    }

    fn persist(&mut self, name: &str, bytes: &[u8]) -> Result<(), TufError> {
        self.stored.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn forget(&mut self, name: &str) -> Result<(), TufError> {
        self.stored.remove(name);
        Ok(())
    }
}

fn now() -> Time {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

fn pairs() -> Vec<KeyPair> {
    (0..8).map(|seed| KeyPair::from_seed([seed; 32])).collect()
}

fn signers(pairs: &[KeyPair]) -> Vec<&dyn Signer> {
    pairs.iter().map(|pair| pair as &dyn Signer).collect()
}

fn spec(pairs: &[KeyPair], threshold: u32) -> RoleSpec {
    RoleSpec { keys: pairs.iter().map(|pair| *pair.public()).collect(), threshold }
}

/// Two of the keys 0..3 sign for root, one of 3 and 4 for targets, 5 and 6 for snapshot and timestamp.
fn published() -> (World, Metadata, Vec<KeyPair>) {
    let pairs = pairs();
    let roles = Roles {
        root: spec(&pairs[..3], 2),
        targets: spec(&pairs[3..5], 1),
        snapshot: spec(&pairs[5..6], 1),
        timestamp: spec(&pairs[6..7], 1),
    };
    let mut metadata = Metadata::create(&roles, Lifetimes::default(), now()).unwrap();
    metadata.set_target("releases/a/1.json", 3, Digest::of(b"one"));
    let mut world = World::default();
    let names = world.upload(metadata.sign(&signers(&pairs), now()).unwrap());
    assert_eq!(names, ["1.root.json", "1.targets.json", "1.snapshot.json", "timestamp.json"]);
    (world, metadata, pairs)
}

#[test]
fn a_host_finds_what_was_published_and_nothing_else() {
    let (mut world, metadata, _) = published();
    let target = world.look_up("releases/a/1.json", now()).unwrap();
    assert_eq!((target.length, target.sha256().unwrap()), (3, Digest::of(b"one")));
    assert_eq!(target.fetch_path, format!("releases/a/{}.1.json", Digest::of(b"one")));
    assert_eq!(metadata.fetch_path("releases/a/1.json"), Some(target.fetch_path));
    assert_eq!(world.look_up("releases/a/2.json", now()).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn published_metadata_is_extended_from_what_is_served() {
    let (mut world, _, pairs) = published();
    world.look_up("releases/a/1.json", now()).unwrap();
    let mut metadata = world.open();
    metadata.set_target("releases/a/2.json", 3, Digest::of(b"two"));
    let online = signers(&pairs[3..]);
    let names = world.upload(metadata.sign(&online, now()).unwrap());
    assert_eq!(names, ["2.targets.json", "2.snapshot.json", "timestamp.json"]);
    for (path, content) in [("releases/a/1.json", b"one"), ("releases/a/2.json", b"two")] {
        assert_eq!(world.look_up(path, now()).unwrap().sha256().unwrap(), Digest::of(content));
    }
}

#[test]
fn nothing_is_signed_when_nothing_changed() {
    let (world, _, pairs) = published();
    let mut metadata = world.open();
    metadata.set_target("releases/a/1.json", 3, Digest::of(b"one"));
    assert_eq!(metadata.sign(&signers(&pairs), now()).unwrap(), []);
}

#[test]
fn a_refresh_needs_the_online_keys_alone_and_outlives_an_expiry() {
    let (mut world, _, pairs) = published();
    let late = now() + days(8);
    assert_eq!(world.look_up("releases/a/1.json", late).unwrap_err().kind(), Kind::Expired);
    let mut metadata = world.open();
    let names = world.upload(metadata.refresh(&signers(&pairs[5..]), late).unwrap());
    assert_eq!(names, ["2.snapshot.json", "timestamp.json"]);
    world.look_up("releases/a/1.json", late).unwrap();
}

#[test]
fn lifetimes_are_those_of_the_trust_model() {
    let (_, metadata, _) = published();
    let lives = metadata.status().into_iter().map(|role| (role.role, role.expires));
    let expected = [("root", 365), ("targets", 90), ("snapshot", 7), ("timestamp", 7)];
    assert!(lives.eq(expected.map(|(role, life)| (role.to_owned(), now() + days(life)))));
}

#[test]
fn too_few_signers_are_refused_by_name_and_nothing_changes() {
    let (world, _, pairs) = published();
    let mut metadata = world.open();
    metadata.set_target("releases/a/2.json", 3, Digest::of(b"two"));
    let error = metadata.sign(&signers(&pairs[5..]), now()).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("targets cannot be signed: 0 of the 1 signatures needed are valid"), "{text}");
    assert!(text.contains(&pairs[3].public().tuf_id().short()), "{text}");
    let names = world.clone().upload(metadata.sign(&signers(&pairs[3..]), now()).unwrap());
    assert_eq!(names, ["2.targets.json", "2.snapshot.json", "timestamp.json"]);
}

#[test]
fn every_role_can_be_rotated_and_hosts_follow() {
    for role in TOP_LEVEL {
        let (mut world, _, pairs) = published();
        world.look_up("releases/a/1.json", now()).unwrap();
        let mut metadata = world.open();
        metadata.set_role(role, &spec(&pairs[7..], 1)).unwrap();
        world.upload(metadata.sign(&signers(&pairs), now()).unwrap());
        world.look_up("releases/a/1.json", now()).unwrap_or_else(|error| panic!("{role}: {error}"));
        // From here on the new key alone signs for the role.
        let mut metadata = world.open();
        metadata.renew(role).unwrap();
        let old: Vec<_> = signers(&pairs[..7]);
        let error = metadata.sign(&old, now()).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{role} cannot be signed")), "{error}");
        world.upload(metadata.sign(&signers(&pairs), now()).unwrap());
        world.look_up("releases/a/1.json", now()).unwrap();
    }
}

#[test]
fn a_new_root_needs_the_old_keys_and_the_new_ones() {
    let (world, _, pairs) = published();
    let mut metadata = world.open();
    metadata.set_role("root", &spec(&pairs[6..8], 2)).unwrap();
    let mut without_old: Vec<_> = signers(&pairs[3..]);
    let error = metadata.sign(&without_old, now()).unwrap_err();
    assert!(
        matches!(error, MetadataError::Signers { role: "root", under: "the published root", .. }),
        "{error}"
    );
    without_old.extend(signers(&pairs[..2]));
    let without_new = signers(&pairs[..7]);
    let error = metadata.sign(&without_new, now()).unwrap_err();
    assert!(matches!(error, MetadataError::Signers { role: "root", under: "the new root", .. }), "{error}");
    metadata.sign(&without_old, now()).unwrap();
}

#[test]
fn a_threshold_that_cannot_be_met_is_refused() {
    let pairs = pairs();
    let (_, mut metadata, _) = published();
    let twice = RoleSpec { keys: vec![*pairs[0].public(); 2], threshold: 2 };
    for bad in [twice, spec(&pairs[..2], 0), spec(&pairs[..2], 3), spec(&[], 1)] {
        let error = metadata.set_role("targets", &bad).unwrap_err();
        assert!(matches!(error, MetadataError::Threshold { .. }), "{error}");
    }
}

#[test]
fn tampered_metadata_is_not_extended() {
    let (mut world, _, _) = published();
    let name = "1.targets.json";
    let text = String::from_utf8(world.served[name].clone()).unwrap();
    world.served.insert(name.into(), text.replace("\"length\": 3", "\"length\": 4").into_bytes());
    let read = |name: &str| Ok(world.served.get(name).cloned());
    let error = Metadata::open(&world.served["1.root.json"], Lifetimes::default(), read).err().unwrap();
    assert!(error.to_string().starts_with("published metadata: 1.targets.json: "), "{error}");
}

#[test]
fn equal_input_gives_equal_bytes() {
    assert_eq!(published().0.served, published().0.served);
}
