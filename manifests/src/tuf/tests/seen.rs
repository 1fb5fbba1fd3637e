//! A host that remembers which versions it has seen, beside the documents: what of these is damaged is fetched anew, and nothing goes back.

use super::repository::*;
use crate::tuf::{Kind, Problem, TufError, limits};

/// Everything that a document can have become.
fn damages(good: &[u8]) -> Vec<Vec<u8>> {
    let mut damages = vec![Vec::new(), b"{}".to_vec(), good[..good.len() / 2].to_vec(), vec![0; good.len()]];
    for marker in ["\"sig\": \"", "\"version\": ", "\"expires\": \"20"] {
        let at =
            good.windows(marker.len()).position(|part| part == marker.as_bytes()).unwrap() + marker.len();
        let mut flipped = good.to_vec();
        flipped[at] = if flipped[at] == b'3' { b'1' } else { b'3' };
        damages.push(flipped);
    }
    damages
}

/// A repository and what it served before.
fn moved_on() -> (Repository, Repository) {
    let mut repository = Repository::new();
    repository.publish_root();
    repository.publish();
    let old = Repository { served: repository.served.clone(), ..Repository::new() };
    repository.publish_root();
    repository.publish();
    (old, repository)
}

const NAMES: [&str; 3] = ["root.json", "timestamp.json", "snapshot.json"];

#[test]
fn what_is_damaged_is_fetched_anew() {
    let (_, repository) = moved_on();
    let good = Host::remembering(&repository);
    for name in NAMES {
        for damage in damages(&good.stored[name]) {
            let mut host = good.clone();
            host.stored.insert(name.into(), damage.clone());
            host.refresh(&repository).unwrap();
            assert_eq!((&host.stored, &host.seen), (&good.stored, &good.seen), "{name}: {damage:?}");
            assert_eq!(host.dropped, [name]);
            host.refresh(&repository).unwrap();
            assert!(host.dropped.is_empty(), "{name}: {damage:?}");
        }
    }
    let mut host = good.clone();
    host.stored.values_mut().for_each(Vec::clear);
    host.refresh(&repository).unwrap();
    assert_eq!(host.stored, good.stored);
}

#[test]
fn a_root_that_was_damaged_is_kept_whole_though_none_is_newer_than_the_shipped_one() {
    let repository = Repository::new();
    let mut host = Host::remembering(&repository);
    host.stored.insert("root.json".into(), b"{".to_vec());
    host.refresh(&repository).unwrap();
    assert_eq!(host.stored["root.json"], repository.served["1.root.json"]);
}

#[test]
fn nothing_older_is_taken_for_what_was_damaged_or_lost() {
    let (old, repository) = moved_on();
    let good = Host::remembering(&repository);
    for name in NAMES.iter().map(|name| vec![*name]).chain([NAMES.to_vec()]) {
        for damage in [None, Some(b"{".to_vec())] {
            let mut host = good.clone();
            for name in &name {
                host.stored.remove(*name);
                host.stored.extend(damage.clone().map(|damage| ((*name).to_owned(), damage)));
            }
            for _ in 0..2 {
                let error = host.refresh(&old).unwrap_err();
                assert_eq!(error.kind(), Kind::Rollback, "{name:?}: {error}");
            }
            host.refresh(&repository).unwrap();
            assert_eq!(host.stored, good.stored);
        }
    }
}

#[test]
fn an_older_root_makes_no_host_forget_what_was_signed_under_the_newer_one() {
    let mut repository = Repository::new();
    repository.publish();
    let old = Repository { served: repository.served.clone(), ..Repository::new() };
    repository.appoint("timestamp", &[7], 1);
    repository.publish_root();
    repository.publish();
    let good = Host::remembering(&repository);
    let mut host = good.clone();
    host.stored.insert("root.json".into(), Vec::new());
    let error = host.refresh(&old).unwrap_err();
    assert_eq!((error.document.as_str(), error.kind()), ("root.json", Kind::Rollback));
    assert_eq!(host.stored["timestamp.json"], good.stored["timestamp.json"]);
    host.refresh(&repository).unwrap();
    assert_eq!(host.stored, good.stored);
}

#[test]
fn a_newer_snapshot_with_older_or_fewer_roles_is_refused_though_the_last_one_was_damaged() {
    let mut repository = Repository::new();
    repository.delegate("targets", "team", &["team/*"], false, 9);
    repository.publish();
    repository.publish();
    let good = Host::remembering(&repository);
    for name in ["targets.json", "team.json"] {
        let mut host = good.clone();
        host.stored.insert("snapshot.json".into(), b"{".to_vec());
        let meta = repository.snapshot.meta.clone();
        repository.snapshot.meta.get_mut(name).unwrap().version = 1;
        repository.publish_snapshot();
        assert_eq!(host.refresh(&repository).unwrap_err().kind(), Kind::Rollback, "{name}");
        repository.snapshot.meta.remove(name);
        repository.publish_snapshot();
        // One without targets is none at all.
        let is_refused = |error: &TufError| {
            name == "targets.json" || matches!(&error.problem, Problem::Removed { role } if role == name)
        };
        assert!(host.refresh(&repository).is_err_and(|error| is_refused(&error)), "{name}");
        repository.snapshot.meta = meta;
        repository.publish_snapshot();
        host.refresh(&repository).unwrap();
    }
}

#[test]
fn keys_that_were_replaced_end_a_fast_forward_of_what_is_remembered_too() {
    for role in ["timestamp", "snapshot"] {
        for damaged in [None, Some("timestamp.json"), Some("snapshot.json")] {
            let mut repository = Repository::new();
            let versions =
                [&mut repository.timestamp.header.version, &mut repository.snapshot.header.version];
            versions.into_iter().for_each(|version| *version = 1 << 52);
            repository.publish_snapshot();
            let mut host = Host::remembering(&repository);
            host.stored.extend(damaged.map(|name| (name.to_owned(), Vec::new())));
            (repository.timestamp.header.version, repository.snapshot.header.version) = (1, 1);
            repository.appoint(role, &[7], 1);
            repository.publish_root();
            repository.publish_snapshot();
            host.refresh(&repository).unwrap_or_else(|error| panic!("{role}, {damaged:?}: {error}"));
            let seen = host.seen.unwrap();
            assert_eq!((seen.timestamp, seen.snapshot), (2, 2), "{role}, {damaged:?}");
        }
    }
}

#[test]
fn power_may_go_while_damage_is_mended() {
    let (old, repository) = moved_on();
    let good = Host::remembering(&repository);
    for name in NAMES {
        let mut host = good.clone();
        host.stored.insert(name.into(), b"{".to_vec());
        for after in 0.. {
            let mut host = host.clone();
            (host.effects, host.power_cut_after) = (0, Some(after));
            let done = host.refresh(&repository).is_ok();
            host.power_cut_after = None;
            assert_eq!(
                host.refresh(&old).unwrap_err().kind(),
                Kind::Rollback,
                "{name} after {after} effects"
            );
            host.refresh(&repository).unwrap();
            assert_eq!(host.stored, good.stored, "{name} after {after} effects");
            if done {
                break;
            }
        }
    }
}

#[test]
fn what_is_remembered_of_a_long_list_is_bounded() {
    let (_, repository) = moved_on();
    let mut seen = Host::remembering(&repository).seen.unwrap();
    seen.listed.extend((0..5000).map(|number| (format!("a{number}.json"), 1)));
    seen.cut();
    assert_eq!(seen.listed.len(), limits::SEEN);
    assert!(seen.listed.contains_key("targets.json"));
}
