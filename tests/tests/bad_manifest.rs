//! Manifests that were signed correctly and are wrong all the same: a publisher's mistake, or a publisher's stolen keys.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use upright_manifests::digest::Digest;
use upright_tests::fixture::Fixture;
use upright_tests::forger::Forger;
use upright_tests::programs::upright;
use upright_tests::refusal::{Until, host_refuses};

/// Publishes 1.1.0 with its manifest changed, and all signatures as they should be.
fn publish(fixture: &Fixture, change: impl FnOnce(&mut Value)) -> Result<()> {
    publish_in(fixture, "stable", change)
}

/// The same for the release that another channel offers.
fn publish_in(fixture: &Fixture, channel: &str, change: impl FnOnce(&mut Value)) -> Result<()> {
    let forger = Forger::new(&fixture.workspace());
    let [targets, snapshot, timestamp] = ["targets", "snapshot", "timestamp"].map(|role| forger.stolen(role));
    forger.release([&targets?, &snapshot?, &timestamp?], channel, change)
}

#[test]
fn a_manifest_of_something_else_is_refused_although_it_is_signed() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    for (field, other) in [("os", "other"), ("arch", "arm64"), ("version", "1.1.1"), ("version", "0.9.0")] {
        let mut good = Value::Null;
        publish(&fixture, |manifest| good = std::mem::replace(&mut manifest[field], json!(other)))?;
        let host = &fixture.host(other)?;
        let says = ["/1.1.0.json describes", other, "the publisher made a mistake; nothing is taken"];
        for arguments in [&["update"][..], &["check"], &["update", "--version", "1.1.0"]] {
            host_refuses(host, arguments, 4, &says, Until::Decision).with_context(|| other.to_owned())?;
        }
        publish(&fixture, |manifest| manifest[field] = good)?;
        assert_eq!(upright(host, &["update"])?.status, 0);
    }
    Ok(())
}

#[test]
fn a_release_of_the_future_is_refused_although_it_is_signed() -> Result<()> {
    let fixture = Fixture::new()?;
    let settings = fixture.workspace().join("upright.toml");
    fs::write(&settings, fs::read_to_string(&settings)?.replace("[\"stable\"]", "[\"stable\", \"beta\"]"))?;
    fixture.build(&["publish", "1.1.0", "--channel", "beta"])?;
    fixture.build(&["publish", "1.2.0", "--floor", "1.1.0"])?;
    let host = &fixture.host("host")?;
    // From the moment on at which the timestamp expires, first what must be taken on the way, then the release itself.
    let timestamp = fs::read(fixture.workspace().join("repository/metadata/timestamp.json"))?;
    let until = &serde_json::from_slice::<Value>(&timestamp)?["signed"]["expires"];
    for (channel, version) in [("beta", "1.1.0"), ("stable", "1.2.0")] {
        publish_in(&fixture, channel, |manifest| manifest["time"] = until.clone())?;
        let refused = format!("{version} is refused: it is of ");
        let says = [&refused[..], "a host that ran it would take every update for expired", "--time"];
        for arguments in [&["update"][..], &["update", "--now", "--retry", "--allow-downgrade"]] {
            host_refuses(host, arguments, 3, &says, Until::Decision)?;
        }
    }
    Ok(())
}

#[test]
fn a_signed_delta_for_another_base_is_not_taken() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    publish(&fixture, |manifest| manifest["deltas"][0]["from_root_hash"] = json!(Digest::of(b"another")))?;
    let host = &fixture.host("host")?;
    let ran = upright(host, &["update"])?;
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(!ran.stderr.contains("way=\"delta\""), "{ran:?}");

    // Two releases whose deltas stand in each other's place: what the head says of its base is looked at, too.
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    fixture.build(&["publish", "1.2.0"])?;
    publish(&fixture, |manifest| {
        let wrong = manifest["deltas"][0]["delta"].take();
        manifest["deltas"][0]["delta"] = std::mem::replace(&mut manifest["deltas"][1]["delta"], wrong);
    })?;
    let host = &fixture.host("host")?;
    let ran = upright(host, &["update"])?;
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.stderr.contains("by delta: ") || ran.stderr.contains("way=\"delta\""), "{ran:?}");
    Ok(())
}

#[test]
fn a_signed_root_hash_that_the_image_has_not_got_starts_nowhere() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    publish(&fixture, |manifest| manifest["root"]["verity"]["root_hash"] = json!(Digest::of(b"another")))?;
    let host = &fixture.host("host")?;
    let says =
        ["slot b has root hash ", " is signed", "what runs is untouched", "`dmesg`", "`upright-build check`"];
    host_refuses(host, &["update"], 4, &says, Until::Writing).map(drop)
}
