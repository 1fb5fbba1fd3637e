//! A repository that does not do what it should: one line that says so, an exit code for scripts, and nothing lost.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use upright_manifests::digest::Digest;
use upright_tests::fixture::{Fixture, noise};
use upright_tests::programs::{Ran, upright};
use upright_tests::server::Fault;
use upright_tests::simulated::Sizes;

const HTML: &[u8] = b"<!doctype html><html><body>Welcome! Please log in.</body></html>";

/// What must not change, whatever the repository does.
fn untouched(host: &Path) -> Result<Vec<Digest>> {
    let files = ["dev/root-a", "dev/root-a-verity", "esp/EFI/Linux/acme_1.0.0.efi"];
    files.iter().map(|file| Ok(Digest::of(&fs::read(host.join(file))?))).collect()
}

fn fails(host: &Path, status: i32, says: &[&str]) -> Result<()> {
    let before = untouched(host)?;
    let ran: Ran = upright(host, &["update"])?;
    assert_eq!(ran.status, status, "{ran:?}");
    let line = ran.stderr.lines().last().unwrap_or_default();
    for part in says {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
    assert_eq!(untouched(host)?, before);
    let entries = fs::read_dir(host.join("esp/EFI/Linux"))?.count();
    assert_eq!(entries, 1, "no boot entry of what failed");
    Ok(())
}

#[test]
fn metadata_that_is_not_what_it_should_be_is_refused() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    fixture.build(&["publish", "1.1.0"])?;
    let cases: [(&str, Fault, i32, &[&str]); 9] = [
        ("timestamp.json", Fault::Status(404), 5, &["timestamp.json", "does not exist on the server"]),
        ("timestamp.json", Fault::Status(500), 5, &["timestamp.json", "status 500"]),
        ("timestamp.json", Fault::HangUp, 5, &["timestamp.json"]),
        ("timestamp.json", Fault::Cut(20), 5, &["timestamp.json"]),
        ("timestamp.json", Fault::Instead(HTML.to_vec()), 4, &["timestamp.json", "malformed"]),
        ("timestamp.json", Fault::Instead(noise(1, 300)), 4, &["timestamp.json", "malformed"]),
        ("timestamp.json", Fault::TooMuch(1 << 20), 4, &["timestamp.json", "are allowed"]),
        ("snapshot.json", Fault::TooMuch(1), 4, &["snapshot.json"]),
        ("targets.json", Fault::Flip(200), 4, &["targets.json"]),
    ];
    for (path, fault, status, says) in cases {
        fixture.server.spoil(path, fault.clone());
        fails(host, status, says).map_err(|error| error.context(format!("{path} {fault:?}")))?;
        fixture.server.mend();
    }
    for (path, what) in [("channels/", "channels/"), ("releases/", "releases/")] {
        for fault in [Fault::Flip(30), Fault::Instead(HTML.to_vec()), Fault::TooMuch(1)] {
            fixture.server.spoil(path, fault);
            fails(host, 4, &[what])?;
            fixture.server.mend();
        }
        fixture.server.spoil(path, Fault::Status(404));
        fails(host, 5, &[what, "404"])?;
        fixture.server.mend();
    }
    assert_eq!(upright(host, &["update"])?.status, 0);
    Ok(())
}

#[test]
fn payloads_that_are_not_what_they_should_be_lead_nowhere_but_to_the_next_way() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let impatient = "[limits]\npatience = \"2s\"\n";
    let host = &fixture.host_with("host", impatient, Sizes::default())?;
    let cases: [(Fault, i32, &[&str]); 5] = [
        (Fault::Status(503), 5, &["status 503"]),
        (Fault::HangUp, 5, &[]),
        (Fault::Status(404), 5, &["by delta", "by chunks", "by full", "404"]),
        (Fault::Instead(HTML.to_vec()), 4, &["by full", "the file is shorter"]),
        (Fault::Flip(10), 4, &["by delta", "sha256", "by full"]),
    ];
    for (fault, status, says) in cases {
        for path in ["payloads/", "deltas/"] {
            fixture.server.spoil(path, fault.clone());
        }
        fails(host, status, says).map_err(|error| error.context(format!("{fault:?}")))?;
        fixture.server.mend();
    }
    // A single way that does not work is no reason to fail.
    fixture.server.spoil("deltas/", Fault::Status(404));
    let ran = upright(host, &["update"])?;
    assert_eq!(ran.status, 0, "{ran:?}");
    Ok(())
}

