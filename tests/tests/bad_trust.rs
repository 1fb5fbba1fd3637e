//! Metadata and times that do not hold: refused in one line, and the host is as it was.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use upright_tests::fixture::{Fixture, configuration};
use upright_tests::programs::upright;
use upright_tests::refusal::{Until, host_refuses};
use upright_tests::server::Fault;
use upright_tests::simulated::{Sizes, install};

/// The file in the repository whose path ends like this, or has a version in front of the name.
fn served(fixture: &Fixture, ending: &str) -> Result<Vec<u8>> {
    let folder = fixture.workspace().join("repository/metadata");
    let names = fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    let newest = names.into_iter().filter(|path| path.to_string_lossy().ends_with(ending)).max();
    Ok(fs::read(newest.with_context(|| format!("no {ending}"))?)?)
}

/// The same file with the digit behind `key` another one.
fn off_by_one(bytes: &[u8], key: &str) -> Result<Vec<u8>> {
    let text = String::from_utf8(bytes.to_vec())?;
    let start = text.find(key).with_context(|| format!("no {key} in {text}"))? + key.len();
    let at = start + text[start..].find(|c: char| c.is_ascii_digit()).context("a digit")?;
    let mut bytes = bytes.to_vec();
    bytes[at] = if bytes[at] == b'9' { b'8' } else { bytes[at] + 1 };
    Ok(bytes)
}

#[test]
fn a_signature_a_hash_or_a_length_that_is_off_by_one() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    fixture.build(&["publish", "1.1.0"])?;
    for (name, key) in [
        ("timestamp.json", "\"sig\""),
        ("timestamp.json", "\"length\""),
        ("timestamp.json", "\"sha256\""),
        ("timestamp.json", "\"expires\""),
    ] {
        let bad = off_by_one(&served(&fixture, name)?, key)?;
        fixture.server.spoil(name, Fault::Instead(bad));
        let says =
            ["timestamp.json: not signed by those whom", "0 of", "it was not made by this host's publisher"];
        host_refuses(host, &["update"], 4, &says, Until::Decision).with_context(|| key.to_owned())?;
        fixture.server.mend();
    }
    // In the order in which a host gets them: what it has it does not fetch again.
    for name in ["snapshot.json", "targets.json", "channels/", "releases/"] {
        for fault in [Fault::TooMuch(1), Fault::TooLittle(1)] {
            fixture.server.spoil(name, fault.clone());
            host_refuses(host, &["update"], 4, &[name, "bytes", "are signed"], Until::Decision)
                .with_context(|| format!("{name} {fault:?}"))?;
            fixture.server.mend();
        }
        if name.ends_with('/') {
            fixture.server.spoil(name, Fault::Flip(50));
            host_refuses(host, &["update"], 4, &[name, "has sha256", "is signed"], Until::Decision)?;
            fixture.server.mend();
            continue;
        }
        for key in ["\"sig\"", "\"version\"", "\"sha256\""] {
            let good = served(&fixture, name)?;
            fixture.server.spoil(name, Fault::Instead(off_by_one(&good, key)?));
            let says = [name, "the server mixes two publications or changed the file"];
            host_refuses(host, &["update"], 4, &says, Until::Decision)
                .with_context(|| format!("{name} {key}"))?;
            fixture.server.mend();
        }
    }
    for fault in [Fault::Flip(5000), Fault::TooLittle(1)] {
        for path in ["deltas/", "payloads/"] {
            fixture.server.spoil(path, fault.clone());
        }
        let says =
            ["no way led to 1.1.0: by delta: ", "; by full: ", "let the publisher run `upright-build check`"];
        host_refuses(host, &["update"], 4, &says, Until::Writing).with_context(|| format!("{fault:?}"))?;
        fixture.server.mend();
    }
    assert_eq!(upright(host, &["update"])?.status, 0);
    Ok(())
}

/// Sets a simulated host's clock.
fn set_clock(host: &Path, time: Timestamp) -> Result<()> {
    fs::create_dir_all(host.join("run"))?;
    Ok(fs::write(host.join("run/clock"), time.to_string())?)
}

fn days(count: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * count)
}

#[test]
fn a_timestamp_that_has_expired() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    assert_eq!(upright(host, &["check"])?.status, 0);
    fixture.build(&["publish", "1.1.0"])?;
    set_clock(host, Timestamp::now() + days(8))?;
    let says = [
        "timestamp.json: expired at ",
        "this host's clock is wrong",
        "sign it anew with `upright-build refresh`",
    ];
    for arguments in [&["update"][..], &["check"], &["update", "--now", "--retry"]] {
        host_refuses(host, arguments, 4, &says, Until::Decision)?;
    }
    fs::remove_file(host.join("run/clock"))?;
    assert_eq!(upright(host, &["update"])?.status, 0);
    Ok(())
}

