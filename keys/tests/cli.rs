//! `upright-keys` as people and openssl see it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn keys(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_upright-keys"));
    command.current_dir(folder).env("PASS", "correct horse").args(arguments).stdin(Stdio::null());
    command.output().unwrap()
}

fn done(folder: &Path, arguments: &[&str]) -> String {
    let output = keys(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refused(folder: &Path, arguments: &[&str]) -> String {
    let output = keys(folder, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn openssl(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").current_dir(folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn openssl_reads_our_key_files_and_makes_the_same_signatures() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    done(folder, &["new", "sealed.pem", "--passphrase", "env:PASS"]);
    done(folder, &["new", "plain.pem", "--unencrypted"]);
    fs::write(folder.join("bytes"), "some bytes").unwrap();
    for (key, ours, theirs) in [
        ("sealed.pem", &["--passphrase", "env:PASS"][..], &["-passin", "pass:correct horse"][..]),
        ("plain.pem", &[], &[]),
    ] {
        let signature = done(folder, &[&["sign", "bytes", "--raw", "--key", key], ours].concat());
        let sign = ["pkeyutl", "-sign", "-rawin", "-in", "bytes", "-inkey", key];
        let by_openssl = openssl(folder, &[&sign[..], theirs].concat());
        assert_eq!(signature.trim(), upright_keys::hex::encode(&by_openssl), "{key}");
        let public = openssl(folder, &[&["pkey", "-pubout", "-in", key][..], theirs].concat());
        assert_eq!(public, fs::read(folder.join(format!("{key}.pub"))).unwrap(), "{key}");
    }
}

#[test]
fn we_read_the_key_files_that_openssl_makes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    openssl(folder, &["genpkey", "-algorithm", "ed25519", "-out", "plain.pem"]);
    let seal =
        ["pkcs8", "-topk8", "-scrypt", "-in", "plain.pem", "-passout", "pass:correct horse", "-out", "s.pem"];
    openssl(folder, &seal);
    let plain = done(folder, &["show", "plain.pem", "--format", "hex"]);
    assert_eq!(done(folder, &["show", "s.pem", "--passphrase", "env:PASS", "--format", "hex"]), plain);
    assert!(refused(folder, &["show", "s.pem"]).contains("is encrypted; name its passphrase"));
}

#[cfg(feature = "rsa")]
#[test]
fn what_openssl_signs_with_rsa_counts_unless_the_key_is_short() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("bytes"), "some bytes").unwrap();
    for (bits, counts) in [("2048", true), ("1024", false)] {
        openssl(folder, &["genrsa", "-out", "rsa.pem", bits]);
        let public = String::from_utf8(openssl(folder, &["pkey", "-in", "rsa.pem", "-pubout"])).unwrap();
        let pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"];
        let sign = [&["dgst", "-sha256", "-sign", "rsa.pem"][..], &pss, &["bytes"]].concat();
        let signature = upright_keys::hex::encode(&openssl(folder, &sign));
        let key = serde_json::json!({
            "keytype": "rsa", "scheme": "rsassa-pss-sha256", "keyval": {"public": public},
        });
        let key: upright_keys::TufKey = serde_json::from_value(key).unwrap();
        assert_eq!(key.verify(b"some bytes", &signature).is_ok(), counts, "{bits}");
        assert!(key.verify(b"other bytes", &signature).is_err(), "{bits}");
    }
}

#[test]
fn a_passphrase_comes_from_a_descriptor_a_file_or_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("pass"), "correct horse\n").unwrap();
    done(folder, &["new", "key.pem", "--passphrase", "file:pass"]);
    let by_environment = done(folder, &["show", "key.pem", "--passphrase", "env:PASS", "--format", "hex"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_upright-keys"));
    command.current_dir(folder).args(["show", "key.pem", "--passphrase", "fd:0", "--format", "hex"]);
    let by_descriptor = command.stdin(fs::File::open(folder.join("pass")).unwrap()).output().unwrap();
    assert_eq!(String::from_utf8(by_descriptor.stdout).unwrap(), by_environment);
    // openssl names what it is encrypted with.
    let parsed = openssl(folder, &["asn1parse", "-in", "key.pem"]);
    let parsed = String::from_utf8(parsed).unwrap();
    assert!(parsed.contains("scrypt") && parsed.contains("aes-256-cbc"), "{parsed}");
    let public = openssl(folder, &["pkey", "-in", "key.pem", "-passin", "file:pass", "-pubout"]);
    assert_eq!(public, done(folder, &["show", "key.pem.pub", "--format", "pem"]).as_bytes());
    // Every notation that is shown is read again.
    for notation in ["hex", "pem", "minisign"] {
        let shown = done(folder, &["show", "key.pem.pub", "--format", notation]);
        fs::write(folder.join("shown"), shown).unwrap();
        assert_eq!(done(folder, &["show", "shown", "--format", "hex"]), by_environment, "{notation}");
    }
}

#[test]
fn a_signing_command_that_hangs_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    done(folder, &["new", "key.pem", "--unencrypted"]);
    fs::write(folder.join("bytes"), "x").unwrap();
    let hung =
        ["sign", "bytes", "--raw", "--command", "sleep 600", "--public", "key.pem.pub", "--timeout", "1"];
    let error = refused(folder, &hung);
    assert!(error.contains("the signing command \"sleep\" did not end within 1s and was stopped"), "{error}");
}