#[test]
fn one_file_that_the_server_cannot_give_does_not_keep_a_host_from_updating() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let impatient = "[limits]\npatience = \"2s\"\n";
    for (name, fault) in [("a", Fault::Status(500)), ("b", Fault::Cut(20))] {
        let host = &fixture.host_with(name, impatient, Sizes::default())?;
        fixture.server.spoil("deltas/", fault);
        fails(host, 5, &["by delta"])?;
        let taken = upright(host, &["update"])?;
        assert_eq!(taken.status, 0, "{taken:?}");
        fixture.server.mend();
    }
    Ok(())
}

#[test]
fn a_file_for_the_uki_that_is_not_what_it_should_be_is_no_fault_of_the_disk() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let host = &fixture.host("host")?;
    let manifest = fixture.manifest("1.1.0")?;
    let compose = manifest["uki"]["compose"]["path"].as_str().context("no composition")?;
    for fault in [Fault::Flip(0), Fault::Flip(200), Fault::TooLittle(1), Fault::Instead(HTML.to_vec())] {
        fixture.server.spoil(compose, fault.clone());
        fails(host, 4, &["the UKI of 1.1.0 could not be made"])
            .map_err(|error| error.context(format!("{fault:?}")))?;
        fixture.server.mend();
    }
    assert_eq!(upright(host, &["update"])?.status, 0);
    Ok(())
}

#[test]
fn a_server_without_ranges_serves_deltas_and_full_installs() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    fixture.server.spoil("", Fault::NoRanges);
    for (name, without) in [("delta", ""), ("full", "\"delta\", \"chunks\""), ("full", "\"delta\"")] {
        // Chunks are here and there in the full payload, so that way leads to the next one.
        let more = format!("[limits]\nwithout = [{without}]\n");
        let host = fixture.host_with(&format!("{name}-{}", without.len()), &more, Sizes::default())?;
        let ran = upright(&host, &["update"])?;
        assert_eq!(ran.status, 0, "{ran:?}");
        let history = upright(&host, &["history"])?.stdout;
        assert!(history.contains(&format!("applied by {name}")), "{history}");
    }
    // The index, the head, a chunk; and then nothing is there any more.
    let host = &fixture.host_with("chunks", "[limits]\nwithout = [\"delta\"]\n", Sizes::default())?;
    fixture.server.spoil("payloads/", Fault::Status(404));
    fixture.server.spoil_times("payloads/", Fault::NoRanges, 3);
    fails(host, 5, &["by chunks: ", "the server does not serve ranges", "by full: "])?;
    // What was begun with ranges ends without them.
    fixture.server.mend();
    let only_full = "[limits]\nwithout = [\"delta\", \"chunks\"]\npatience = \"1s\"\n";
    let host = &fixture.host_with("begun", only_full, Sizes::default())?;
    fixture.server.spoil("payloads/", Fault::Status(503));
    fixture.server.spoil_times("payloads/", Fault::Cut(3_000_000), 2);
    assert_eq!(upright(host, &["update"])?.status, 5);
    fixture.server.spoil("", Fault::NoRanges);
    let ran = upright(host, &["update"])?;
    assert_eq!(ran.status, 0, "{ran:?}");
    Ok(())
}

#[test]
fn a_line_that_drops_all_the_time_costs_hardly_more_than_a_good_one() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let whole = |host: &Path| -> Result<u64> {
        fixture.server.reset_counts();
        let ran = upright(host, &["update"])?;
        assert_eq!(ran.status, 0, "{ran:?}");
        Ok(fixture.server.sent("payloads/") + fixture.server.sent("deltas/"))
    };
    let only_full = "[limits]\nwithout = [\"delta\", \"chunks\"]\n";
    let good = whole(&fixture.host_with("good", only_full, Sizes::default())?)?;
    fixture.server.spoil_times("payloads/", Fault::Cut(1_000_000), 20);
    let bad = whole(&fixture.host_with("bad", only_full, Sizes::default())?)?;
    assert!(bad <= good + good / 20, "{bad} bytes instead of {good}");
    Ok(())
}

#[test]
fn trust_that_was_damaged_on_the_host_is_not_guessed_at() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    assert_eq!(upright(host, &["check"])?.status, 0);
    let stored = host.join("var/lib/upright/tuf");
    fixture.build(&["publish", "1.1.0"])?;
    // Nor does the agent remember what it has seen.
    assert_eq!(upright(host, &["reset-state", "--force"])?.status, 0);
    for name in ["root.json", "timestamp.json", "snapshot.json"] {
        let path = stored.join(name);
        // A root that came with the image is only stored once there is a newer one.
        let Ok(good) = fs::read(&path) else { continue };
        for bad in [b"".to_vec(), good[..good.len() / 2].to_vec(), noise(3, 500)] {
            fs::write(&path, bad)?;
            fails(host, 6, &[name, "stored copy is damaged"])?;
        }
        fs::write(&path, good)?;
    }
    assert_eq!(upright(host, &["update"])?.status, 0);
    Ok(())
}
