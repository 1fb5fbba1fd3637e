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
    metadata.set_target("releases/a/1.json", 3, Digest::of(b"one")).unwrap();
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
    metadata.set_target("releases/a/2.json", 3, Digest::of(b"two")).unwrap();
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
    metadata.set_target("releases/a/1.json", 3, Digest::of(b"one")).unwrap();
    assert_eq!(metadata.sign(&signers(&pairs), now()).unwrap(), []);
}

#[test]
fn a_refresh_needs_the_online_keys_alone_and_outlives_an_expiry() {
    let (mut world, _, pairs) = published();
    let late = now() + days(8);
    assert_eq!(world.look_up("releases/a/1.json", late).unwrap_err().kind(), Kind::Expired);
    let mut metadata = world.open();
    metadata.renew("snapshot").unwrap();
    let names = world.upload(metadata.sign(&signers(&pairs[5..]), late).unwrap());
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
    metadata.set_target("releases/a/2.json", 3, Digest::of(b"two")).unwrap();
    let error = metadata.sign(&signers(&pairs[5..]), now()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("targets cannot be signed: it has 0 of the 1 signatures that the root asks for"),
        "{text}"
    );
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
    assert!(error.to_string().contains("that the published root asks for; not from"), "{error}");
    without_old.extend(signers(&pairs[..2]));
    let without_new = signers(&pairs[..7]);
    let error = metadata.sign(&without_new, now()).unwrap_err();
    assert!(error.to_string().contains("that the new root asks for; not from"), "{error}");
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

const TEAM: &str = "a.x.team";

/// The same with a team that speaks for `channels/t` and below `releases/t`, with the key 7.
fn with_team() -> (World, Metadata, Vec<KeyPair>) {
    let (mut world, mut metadata, pairs) = published();
    metadata.set_target("channels/t", 1, Digest::of(b"t")).unwrap();
    world.upload(metadata.sign(&signers(&pairs), now()).unwrap());
    let before = metadata.clone();
    let paths = ["channels/t".to_owned(), "releases/t/*".to_owned()];
    metadata.delegate(TEAM, &spec(&pairs[7..], 1), &paths).unwrap();
    metadata.settle(&before, &[TEAM.to_owned()]).unwrap();
    let names = world.upload(metadata.sign(&signers(&pairs), now()).unwrap());
    assert_eq!(names, ["3.targets.json", "1.a.x.team.json", "3.snapshot.json", "timestamp.json"]);
    (world, metadata, pairs)
}

#[test]
fn a_team_needs_its_own_key_and_the_online_ones() {
    let (mut world, _, pairs) = with_team();
    assert_eq!(world.look_up("channels/t", now()).unwrap().length, 1, "it has been taken along");
    let mut metadata = world.open();
    metadata.set_target("releases/t/1", 3, Digest::of(b"one")).unwrap();
    let names = world.upload(metadata.sign(&signers(&pairs[5..]), now()).unwrap());
    assert_eq!(names, ["2.a.x.team.json", "4.snapshot.json", "timestamp.json"]);
    assert_eq!(world.look_up("releases/t/1", now()).unwrap().sha256().unwrap(), Digest::of(b"one"));
    let mut metadata = world.open();
    metadata.set_target("releases/a/2.json", 3, Digest::of(b"two")).unwrap();
    let error = metadata.sign(&signers(&pairs[5..]), now()).unwrap_err();
    assert!(error.to_string().starts_with("targets cannot be signed"), "{error}");
}

#[test]
fn a_team_bequeaths_nothing_that_it_had_no_say_in() {
    let (mut world, mut metadata, pairs) = with_team();
    let evil =
        TargetFile { length: 4, hashes: Hashes::sha256_only(Digest::of(b"evil")), extra: Extra::new() };
    let draft = metadata.delegated.get_mut(TEAM).unwrap();
    draft.body.targets.insert("channels/other".into(), evil);
    draft.changed = true;
    world.upload(metadata.sign(&signers(&pairs), now()).unwrap());
    let mut metadata = world.open();
    let before = metadata.clone();
    metadata.delegate("a.x.other", &spec(&pairs[6..7], 1), &["channels/other".to_owned()]).unwrap();
    metadata.delegate(TEAM, &spec(&pairs[5..6], 1), &["channels/t".to_owned()]).unwrap();
    metadata.settle(&before, &[TEAM.to_owned(), "a.x.other".to_owned()]).unwrap();
    world.upload(metadata.sign(&signers(&pairs), now()).unwrap());
    assert_eq!(world.look_up("channels/other", now()).unwrap_err().kind(), Kind::NotFound);
    assert_eq!(world.look_up("channels/t", now()).unwrap().length, 1);
}

#[test]
fn a_team_that_comes_back_goes_on_where_it_was() {
    let (mut world, mut metadata, pairs) = with_team();
    world.look_up("channels/t", now()).unwrap();
    metadata.end_delegation(TEAM);
    world.upload(metadata.sign(&signers(&pairs), now()).unwrap());
    assert_eq!(world.look_up("channels/t", now()).unwrap_err().kind(), Kind::NotFound);
    let mut metadata = world.open();
    metadata.delegate(TEAM, &spec(&pairs[7..], 1), &["channels/t".to_owned()]).unwrap();
    metadata.set_target("channels/t", 2, Digest::of(b"t2")).unwrap();
    let names = world.upload(metadata.sign(&signers(&pairs), now()).unwrap());
    assert!(names.contains(&"2.a.x.team.json".to_owned()), "{names:?}");
    assert_eq!(world.look_up("channels/t", now()).unwrap().length, 2);
}

#[test]
fn what_others_delegate_is_carried_along_as_it_is() {
    let (mut world, mut metadata, pairs) = published();
    let key = pairs[7].public();
    let foreign = serde_json::json!({
        "keys": {
            key.tuf_id().as_str(): { "keytype": "ed25519", "scheme": "ed25519", "x-label": ["hsm"],
                                     "keyval": { "public": key.to_string(), "x": 1 } },
            "unused": { "keytype": "odd", "scheme": "odd", "keyval": { "public": "?" } },
        },
        "roles": [{ "name": "theirs", "terminating": false, "path_hash_prefixes": ["00", "01"], "x-since": "2020",
                    "keyids": [key.tuf_id()], "threshold": 1 }],
        "x-note": { "a": [1, true, null] },
    });
    metadata.targets.body.delegations = serde_json::from_value(foreign.clone()).unwrap();
    metadata.targets.changed = true;
    world.upload(metadata.sign(&signers(&pairs), now()).unwrap());
    let delegations = |world: &World, name: &str| {
        let document: serde_json::Value = serde_json::from_slice(&world.served[name]).unwrap();
        document["signed"]["delegations"].clone()
    };
    // Its role has published nothing so far, which is in nobody's way.
    let mut metadata = world.open();
    assert_eq!(metadata.unusable().keys().collect::<Vec<_>>(), ["theirs"]);
    metadata.set_target("releases/a/2.json", 3, Digest::of(b"two")).unwrap();
    world.upload(metadata.sign(&signers(&pairs), now()).unwrap());
    assert_eq!(delegations(&world, "3.targets.json"), foreign);
    // A team beside it changes nothing of it either.
    let mut metadata = world.open();
    metadata.delegate(TEAM, &spec(&pairs[7..], 1), &["channels/t".to_owned()]).unwrap();
    metadata.end_delegation(TEAM);
    world.upload(metadata.sign(&signers(&pairs), now()).unwrap());
    assert_eq!(delegations(&world, "4.targets.json"), foreign);
}

#[test]
fn documents_that_were_signed_elsewhere_are_taken_in() {
    let (world, _, pairs) = published();
    let mut metadata = world.open();
    metadata.set_role("timestamp", &spec(&pairs[7..], 1)).unwrap();
    let online = signers(&pairs[5..]);
    let at = |metadata: &mut Metadata, now, staged| {
        metadata.sign_with(&Ceremony { signers: &online, now, staged }).map_err(|error| error.to_string())
    };
    let Signed::Lacking(lacking) = at(&mut metadata, now(), BTreeMap::new()).unwrap() else { panic!() };
    let [Unsigned { role, file, lacks }] = &lacking[..] else { panic!("{lacking:?}") };
    assert_eq!((role.as_str(), file.name.as_str(), lacks.len()), ("root", "2.root.json", 2));
    let mut envelope = upright_keys::Envelope::parse(&file.bytes).unwrap();
    envelope.sign(&pairs[0]).unwrap();
    envelope.sign(&pairs[2]).unwrap();
    let staged = |envelope: &upright_keys::Envelope| [(file.name.clone(), envelope.clone())].into();
    // A day later, because people are slow; then too late, because nobody signs what has expired.
    let error = at(&mut metadata, now() + days(366), staged(&envelope)).unwrap_err();
    assert!(error.starts_with("2.root.json was staged for something else"), "{error}");
    let Signed::Complete(files) = at(&mut metadata.clone(), now() + days(1), staged(&envelope)).unwrap()
    else {
        panic!()
    };
    assert_eq!(
        files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(),
        ["2.root.json", "timestamp.json"]
    );
    assert_eq!(files[0].bytes, envelope.to_bytes());
    // What was staged before something else changed is not what would be published now.
    metadata.set_role("targets", &spec(&pairs[4..5], 1)).unwrap();
    let error = at(&mut metadata, now(), staged(&envelope)).unwrap_err();
    assert!(error.starts_with("2.root.json was staged for something else"), "{error}");
}

#[test]
fn signatures_that_do_not_hold_are_not_taken_in() {
    let (world, _, pairs) = published();
    let mut metadata = world.open();
    metadata.renew("root").unwrap();
    let online = signers(&pairs[5..]);
    let at = |metadata: &mut Metadata, staged| {
        metadata.sign_with(&Ceremony { signers: &online, now: now(), staged }).unwrap()
    };
    let Signed::Lacking(lacking) = at(&mut metadata, BTreeMap::new()) else { panic!() };
    let [Unsigned { file, lacks, .. }] = &lacking[..] else { panic!("{lacking:?}") };
    let mut envelope = upright_keys::Envelope::parse(&file.bytes).unwrap();
    for id in &lacks[0].keys {
        envelope.signatures.insert(id.clone(), "00".repeat(64));
    }
    let Signed::Lacking(again) = at(&mut metadata, [(file.name.clone(), envelope)].into()) else { panic!() };
    assert_eq!(again, lacking, "whoever signed in vain is asked again");
}

#[test]
fn versions_that_a_thief_has_used_up_begin_again_when_the_online_keys_are_replaced() {
    let (mut world, mut metadata, pairs) = with_team();
    world.look_up("channels/t", now()).unwrap();
    let last = upright_manifests::tuf::limits::VERSION;
    for draft in [&mut metadata.targets, metadata.delegated.get_mut(TEAM).unwrap()] {
        draft.published.as_mut().unwrap().header.version = last - 1;
        draft.changed = true;
    }
    metadata.snapshot.published.as_mut().unwrap().header.version = last - 1;
    metadata.timestamp.published.as_mut().unwrap().header.version = last - 1;
    metadata.snapshot.body.meta.get_mut(&format!("{TEAM}.json")).unwrap().version = last - 1;
    world.upload(metadata.sign(&signers(&pairs), now()).unwrap());
    assert_eq!(world.look_up("channels/t", now()).unwrap().length, 1);

    let mut metadata = world.open();
    metadata.set_target("releases/a/2.json", 3, Digest::of(b"two")).unwrap();
    metadata.set_target("releases/t/2", 3, Digest::of(b"two")).unwrap();
    let error = metadata.sign(&signers(&pairs), now()).unwrap_err().to_string();
    assert!(error.starts_with("targets has the highest version that there is"), "{error}");
    metadata.set_role("snapshot", &spec(&pairs[3..4], 1)).unwrap();
    metadata.set_role("timestamp", &spec(&pairs[4..5], 1)).unwrap();
    let names = world.upload(metadata.sign(&signers(&pairs), now()).unwrap());
    assert_eq!(
        names,
        ["2.root.json", "1.targets.json", "1.a.x.team.json", "1.snapshot.json", "timestamp.json"]
    );
    for path in ["channels/t", "releases/a/2.json", "releases/t/2"] {
        world.look_up(path, now()).unwrap();
    }
}

#[test]
fn what_is_published_without_teams_has_the_bytes_that_it_had_before_there_were_any() {
    let (mut world, _, pairs) = published();
    let mut metadata = world.open();
    metadata.set_target("channels/a/stable.json", 3, Digest::of(b"two")).unwrap();
    metadata.set_role("timestamp", &spec(&pairs[5..6], 1)).unwrap();
    world.upload(metadata.sign(&signers(&pairs), now()).unwrap());
    let all: Vec<u8> =
        world.served.iter().flat_map(|(name, bytes)| [name.as_bytes(), bytes].concat()).collect();
    assert_eq!(
        Digest::of(&all).to_string(),
        "dd8d3891d59557e97148ebef963ff627a3b5b211d1bc152bc5fb31dee38bc4eb"
    );
}