#[test]
fn a_ceremony_gathers_signatures_from_several_machines() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for name in ["a.pem", "b.pem"] {
        done(folder, &["new", name, "--unencrypted"]);
    }
    fs::write(folder.join("staged.json"), r#"{"signatures":[],"signed":{"_type":"root","version":2}}"#)
        .unwrap();
    done(folder, &["sign-request", "staged.json", "--output", "request.json"]);
    done(folder, &["sign", "request.json", "--key", "a.pem", "--dry-run"]);
    assert!(!fs::read_to_string(folder.join("request.json")).unwrap().contains("keyid"));
    done(folder, &["sign", "request.json", "--key", "a.pem", "--output", "one.json"]);
    let command = format!("{} sign - --raw --key b.pem", env!("CARGO_BIN_EXE_upright-keys"));
    let external =
        ["sign", "request.json", "--command", &command, "--public", "b.pem.pub", "--output", "two.json"];
    done(folder, &external);
    done(folder, &["combine", "one.json", "two.json", "--output", "root.json"]);
    let root = fs::read_to_string(folder.join("root.json")).unwrap();
    for key in ["a.pem", "b.pem.pub"] {
        assert!(root.contains(done(folder, &["show", key, "--format", "id"]).trim()), "{key}");
    }
    fs::write(folder.join("other.json"), r#"{"signatures":[],"signed":{"_type":"root","version":3}}"#)
        .unwrap();
    let error = refused(folder, &["combine", "one.json", "other.json", "--output", "x.json"]);
    assert!(error.contains("one.json and other.json: the documents do not sign the same body"), "{error}");
}

#[test]
fn a_file_is_signed_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    done(folder, &["new", "key.pem", "--unencrypted"]);
    for (length, signed) in [(16 << 20, true), ((16 << 20) + 1, false)] {
        fs::File::create(folder.join("long")).unwrap().set_len(length).unwrap();
        let output = keys(folder, &["sign", "long", "--raw", "--key", "key.pem"]);
        assert_eq!((output.status.success(), !output.stdout.is_empty()), (signed, signed), "{length}");
    }
}

