//! What the host has stored: power cuts, damage, and the root that its image brings.

use super::repository::*;
use crate::tuf::{Kind, Stored};

/// A repository that has moved on since `host` last saw it: new root, rotated keys, new everything.
fn moved_on() -> (Repository, Host) {
    let mut repository = Repository::new();
    repository.publish();
    let host = Host::following(&repository);
    repository.appoint("timestamp", &[7], 1);
    repository.appoint("snapshot", &[8], 1);
    repository.publish_root();
    repository.publish_root();
    repository.publish();
    (repository, host)
}

#[test]
fn power_may_go_between_any_two_writes() {
    let (repository, host) = moved_on();
    let mut whole = host.clone();
    whole.effects = 0;
    whole.refresh(&repository).unwrap();
    assert_eq!(whole.effects, 7, "two roots, two removals, three documents");
    for after in 0..whole.effects {
        let mut host = host.clone();
        (host.effects, host.power_cut_after) = (0, Some(after));
        assert_eq!(host.refresh(&repository).unwrap_err().document, POWER_CUT);
        host.power_cut_after = None;
        host.refresh(&repository).unwrap_or_else(|error| panic!("after {after} effects: {error}"));
        assert_eq!(host.stored, whole.stored, "after {after} effects");
    }
}

#[test]
fn a_damaged_store_is_an_error_and_never_an_empty_one() {
    let repository = Repository::new();
    for name in ["root.json", "timestamp.json", "snapshot.json"] {
        for damage in [&b""[..], b"{}", b"\0\0\0\0"] {
            let mut host = Host::following(&repository);
            host.stored.insert(name.into(), damage.to_vec());
            let error = host.refresh(&repository).unwrap_err();
            assert_eq!(error.kind(), Kind::Stored, "{name}: {error}");
            assert!(error.to_string().contains("`upright reset-trust` starts again"), "{error}");
        }
    }
}

/// A flipped digit leaves a document that can be read, and must not be taken for one that former keys have signed.
#[test]
fn a_flipped_digit_in_what_is_stored_makes_no_host_forget_what_it_has_seen() {
    let mut repository = Repository::new();
    let old = repository.served.clone();
    repository.publish();
    let new = repository.served.clone();
    for name in ["timestamp.json", "snapshot.json"] {
        for marker in ["\"sig\": \"", "\"version\": ", "\"expires\": \"2"] {
            repository.served = new.clone();
            let mut host = Host::following(&repository);
            let mut bytes = host.stored[name].clone();
            let at = bytes.windows(marker.len()).position(|part| part == marker.as_bytes()).unwrap()
                + marker.len();
            bytes[at] = if bytes[at] == b'1' { b'3' } else { b'1' };
            host.stored.insert(name.into(), bytes);
            let before = host.stored.clone();
            for served in [&old, &new] {
                repository.served = served.clone();
                let error = host.refresh(&repository).unwrap_err();
                assert_eq!(error.kind(), Kind::Stored, "{name}, {marker}: {error}");
                assert_eq!(host.stored, before);
            }
        }
    }
}

#[test]
fn a_damaged_copy_that_nothing_depends_on_is_fetched_again() {
    let repository = Repository::new();
    let mut host = Host::following(&repository);
    let good = host.stored.insert("targets.json".into(), b"{".to_vec());
    host.refresh(&repository).unwrap();
    assert_eq!(host.stored.get("targets.json"), good.as_ref());
}

/// Another digit in place of the first one after `mark`.
fn flip_digit(bytes: &mut [u8], mark: &str) {
    let at = bytes.windows(mark.len()).position(|window| window == mark.as_bytes()).unwrap() + mark.len();
    bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
}

