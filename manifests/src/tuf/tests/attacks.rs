//! Attacks on the top-level roles (TUF 1.0, section 1.5.2).

use super::repository::*;
use crate::digest::Digest;
use crate::tuf::schema::{Extra, MetaFile};
use crate::tuf::{Kind, Problem, limits};

fn refused(host: &mut Host, repository: &Repository) -> Kind {
    let before = host.stored.clone();
    let error = host.refresh(repository).unwrap_err();
    // Whatever was refused has not become trusted.
    let name = error.document.rsplit_once('.').map_or("", |(stem, _)| stem);
    let role = name.rsplit('.').next().unwrap_or(name);
    assert_eq!(host.stored.get(&format!("{role}.json")), before.get(&format!("{role}.json")), "{error}");
    assert!(!error.to_string().contains('\n'));
    error.kind()
}

#[test]
fn a_host_follows_a_repository_that_is_in_order() {
    let mut repository = Repository::new();
    let mut host = Host::default();
    let target = host.target(&repository, "file").unwrap();
    assert_eq!(target.fetch_path, format!("{}.file", Digest::of(b"content")));
    assert_eq!(host.requests, ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]);
    // Nothing new: one question for the root, one for the timestamp.
    host.requests.clear();
    host.refresh(&repository).unwrap();
    assert_eq!(host.requests, ["2.root.json", "timestamp.json"]);
    repository.publish();
    host.refresh(&repository).unwrap();
    for name in ["timestamp.json", "snapshot.json", "targets.json"] {
        assert_eq!(host.version(name), Some(2));
        let served = if name == "timestamp.json" { name.to_owned() } else { format!("2.{name}") };
        assert_eq!(host.stored[name], repository.served[&served], "kept byte for byte");
    }
}

#[test]
fn an_older_timestamp_is_refused() {
    let mut repository = Repository::new();
    let old = repository.served["timestamp.json"].clone();
    repository.publish_timestamp();
    let mut host = Host::following(&repository);
    repository.served.insert("timestamp.json".into(), old);
    assert_eq!(refused(&mut host, &repository), Kind::Rollback);
}

#[test]
fn a_newer_timestamp_with_an_older_snapshot_is_refused() {
    let mut repository = Repository::new();
    repository.publish_snapshot();
    let mut host = Host::following(&repository);
    repository.snapshot.header.version = 1;
    repository.serve_snapshot();
    repository.publish_timestamp();
    assert_eq!(refused(&mut host, &repository), Kind::Rollback);
    assert_eq!(host.version("timestamp.json"), Some(2));
}

#[test]
fn a_newer_snapshot_with_older_targets_is_refused() {
    let mut repository = Repository::new();
    repository.publish();
    let mut host = Host::following(&repository);
    repository.targets.get_mut("targets").unwrap().header.version = 1;
    repository.serve_targets("targets");
    repository.publish_snapshot();
    assert_eq!(refused(&mut host, &repository), Kind::Rollback);
}

#[test]
fn a_snapshot_that_drops_a_role_is_refused() {
    let mut repository = Repository::new();
    repository.delegate("targets", "team", &["*"], false, 9);
    repository.publish();
    let mut host = Host::following(&repository);
    repository.snapshot.meta.remove("team.json");
    repository.publish_snapshot();
    let error = host.refresh(&repository).unwrap_err();
    assert_eq!(error.problem, Problem::Removed { role: "team.json".into() });
}

#[test]
fn a_root_that_goes_back_or_skips_a_version_is_refused() {
    for (version, kind) in [(1, Kind::Rollback), (2, Kind::Mismatch), (4, Kind::Mismatch)] {
        let mut repository = Repository::new();
        repository.publish_root();
        let mut host = Host::following(&repository);
        repository.root.header.version = version;
        let bytes = signed(&repository.root, &[1]);
        repository.served.insert("3.root.json".into(), bytes);
        assert_eq!(refused(&mut host, &repository), kind, "{version}");
    }
}

#[test]
fn a_frozen_repository_is_refused_once_its_timestamp_has_expired() {
    let mut repository = Repository::new();
    repository.timestamp.header.expires = now() + days(7);
    repository.publish_timestamp();
    let mut host = Host::following(&repository);
    host.refresh_at(&repository, now() + days(6)).unwrap();
    for late in [7, 8] {
        let error = host.refresh_at(&repository, now() + days(late)).unwrap_err();
        assert_eq!((error.document.as_str(), error.kind()), ("timestamp.json", Kind::Expired), "{late}");
    }
}