#[test]
fn mistakes_are_named_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    done(folder, &["new", "key.pem", "--unencrypted"]);
    for (arguments, expected) in [
        (&["new", "key.pem", "--unencrypted"][..], "exists and is not overwritten"),
        (&["show", "missing.pem"], "cannot read missing.pem: No such file"),
        (
            &["new", "x.pem", "--passphrase", "env:NO_SUCH"],
            "NO_SUCH that should hold the passphrase is not set",
        ),
        (&["sign", "key.pem", "--key", "key.pem"], "key.pem: not a document to sign"),
    ] {
        let error = refused(folder, arguments);
        assert!(error.contains(expected) && error.lines().count() == 1, "{arguments:?}: {error}");
    }
    let both = keys(folder, &["new", "y.pem", "--passphrase", "fd:0", "--unencrypted"]);
    assert!(String::from_utf8(both.stderr).unwrap().contains("cannot be used with"));
    for usage in [&["new", "y.pem"][..], &["new", "y.pem", "--passphrase", "hunter2"]] {
        let output = keys(folder, usage);
        assert_eq!(output.status.code(), Some(2), "{usage:?}");
        assert!(!String::from_utf8(output.stderr).unwrap().contains("hunter2"));
    }
}

/// A root of `version` that appoints the keys in `files`, all of which must sign.
fn root(folder: &Path, version: u64, files: &[&str]) -> String {
    let mut keys = serde_json::Map::new();
    for file in files {
        let shown = done(folder, &["show", file, "--json"]);
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        keys.insert(shown["id"].as_str().unwrap().to_owned(), shown["tuf"].clone());
    }
    let role = serde_json::json!({"keyids": keys.keys().collect::<Vec<_>>(), "threshold": files.len()});
    let body = serde_json::json!({
        "_type": "root", "version": version, "expires": "2030-01-01T00:00:00Z",
        "keys": keys, "roles": {"root": role, "targets": role},
    });
    serde_json::json!({"signatures": [], "signed": body}).to_string()
}

#[test]
fn a_new_root_is_signed_by_the_old_keys_and_its_own_and_comes_next() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for name in ["old.pem", "new.pem", "other.pem"] {
        done(folder, &["new", name, "--unencrypted"]);
    }
    fs::write(folder.join("1.json"), root(folder, 1, &["old.pem"])).unwrap();
    fs::write(folder.join("2.json"), root(folder, 2, &["new.pem"])).unwrap();
    let sign = |file: &str, keys: &[&str], output: &str| {
        let given = keys.iter().flat_map(|key| ["--key", *key]);
        let arguments = ["sign", file, "--root", "1.json", "--output", output].into_iter().chain(given);
        let output = self::keys(folder, &arguments.collect::<Vec<_>>());
        String::from_utf8(output.stderr).unwrap()
    };
    let said = sign("2.json", &["old.pem"], "by-old.json");
    for line in ["changes: role root: key ", " may sign from now on", " may not sign any more"] {
        assert!(said.contains(line), "{said}");
    }
    assert!(!said.contains("WARNING"), "{said}");
    assert!(sign("2.json", &["other.pem"], "x.json").contains("WARNING: nobody asks for a signature of "));
    // One side alone is not enough, whichever it is.
    sign("2.json", &["new.pem"], "by-new.json");
    for (file, by) in [("by-new.json", "the given root"), ("by-old.json", "the document itself")] {
        let error = refused(folder, &["combine", file, "--root", "1.json", "--output", "x.json"]);
        assert!(
            error.contains(&format!("0 of the 1 signatures needed are valid, according to {by}")),
            "{error}"
        );
    }
    done(folder, &["combine", "by-old.json", "by-new.json", "--root", "1.json", "--output", "both.json"]);
    // No host that trusts version 2 would take another version 2, an older one, or the one after the next.
    fs::write(folder.join("4.json"), root(folder, 4, &["new.pem"])).unwrap();
    for (document, trusted) in [("both.json", "both.json"), ("1.json", "2.json"), ("4.json", "2.json")] {
        for arguments in [
            &["combine", document, "--root", trusted, "--output", "x.json"][..],
            &["sign", document, "--root", trusted, "--key", "new.pem", "--output", "x.json"],
        ] {
            let error = refused(folder, arguments);
            assert!(error.contains("does not follow version 2, which is trusted"), "{arguments:?}: {error}");
        }
    }
}

