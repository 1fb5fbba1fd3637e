//! What a keeper reads is what a host acts on.

use super::super::change;
use super::*;
use crate::key_pair::KeyPair;
use crate::signer::Signer;

fn lines(json: &str) -> anyhow::Result<Vec<String>> {
    of(&Envelope::unsigned(Json::parse(json.as_bytes()).unwrap()))
}

/// The id and the object of a key.
fn key(seed: u8) -> (String, String) {
    let public = *KeyPair::from_seed([seed; 32]).public();
    (public.tuf_id().to_string(), serde_json::to_string(&public.to_tuf()).unwrap())
}

/// A root of `version` whose root role has the keys of `seeds`.
fn root(version: u64, threshold: u32, seeds: &[u8]) -> Json {
    let keys: Vec<_> = seeds.iter().map(|seed| key(*seed)).collect();
    let held: Vec<_> = keys.iter().map(|(id, key)| format!("\"{id}\":{key}")).collect();
    let ids: Vec<_> = keys.iter().map(|(id, _)| format!("\"{id}\"")).collect();
    let text = format!(
        r#"{{"_type":"root","version":{version},"expires":"2030-01-01T00:00:00Z","keys":{{{}}},
            "roles":{{"root":{{"threshold":{threshold},"keyids":[{}]}}}}}}"#,
        held.join(","),
        ids.join(",")
    );
    Json::parse(text.as_bytes()).unwrap()
}

#[test]
fn a_signer_reads_roles_with_their_keys_in_full() {
    let ((one, _), (two, _)) = (key(1), key(2));
    let root = root(2, 2, &[1, 2]);
    let lines = of(&Envelope::unsigned(root.clone())).unwrap();
    assert_eq!(lines[0], "root version 2, good until 2030-01-01T00:00:00Z");
    let signed = hex::encode(&Sha256::digest(root.canonical()));
    assert_eq!(lines[1], format!("  SHA-256 of all that is signed: {signed}"));
    assert_eq!(
        lines[2..],
        ["  role root: 2 of 2 keys".to_owned(), format!("    key {one}"), format!("    key {two}")]
    );
}

#[test]
fn a_key_under_the_id_of_another_is_refused() {
    let ((trusted, honest), (other, _)) = (key(1), key(2));
    let delegating = format!(
        r#"{{"_type":"targets","version":1,"delegations":{{"keys":{{"{trusted}":{}}},"roles":[]}}}}"#,
        key(2).1
    );
    let error = lines(&delegating).unwrap_err().to_string();
    assert!(error.contains(&trusted) && error.contains(&other), "{error}");
    let root = |id: &str, key: &str| {
        format!(
            r#"{{"_type":"root","version":1,"keys":{{"{id}":{key}}},
                "roles":{{"root":{{"threshold":1,"keyids":["{id}"]}}}}}}"#
        )
    };
    assert!(lines(&root(&trusted, &key(2).1)).is_err());
    lines(&root(&trusted, &honest)).unwrap();
    // Members that are added to a key later leave its id as it was.
    lines(&root(&trusted, &honest.replacen('{', r#"{"x-owner":"anna","#, 1))).unwrap();
    // An id of another scheme says nothing: the key itself is shown.
    let shown = lines(&root("anna", &key(2).1)).unwrap().join("\n");
    let public = KeyPair::from_seed([2; 32]).public().to_string();
    assert!(shown.contains(&format!("    key anna, which is ed25519 {public}")), "{shown}");
}

#[test]
fn a_signer_reads_what_a_delegation_is_for() {
    let text = r#"{"_type":"targets","version":1,"expires":"x","delegations":{"keys":{},"roles":[
        {"name":"beta","threshold":1,"keyids":["k"],"terminating":true,"paths":["channels/*","releases/*"]},
        {"name":"bins","threshold":1,"keyids":[],"terminating":false,"path_hash_prefixes":["0f"]}]}}"#;
    assert_eq!(
        lines(text).unwrap()[2..],
        [
            "  role beta: 1 of 1 keys",
            "    key k, which is not in the document",
            "    speaks for channels/*",
            "    speaks for releases/*",
            "    terminating: for these, no role after it is asked",
            "  role bins: 1 of 0 keys",
            "    speaks for paths whose SHA-256 begins with 0f",
            "    not terminating: roles after it are asked too",
        ]
    );
}