#[test]
fn each_expired_document_is_refused_and_named() {
    for (role, name) in [
        ("root", "root.json"),
        ("timestamp", "timestamp.json"),
        ("snapshot", "2.snapshot.json"),
        ("targets", "2.targets.json"),
    ] {
        let mut repository = Repository::new();
        let mut host = Host::following(&repository);
        let expired = now() - days(1);
        match role {
            "root" => repository.root.header.expires = expired,
            "timestamp" => repository.timestamp.header.expires = expired,
            "snapshot" => repository.snapshot.header.expires = expired,
            _ => repository.targets.get_mut("targets").unwrap().header.expires = expired,
        }
        repository.publish_root();
        repository.publish();
        let error = host.refresh(&repository).unwrap_err();
        assert_eq!(error.kind(), Kind::Expired, "{error}");
        assert_eq!(error.document, name);
    }
}

#[test]
fn an_expired_root_in_the_chain_does_not_stop_a_rotation() {
    let mut repository = Repository::new();
    let mut host = Host::following(&repository);
    repository.root.header.expires = now() - days(1);
    repository.publish_root();
    repository.root.header.expires = now() + days(1);
    repository.publish_root();
    host.refresh(&repository).unwrap();
    assert_eq!(host.version("root.json"), Some(3));
}

#[test]
fn signatures_of_another_role_count_for_nothing() {
    for role in ["root", "timestamp", "snapshot", "targets"] {
        let mut repository = Repository::new();
        let mut host = Host::following(&repository);
        let other = if role == "targets" { 3 } else { 2 };
        repository.signers.insert(role.into(), vec![other]);
        if role == "root" {
            repository.root.header.version += 1;
            let bytes = signed(&repository.root, &[other]);
            repository.served.insert("2.root.json".into(), bytes);
        }
        repository.publish();
        assert_eq!(refused(&mut host, &repository), Kind::Signature, "{role}");
    }
}

#[test]
fn a_new_root_needs_the_old_keys_and_the_new_ones() {
    for (seeds, accepted) in [(&[1, 7][..], true), (&[1], false), (&[7], false)] {
        let mut repository = Repository::new();
        let mut host = Host::following(&repository);
        repository.appoint("root", &[7], 1);
        repository.root.header.version += 1;
        repository.served.insert("2.root.json".into(), signed(&repository.root, seeds));
        assert_eq!(host.refresh(&repository).is_ok(), accepted, "{seeds:?}");
    }
}

#[test]
fn one_key_under_two_ids_does_not_meet_a_threshold_of_two() {
    let mut repository = Repository::new();
    let mut host = Host::following(&repository);
    let alias = upright_keys::KeyId::from("alias".to_owned());
    let role = repository.root.roles.get_mut("timestamp").unwrap();
    role.keyids.push(alias.clone());
    role.threshold = 2;
    let id = role.keyids[0].clone();
    let same = repository.root.keys[&id].clone();
    repository.root.keys.insert(alias.clone(), same);
    repository.publish_root();
    repository.publish_timestamp();
    let bytes = &repository.served["timestamp.json"];
    let mut envelope = upright_keys::Envelope::parse(bytes).unwrap();
    envelope.signatures.insert(alias, envelope.signatures[&id].clone());
    repository.served.insert("timestamp.json".into(), envelope.to_bytes());
    assert_eq!(host.refresh(&repository).unwrap_err().kind(), Kind::Signature);
}

#[test]
fn documents_of_two_publications_do_not_mix() {
    for role in ["snapshot", "targets"] {
        let mut repository = Repository::new();
        let mut host = Host::following(&repository);
        repository.publish();
        // Another document of the same version, as validly signed.
        let good = repository.served[&format!("2.{role}.json")].clone();
        repository.snapshot.header.expires = now() + days(29);
        repository.add_target("targets", "other", b"other");
        let other = match role {
            "snapshot" => signed(&repository.snapshot, &[3]),
            _ => signed(&repository.targets["targets"], &[2]),
        };
        assert_ne!(good, other);
        repository.served.insert(format!("2.{role}.json"), other);
        assert_eq!(refused(&mut host, &repository), Kind::Mismatch, "{role}");
    }
}

#[test]
fn without_signed_hashes_the_version_still_has_to_be_the_announced_one() {
    for role in ["snapshot", "targets"] {
        let mut repository = Repository::new();
        let mut host = Host::following(&repository);
        repository.publish();
        let newer = match role {
            "snapshot" => {
                repository.snapshot.header.version = 3;
                signed(&repository.snapshot, &[3])
            }
            _ => {
                repository.targets.get_mut("targets").unwrap().header.version = 3;
                signed(&repository.targets["targets"], &[2])
            }
        };
        repository.snapshot.header.version = 2;
        let bare = MetaFile { version: 2, length: None, hashes: None, extra: Extra::new() };
        repository.snapshot.meta.insert("targets.json".into(), bare.clone());
        repository.serve_snapshot();
        repository.timestamp.meta.insert("snapshot.json".into(), bare);
        repository.serve_timestamp();
        repository.served.insert(format!("2.{role}.json"), newer);
        let error = host.refresh(&repository).unwrap_err();
        assert_eq!(error.problem, Problem::Version { expected: 2, found: 3 }, "{role}");
    }
}