#[test]
fn a_damaged_key_id_in_what_is_stored_opens_no_way_back() {
    let mut repository = Repository::new();
    let old = repository.served["timestamp.json"].clone();
    repository.publish();
    let good = Host::following(&repository);
    repository.served.insert("timestamp.json".into(), old);
    for name in ["timestamp.json", "snapshot.json"] {
        let mut host = good.clone();
        flip_digit(host.stored.get_mut(name).unwrap(), "\"keyid\": \"");
        assert_eq!(host.refresh(&repository).unwrap_err().kind(), Kind::Rollback, "{name}");
    }
}

#[test]
fn stored_targets_with_a_damaged_digit_are_fetched_again_as_the_snapshot_lists_them() {
    let mut repository = Repository::new();
    repository.publish();
    let good = Host::following(&repository);
    for mark in ["\"sig\": \"", "\"version\": ", "\"expires\": \"20", "\"keyid\": \""] {
        let mut host = good.clone();
        flip_digit(host.stored.get_mut("targets.json").unwrap(), mark);
        host.refresh(&repository).unwrap();
        assert_eq!(host.stored, good.stored, "{mark}");
        assert_eq!(host.requests.last().map(String::as_str), Some("2.targets.json"), "{mark}");
    }
}

#[test]
fn of_keys_with_a_threshold_those_that_stay_do_not_make_a_rotation_damage() {
    let mut repository = Repository::new();
    repository.appoint("timestamp", &[4, 5], 2);
    repository.publish_root();
    repository.publish();
    let mut host = Host::following(&repository);
    // One of two is replaced: what the other has signed as well is left over, not damaged.
    repository.appoint("timestamp", &[4, 6], 2);
    repository.publish_root();
    repository.timestamp.header.version = 0;
    repository.publish_timestamp();
    host.refresh(&repository).unwrap();
    assert_eq!(host.version("timestamp.json"), Some(1));
}

#[test]
fn a_stored_snapshot_that_has_expired_is_not_used_again() {
    let mut repository = Repository::new();
    repository.snapshot.header.expires = now() + days(1);
    repository.publish_snapshot();
    let mut host = Host::following(&repository);
    let error = host.refresh_at(&repository, now() + days(2)).unwrap_err();
    assert_eq!((error.document.as_str(), error.kind()), ("2.snapshot.json", Kind::Expired));
}

#[test]
fn a_stored_snapshot_other_than_the_listed_one_is_fetched_again() {
    let mut repository = Repository::new();
    let mut host = Host::following(&repository);
    // As validly signed, and of the same version.
    repository.snapshot.header.expires = now() + days(29);
    let good = host.stored.insert("snapshot.json".into(), signed(&repository.snapshot, &[3]));
    host.refresh(&repository).unwrap();
    assert_eq!(host.stored.get("snapshot.json"), good.as_ref());
}

#[test]
fn a_stored_root_that_was_tampered_with_is_refused() {
    let repository = Repository::new();
    let mut host = Host::following(&repository);
    let text = String::from_utf8(repository.served["1.root.json"].clone()).unwrap();
    host.stored.insert("root.json".into(), text.replace("\"threshold\": 1", "\"threshold\": 2").into_bytes());
    assert_eq!(host.refresh(&repository).unwrap_err().kind(), Kind::Stored);
}

#[test]
fn an_image_brings_trust_further_and_never_back() {
    let mut repository = Repository::new();
    repository.publish_root();
    let [one, two] = ["1.root.json", "2.root.json"].map(|name| repository.served[name].clone());
    let stored = |root: &[u8]| [("root.json".to_owned(), root.to_vec())].into();
    assert_eq!(Stored::new(Some(two.clone()), stored(&one)).unwrap().root, two);
    assert_eq!(Stored::new(Some(one.clone()), stored(&two)).unwrap().root, two);
    assert_eq!(Stored::new(None, stored(&one)).unwrap().root, one);
    assert_eq!(Stored::new(Some(one.clone()), Default::default()).unwrap().root, one);
    assert_eq!(Stored::new(None, Default::default()).unwrap_err().kind(), Kind::Stored);
    assert_eq!(Stored::new(Some(one), stored(b"")).unwrap_err().kind(), Kind::Stored);
}
