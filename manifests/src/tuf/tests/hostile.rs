//! Bytes that no publisher wrote: nothing panics, and what has two readings is refused.

use proptest::prelude::*;

use super::repository::*;
use crate::digest::Digest;
use crate::tuf::schema::{DelegatedRole, HashError, Hashes, Root, Snapshot, Targets, Timestamp};
use crate::tuf::{Document, Kind, Problem, Summary};

const NAMES: [&str; 4] = ["1.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"];

fn parse_all(bytes: &[u8]) {
    let _ = Document::<Root>::parse(bytes);
    let _ = Document::<Timestamp>::parse(bytes);
    let _ = Document::<Snapshot>::parse(bytes);
    let _ = Document::<Targets>::parse(bytes);
    let _ = Summary::of(bytes);
}

#[test]
fn malformed_documents_are_refused() {
    let text = String::from_utf8(Repository::new().served["timestamp.json"].clone()).unwrap();
    let deep = format!("{{\"signatures\":[],\"signed\":{}1{}}}", "[".repeat(9000), "]".repeat(9000));
    for (from, to) in [
        ("\"version\": 1\n", "\"version\": 1,\n\"version\": 2\n"),
        ("\"version\": 1\n", "\"version\": 0\n"),
        ("\"version\": 1\n", "\"version\": 1.0\n"),
        ("\"version\": 1\n", "\"version\": -1\n"),
        ("\"version\": 1\n", "\"version\": 9007199254740992\n"),
        ("\"version\": 1\n", "\"version\": 18446744073709551616\n"),
        ("\"_type\": \"timestamp\"", "\"_type\": \"snapshot\""),
        ("\"spec_version\": \"1.0.33\"", "\"spec_version\": \"2.0.0\""),
        ("2026-01-31T00:00:00Z", "tomorrow"),
        ("snapshot.json", "other.json"),
        (text.as_str(), "<html>"),
        (text.as_str(), ""),
        (text.as_str(), deep.as_str()),
    ] {
        let mut repository = Repository::new();
        let bent = text.replace(from, to);
        assert_ne!(bent, text, "{from} is not in the document");
        repository.served.insert("timestamp.json".into(), bent.into_bytes());
        let error = Host::default().refresh(&repository).unwrap_err();
        assert_eq!(error.kind(), Kind::Malformed, "{to:.60}: {error}");
    }
}

#[test]
fn a_hash_of_an_unknown_algorithm_vouches_for_nothing() {
    let mut repository = Repository::new();
    let unknown = Hashes([("md5".to_owned(), "00".repeat(16))].into());
    repository.timestamp.meta.get_mut("snapshot.json").unwrap().hashes = Some(unknown);
    repository.serve_timestamp();
    let error = Host::default().refresh(&repository).unwrap_err();
    assert_eq!(error.problem, Problem::Hash(HashError::Unknown));
}

#[test]
fn each_hash_of_a_known_algorithm_is_compared() {
    let good = Repository::new().served["1.snapshot.json"].clone();
    let sha256 = || ("sha256".to_owned(), Digest::of(&good).to_string());
    for (hashes, differs) in [
        ([sha256(), ("sha512".to_owned(), "00".repeat(64))].into(), "sha512"),
        ([("sha512".to_owned(), "00".repeat(64))].into(), "sha512"),
        ([("sha256".to_owned(), "00".repeat(32))].into(), "sha256"),
    ] {
        let mut repository = Repository::new();
        repository.timestamp.meta.get_mut("snapshot.json").unwrap().hashes = Some(Hashes(hashes));
        repository.serve_timestamp();
        let error = Host::default().refresh(&repository).unwrap_err();
        assert_eq!(error.problem, Problem::Hash(HashError::Differs(differs)));
    }
}

#[test]
fn a_role_that_needs_no_signature_or_lists_a_key_twice_is_refused() {
    for (seeds, threshold) in [(&[4][..], 0), (&[4, 4], 1)] {
        let mut repository = Repository::new();
        let mut host = Host::following(&repository);
        repository.appoint("timestamp", seeds, threshold);
        repository.publish_root();
        let error = host.refresh(&repository).unwrap_err();
        assert_eq!((error.document.as_str(), error.kind()), ("2.root.json", Kind::Malformed), "{error}");

        let mut repository = Repository::new();
        let mut host = Host::following(&repository);
        repository.delegate("targets", "team", &["*"], false, 9);
        let delegations = repository.targets.get_mut("targets").unwrap().delegations.as_mut().unwrap();
        let role = &mut delegations.roles[0].keys;
        (role.keyids, role.threshold) = (vec![role.keyids[0].clone(); seeds.len()], threshold);
        repository.publish();
        let error = host.refresh(&repository).unwrap_err();
        assert_eq!((error.document.as_str(), error.kind()), ("2.targets.json", Kind::Malformed), "{error}");
    }
}

#[test]
fn a_delegation_that_could_be_read_in_two_ways_is_refused() {
    let changes: [fn(&mut [DelegatedRole]); 3] = [
        |roles| roles[1].name = "one".into(),
        |roles| roles[0].path_hash_prefixes = Some(vec!["0f".into()]),
        |roles| roles[0].paths = None,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut repository = Repository::new();
        let mut host = Host::following(&repository);
        repository.delegate("targets", "one", &["*"], false, 9);
        repository.delegate("targets", "other", &["*"], false, 10);
        let delegations = repository.targets.get_mut("targets").unwrap().delegations.as_mut().unwrap();
        change(&mut delegations.roles);
        repository.publish();
        let error = host.refresh(&repository).unwrap_err();
        assert_eq!((error.document.as_str(), error.kind()), ("2.targets.json", Kind::Malformed), "{number}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_make_a_parser_panic(bytes: Vec<u8>) {
        parse_all(&bytes);
    }

    #[test]
    fn no_change_to_a_document_goes_unnoticed(
        name in 0..NAMES.len(),
        at: prop::sample::Index,
        byte: u8,
    ) {
        let mut repository = Repository::new();
        let bytes = repository.served.get_mut(NAMES[name]).unwrap();
        let at = at.index(bytes.len());
        let (old, original) = (bytes[at], bytes.clone());
        bytes[at] = byte;
        parse_all(bytes);
        let white = |b: u8| matches!(b, b' ' | b'\n' | b'\t' | b'\r');
        // White space, and the case of the digits of a key id or signature, carry no meaning in the first two;
        // the others are hashed as they are.
        let same_meaning = name < 2 && (white(old) && white(byte) || old.eq_ignore_ascii_case(&byte));
        let outcome = Host::default().target(&repository, "file");
        if byte != old && !same_meaning {
            prop_assert!(outcome.is_err(), "byte {} of {:?}", at, String::from_utf8_lossy(&original));
        }
    }

    #[test]
    fn no_piece_of_a_document_makes_a_parser_panic(
        name in 0..NAMES.len(),
        from: prop::sample::Index,
        length in 0..64usize,
        insert in prop::collection::vec(prop::sample::select(br#"{}[]":,0-eE\u truefalsn"#.to_vec()), 0..8),
    ) {
        let mut bytes = Repository::new().served[NAMES[name]].clone();
        let from = from.index(bytes.len());
        let to = (from + length).min(bytes.len());
        bytes.splice(from..to, insert);
        parse_all(&bytes);
    }
}