#[test]
fn without_signed_hashes_the_length_still_has_to_be_the_announced_one() {
    let mut repository = Repository::new();
    let found = repository.served["1.snapshot.json"].len() as u64;
    let longer = MetaFile { version: 1, length: Some(found + 1), hashes: None, extra: Extra::new() };
    repository.timestamp.meta.insert("snapshot.json".into(), longer);
    repository.serve_timestamp();
    let error = Host::default().refresh(&repository).unwrap_err();
    assert_eq!(error.problem, Problem::Length { expected: found + 1, found });
}

#[test]
fn a_changed_document_at_an_unchanged_version_is_not_looked_at() {
    let mut repository = Repository::new();
    let mut host = Host::following(&repository);
    repository.timestamp.meta.get_mut("snapshot.json").unwrap().version = 100;
    repository.serve_timestamp();
    host.refresh(&repository).unwrap();
    assert_eq!(host.requests, ["2.root.json", "timestamp.json"]);
}

#[test]
fn a_missing_document_is_an_error_for_all_but_the_next_root() {
    for name in ["timestamp.json", "1.snapshot.json", "1.targets.json"] {
        let mut repository = Repository::new();
        repository.served.remove(name);
        let error = Host::default().refresh(&repository).unwrap_err();
        assert_eq!((error.document.as_str(), error.kind()), (name, Kind::NotFound));
    }
}

#[test]
fn endless_data_is_cut_at_the_signed_length_or_the_limit() {
    for (name, limit) in [
        ("2.root.json", limits::ROOT),
        ("timestamp.json", limits::TIMESTAMP),
        ("1.snapshot.json", Repository::new().served["1.snapshot.json"].len() as u64),
        ("1.targets.json", Repository::new().served["1.targets.json"].len() as u64),
    ] {
        let mut repository = Repository::new();
        let found = limit + 1;
        repository.served.insert(name.into(), vec![b' '; usize::try_from(found).unwrap()]);
        let error = Host::default().refresh(&repository).unwrap_err();
        let too_long = Problem::TooLong { limit, found };
        let differs = Problem::Length { expected: limit, found };
        assert_eq!(error.problem, if name.starts_with('1') { differs } else { too_long }, "{name}");
    }
}

#[test]
fn an_announced_length_beyond_the_limit_is_refused_before_it_is_fetched() {
    let mut repository = Repository::new();
    let mut host = Host::following(&repository);
    repository.publish_snapshot();
    repository.timestamp.meta.get_mut("snapshot.json").unwrap().length = Some(u64::MAX);
    repository.publish_timestamp();
    assert_eq!(refused(&mut host, &repository), Kind::Malformed);
    assert_eq!(host.requests.last().map(String::as_str), Some("timestamp.json"));
}

#[test]
fn a_chain_of_roots_beyond_the_cap_is_followed_in_the_next_refresh() {
    let mut repository = Repository::new();
    let mut host = Host::following(&repository);
    let cap = u64::from(limits::ROOTS);
    for _ in 0..cap + 1 {
        repository.publish_root();
    }
    let error = host.refresh(&repository).unwrap_err();
    assert_eq!(error.problem, Problem::TooManyRoots(limits::ROOTS));
    assert_eq!(host.version("root.json"), Some(cap + 1));
    host.refresh(&repository).unwrap();
    assert_eq!(host.version("root.json"), Some(cap + 2));
}

#[test]
fn a_fast_forward_is_recovered_from_by_rotating_the_keys() {
    let mut repository = Repository::new();
    for version in [&mut repository.timestamp.header.version, &mut repository.snapshot.header.version] {
        *version = 1 << 52;
    }
    repository.publish_snapshot();
    let mut host = Host::following(&repository);
    (repository.timestamp.header.version, repository.snapshot.header.version) = (1, 1);
    repository.appoint("timestamp", &[7], 1);
    repository.appoint("snapshot", &[8], 1);
    repository.publish_snapshot();
    assert!(host.refresh(&repository).is_err(), "before the new root, the old versions count");
    repository.publish_root();
    host.refresh(&repository).unwrap();
    assert_eq!((host.version("timestamp.json"), host.version("snapshot.json")), (Some(2), Some(2)));
}
#[test]
fn replacing_the_keys_of_one_online_role_is_enough_to_recover_from_a_fast_forward() {
    for role in ["timestamp", "snapshot"] {
        let mut repository = Repository::new();
        for version in [&mut repository.timestamp.header.version, &mut repository.snapshot.header.version] {
            *version = 1 << 52;
        }
        repository.publish_snapshot();
        let mut host = Host::following(&repository);
        (repository.timestamp.header.version, repository.snapshot.header.version) = (1, 1);
        repository.appoint(role, &[7], 1);
        repository.publish_root();
        repository.publish_snapshot();
        host.refresh(&repository).unwrap();
        let versions = (host.version("timestamp.json"), host.version("snapshot.json"));
        assert_eq!(versions, (Some(2), Some(2)), "{role}");
    }
}
