//! The main job on a simulated host: update, rollback and forward again, a release that fails and is left.

use std::path::Path;

use anyhow::Result;
use serde_json::Value;
use upright_tests::fixture::Fixture;
use upright_tests::programs::upright;

/// Runs a command that must succeed, and gives its JSON.
fn json(host: &Path, arguments: &[&str]) -> Result<Value> {
    let ran = upright(host, &[&["--json"], arguments].concat())?;
    assert_eq!(ran.status, 0, "upright {arguments:?}: {ran:?}");
    ran.json()
}

/// What runs, and what is known of the other slot.
fn running(host: &Path) -> Result<(String, String, String)> {
    let status = json(host, &["status"])?;
    let slot = |booted: bool| {
        let slots = status["slots"].as_array().cloned().unwrap_or_default();
        slots.into_iter().find(|slot| slot["booted"] == booted).unwrap_or_default()
    };
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    Ok((text(&slot(true)["version"]), text(&slot(false)["version"]), text(&slot(false)["verdict"])))
}

fn expect(host: &Path, version: &str, other: &str, verdict: &str) -> Result<()> {
    assert_eq!(running(host)?, (version.to_owned(), other.to_owned(), verdict.to_owned()));
    Ok(())
}

#[test]
fn a_host_updates_rolls_back_goes_forward_and_leaves_a_bad_release() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    expect(host, "1.0.0", "-", "empty")?;

    // Nothing new yet.
    let check = json(host, &["check"])?;
    assert_eq!((&check["available"], &check["version"]), (&false.into(), &"1.0.0".into()));

    // 1.1.0 comes by delta, unattended, and proves itself.
    fixture.build(&["publish", "1.1.0"])?;
    let ran = upright(host, &["run", "--once"])?;
    assert_eq!(ran.status, 0, "{ran:?}");
    json(host, &["health"])?;
    expect(host, "1.1.0", "1.0.0", "proven")?;
    let history = json(host, &["history"])?;
    assert_eq!(history[0]["outcome"]["way"]["way"], "delta", "{history}");
    assert_eq!(history[1]["outcome"]["event"], "proven", "{history}");

    // An operator goes back, and forward again, without a download.
    fixture.server.reset_counts();
    assert_eq!(json(host, &["rollback", "--dry-run"])?["to"], "1.0.0");
    json(host, &["rollback"])?;
    expect(host, "1.0.0", "1.1.0", "bad")?;
    let refused = upright(host, &["update"])?;
    assert_eq!(refused.status, 3, "{refused:?}");
    assert!(refused.stderr.contains("an operator rolled it back"), "{refused:?}");
    json(host, &["rollback"])?;
    json(host, &["health"])?;
    expect(host, "1.1.0", "1.0.0", "proven")?;
    assert_eq!(fixture.server.sent("payloads") + fixture.server.sent("deltas"), 0);

    // 1.2.0 fails its health check, is left, and is not tried again.
    fixture.build(&["publish", "1.2.0"])?;
    upright(host, &["run", "--once"])?;
    let unhealthy = upright(host, &["health"])?;
    assert_eq!(unhealthy.status, 1, "{unhealthy:?}");
    expect(host, "1.1.0", "1.2.0", "bad")?;
    let why = upright(host, &["why"])?;
    assert!(why.stdout.contains("health check \"app\" failed"), "{why:?}");
    assert!(why.stdout.contains("/usr/bin/app is not in the image"), "{why:?}");
    fixture.server.reset_counts();
    upright(host, &["run", "--once"])?;
    expect(host, "1.1.0", "1.2.0", "bad")?;
    assert_eq!(fixture.server.sent("payloads") + fixture.server.sent("deltas"), 0);

    // Only at an operator's word; going back is for leaving a bad release, not for returning to it.
    let refused = upright(host, &["rollback"])?;
    assert_eq!(refused.status, 3, "{refused:?}");
    assert!(refused.stderr.contains("health check \"app\" failed"), "{refused:?}");
    assert!(refused.stderr.contains("`upright rollback --retry`"), "{refused:?}");
    expect(host, "1.1.0", "1.2.0", "bad")?;
    let retried = upright(host, &["update", "--retry", "--reboot"])?;
    assert_eq!(retried.status, 0, "{retried:?}");
    assert_eq!(running(host)?.0, "1.2.0");
    Ok(())
}

#[test]
fn each_way_gives_the_same_image_and_costs_what_it_should() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let mut fetched = Vec::new();
    for (way, without) in
        [("delta", "[\"chunks\"]"), ("chunks", "[\"delta\"]"), ("full", "[\"delta\", \"chunks\"]")]
    {
        let host =
            &fixture.host_with(way, &format!("[limits]\nwithout = {without}\n"), Default::default())?;
        fixture.server.reset_counts();
        let updated = json(host, &["update", "--reboot"])?;
        assert_eq!(updated["history"]["outcome"]["way"]["way"], way, "{updated}");
        json(host, &["health"])?;
        expect(host, "1.1.0", "1.0.0", "proven")?;
        fetched.push(fixture.server.sent("payloads") + fixture.server.sent("deltas"));
    }
    let [delta, chunks, full] = fetched[..] else { unreachable!() };
    assert!(delta * 2 < chunks && chunks < full, "delta {delta}, chunks {chunks}, full {full}");
    Ok(())
}

#[test]
fn the_health_service_does_not_fail_because_an_update_is_under_way() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    let lock = std::fs::File::create(host.join("var/lib/upright/lock"))?;
    lock.lock()?;
    assert_eq!(upright(host, &["check"])?.status, 7);
    assert_eq!(json(host, &["health"])?["trial"], false);
    Ok(())
}

/// What starts a release is part of it, and no part of its tree.
#[test]
fn a_release_that_differs_in_its_command_line_alone_is_taken_and_left() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    let settings = fixture.workspace().join("upright.toml");
    let text = std::fs::read_to_string(&settings)?;
    std::fs::write(&settings, text.replacen("cmdline = \"\"", "cmdline = \"nokaslr\"", 1))?;
    let tree = fixture.workspace().join("../1.0.0").display().to_string();
    fixture.build(&["build", &tree, "--version", "1.0.1", "--time", "2026-01-01T00:00:00Z"])?;
    fixture.build(&["publish", "1.0.1"])?;
    json(host, &["update", "--reboot"])?;
    expect(host, "1.0.1", "1.0.0", "proven")?;
    json(host, &["health"])?;
    json(host, &["rollback"])?;
    expect(host, "1.0.0", "1.0.1", "bad")?;
    Ok(())
}