/// Signs a timestamp that is good for one day.
fn refresh_for_a_day(fixture: &Fixture) -> Result<()> {
    let settings = fixture.workspace().join("upright.toml");
    fs::write(&settings, fs::read_to_string(&settings)?.replace("days = 7", "days = 1"))?;
    fixture.build(&["refresh"])
}

#[test]
fn a_clock_in_1970_does_not_keep_a_host_from_updates() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    fixture.build(&["publish", "1.1.0"])?;
    set_clock(host, Timestamp::UNIX_EPOCH)?;
    let ran = upright(host, &["update"])?;
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(ran.stderr.matches("the clock is wrong").count(), 1, "{ran:?}");
    Ok(())
}

#[test]
fn a_clock_in_1970_does_not_make_the_expired_good() -> Result<()> {
    let fixture = Fixture::new()?;
    // An image from when the timestamp has expired: whoever runs it knows that it is later. None may be from later than
    // tomorrow, so the timestamp lasts a day.
    refresh_for_a_day(&fixture)?;
    let timestamp: serde_json::Value = serde_json::from_slice(&served(&fixture, "timestamp.json")?)?;
    let late = timestamp["signed"]["expires"].as_str().context("a time")?;
    let tree = fixture.workspace().with_file_name("1.0.0").display().to_string();
    fixture.build(&["build", &tree, "--version", "0.9.0", "--time", late])?;
    let host = &fixture.workspace().with_file_name("late");
    install(host, &fixture.workspace(), "0.9.0", &configuration(&fixture.server.url()), Sizes::default())?;
    for clock in [Timestamp::UNIX_EPOCH, Timestamp::now()] {
        set_clock(host, clock)?;
        host_refuses(host, &["update"], 4, &["timestamp.json: expired at "], Until::Decision)?;
    }
    Ok(())
}

#[test]
fn a_clock_that_jumps_back_does_not_make_the_expired_good() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    set_clock(host, Timestamp::now() + days(6))?;
    assert_eq!(upright(host, &["check"])?.status, 0);
    // It has expired for whoever knows that it was six days later already.
    refresh_for_a_day(&fixture)?;
    set_clock(host, Timestamp::now())?;
    host_refuses(host, &["update"], 4, &["timestamp.json: expired at "], Until::Decision).map(drop)
}

#[test]
fn status_tells_that_metadata_has_expired_and_that_the_clock_may_be_why() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    let warning = "warning: by this host's clock the last contact was years ago";
    let told = |freshness: &str, line: &str, warned: bool| -> Result<()> {
        let ran = upright(host, &["status"])?;
        assert!(ran.stdout.contains(line), "{line} is not told: {ran:?}");
        assert_eq!(ran.stdout.contains(warning), warned, "{ran:?}");
        assert_eq!(upright(host, &["status", "--json"])?.json()?["freshness"], freshness);
        Ok(())
    };
    told("unknown", "last contact with the server: never", false)?;
    assert_eq!(upright(host, &["check"])?.status, 0);
    told("good", "metadata good until: ", false)?;
    for (days_later, freshness, warned) in [(8, "expired", false), (4000, "clock-suspect", true)] {
        set_clock(host, Timestamp::now() + days(days_later))?;
        told(freshness, "metadata expired since: ", warned)?;
    }
    Ok(())
}

#[test]
fn a_host_that_was_shown_something_newer_does_not_go_back() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    let old = served(&fixture, "timestamp.json")?;
    fixture.build(&["publish", "1.1.0"])?;
    assert_eq!(upright(host, &["check"])?.status, 0);
    fixture.server.spoil("timestamp.json", Fault::Instead(old));
    let says = ["timestamp.json: rolled back", "this host has seen", "the server is stale or hostile"];
    host_refuses(host, &["update"], 4, &says, Until::Decision)?;
    Ok(())
}

#[test]
fn a_server_that_answers_too_slowly_or_not_at_all_is_given_up() -> Result<()> {
    let fixture = Fixture::new()?;
    let hasty = "[limits]\nstall = \"300ms\"\npatience = \"1s\"\n";
    let hosts = ["a", "b"].map(|name| fixture.host_with(name, hasty, Sizes::default()));
    let [first, second] = hosts;
    let (first, second) = (&first?, &second?);
    fixture.build(&["publish", "1.1.0"])?;
    let advice = "check the network, the server, and `url` in the configuration, or try again later";
    for (host, path, fault, until) in [
        (first, "timestamp.json", Fault::Stall(0), Until::Decision),
        (first, "timestamp.json", Fault::Stall(100), Until::Decision),
        (first, "timestamp.json", Fault::Trickle(5), Until::Decision),
        (first, "deltas/", Fault::Stall(200), Until::Writing),
        (second, "deltas/", Fault::Trickle(5), Until::Writing),
    ] {
        fixture.server.spoil(path, fault.clone());
        host_refuses(host, &["update"], 5, &[path, advice], until).with_context(|| format!("{fault:?}"))?;
        fixture.server.mend();
    }
    for host in [first, second] {
        assert_eq!(upright(host, &["update"])?.status, 0);
    }
    Ok(())
}
