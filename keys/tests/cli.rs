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