#[test]
fn a_signer_reads_every_target_and_no_escape_sequences() {
    let text = r#"{"_type":"targets","version":1,"expires":"x",
        "targets":{"a\u001b[2Jb\n":{"length":3,"hashes":{"sha256":"ab","sha512":"cd"}}}}"#;
    assert_eq!(lines(text).unwrap()[2], "  target a\\u{1b}[2Jb\\n: 3 bytes, sha256 ab, sha512 cd");
    let many = |last: &str| {
        let entry = |at: usize| format!(r#""{at:05}":{{"length":{at},"hashes":{{}}}}"#);
        let entries: Vec<_> = (0..MAX_TARGETS).map(entry).collect();
        format!(r#"{{"_type":"targets","version":1,"targets":{{{}{last}}}}}"#, entries.join(","))
    };
    let shown = |last: &str| lines(&many(last)).unwrap();
    let all = shown("");
    assert!(all.len() == 2 + MAX_TARGETS && all.iter().skip(2).all(|line| line.starts_with("  target ")));
    // What is not shown makes a difference that is.
    let [one, other] =
        [r#","z":{"length":1}"#, r#","z":{"length":2}"#].map(|last| shown(last).pop().unwrap());
    assert!(one.contains("WARNING: 1 MORE TARGETS ARE NOT SHOWN"), "{one}");
    assert_ne!(one, other);
    let long = "x".repeat(MAX_TEXT + 5);
    assert!(printable(&long).ends_with("x AND 5 MORE CHARACTERS"));
}

#[test]
fn what_is_no_document_of_a_known_kind_and_version_is_refused() {
    for bad in [
        r#"{"version":1}"#,
        r#"{"_type":"root"}"#,
        r#"{"_type":"root","version":0}"#,
        r#"{"_type":"root","version":"1"}"#,
        r#"{"_type":"root","version":9007199254740992}"#,
        r#"{"_type":"mirrors","version":1}"#,
    ] {
        assert!(lines(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_new_root_is_told_by_what_it_changes() {
    let [one, three] = [1, 3].map(|seed| key(seed).0);
    assert_eq!(
        change::between(&root(1, 1, &[1, 2]), &root(2, 2, &[2, 3])),
        [
            format!("  changes: role root: key {three} may sign from now on"),
            format!("  changes: role root: key {one} may not sign any more"),
            "  changes: role root: threshold 1 becomes 2".to_owned(),
        ]
    );
    assert_eq!(change::between(&root(1, 1, &[1]), &root(2, 1, &[1])), ["  changes nothing but the version"]);
    for (version, follows) in [(4, false), (5, false), (6, true), (7, false)] {
        assert_eq!(change::expect_next(&root(5, 1, &[1]), &root(version, 1, &[1])).is_ok(), follows);
    }
}

#[test]
fn a_new_root_does_not_change_a_key_or_a_date_in_silence() {
    let root = |version, id: &str, seed, expires: &str, consistent| {
        let text = format!(
            r#"{{"_type":"root","version":{version},"expires":"{expires}","consistent_snapshot":{consistent},
                "keys":{{"{id}":{}}},"roles":{{"root":{{"threshold":1,"keyids":["{id}"]}}}}}}"#,
            key(seed).1
        );
        Json::parse(text.as_bytes()).unwrap()
    };
    // An id of another scheme stays the same whatever key it names.
    let public = KeyPair::from_seed([2; 32]).public().to_string();
    assert_eq!(
        change::between(&root(1, "anna", 1, "2030", true), &root(2, "anna", 2, "2040", false)),
        [
            format!("  changes: key anna is another than before: ed25519 {public}"),
            "  changes: expires 2030 becomes 2040".to_owned(),
            "  changes: consistent_snapshot true becomes false".to_owned(),
        ]
    );
}