#[test]
fn a_damaged_signature_is_told_and_the_good_one_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for name in ["old.pem", "new.pem"] {
        done(folder, &["new", name, "--unencrypted"]);
    }
    fs::write(folder.join("1.json"), root(folder, 1, &["old.pem"])).unwrap();
    fs::write(folder.join("2.json"), root(folder, 2, &["new.pem"])).unwrap();
    done(folder, &["sign", "2.json", "--key", "old.pem", "--key", "new.pem", "--output", "good.json"]);
    let mut bad: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.join("good.json")).unwrap()).unwrap();
    for signature in bad["signatures"].as_array_mut().unwrap() {
        signature["sig"] = "00".repeat(64).into();
    }
    fs::write(folder.join("bad.json"), bad.to_string()).unwrap();
    // The old key is in the given root alone, the new one in the document.
    let combine = ["combine", "bad.json", "good.json", "--root", "1.json", "--output", "both.json"];
    let output = keys(folder, &combine);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("WARNING: good.json has another signature of ").count(), 2, "{said}");
    assert_eq!(said.matches("the valid one is kept").count(), 2, "{said}");
    assert_eq!(fs::read(folder.join("both.json")).unwrap(), fs::read(folder.join("good.json")).unwrap());
}

#[test]
fn nobody_signs_a_key_under_the_id_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for name in ["trusted.pem", "other.pem"] {
        done(folder, &["new", name, "--unencrypted"]);
    }
    let public = |name: &str| done(folder, &["show", name, "--format", "hex"]).trim().to_owned();
    let swapped = root(folder, 2, &["trusted.pem"]).replace(&public("trusted.pem"), &public("other.pem"));
    fs::write(folder.join("2.json"), &swapped).unwrap();
    for arguments in [
        &["sign", "2.json", "--key", "trusted.pem"][..],
        &["sign-request", "2.json", "--output", "x.json"],
        &["combine", "2.json", "--output", "x.json"],
    ] {
        let error = refused(folder, arguments);
        assert!(
            error.contains("the document has another key under the id ") && error.lines().count() == 1,
            "{arguments:?}: {error}"
        );
    }
    assert_eq!(fs::read_to_string(folder.join("2.json")).unwrap(), swapped);
}

#[test]
fn a_teams_document_is_counted_against_who_delegates_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for name in ["targets.pem", "team.pem"] {
        done(folder, &["new", name, "--unencrypted"]);
    }
    fs::write(folder.join("root.json"), root(folder, 1, &["targets.pem"])).unwrap();
    let id = done(folder, &["show", "team.pem", "--format", "id"]).trim().to_owned();
    let key: serde_json::Value =
        serde_json::from_str(&done(folder, &["show", "team.pem", "--format", "tuf"])).unwrap();
    let targets = |delegations: serde_json::Value| {
        let body =
            serde_json::json!({"_type": "targets", "version": 1, "targets": {}, "delegations": delegations});
        serde_json::json!({"signatures": [], "signed": body}).to_string()
    };
    let role = serde_json::json!({
        "name": "beta", "keyids": [id], "threshold": 1, "terminating": true, "paths": ["*"],
    });
    let delegations = serde_json::json!({"keys": {&id: key}, "roles": [role]});
    fs::write(folder.join("targets.json"), targets(delegations)).unwrap();
    fs::write(folder.join("beta.json"), targets(serde_json::json!({"keys": {}, "roles": []}))).unwrap();
    let delegator = ["--delegator", "targets.json", "--role", "beta", "--output", "out.json"];
    let error = refused(folder, &[&["combine", "beta.json"][..], &delegator].concat());
    assert!(error.contains("0 of the 1 signatures needed are valid, according to the delegator"), "{error}");
    done(folder, &["sign", "beta.json", "--key", "team.pem"]);
    done(folder, &[&["combine", "beta.json"][..], &delegator].concat());
    let error = refused(folder, &["combine", "beta.json", "--root", "root.json", "--output", "out.json"]);
    assert!(error.contains("name who delegates to it with --delegator and --role"), "{error}");
}
