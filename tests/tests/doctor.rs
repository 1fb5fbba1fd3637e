//! `upright doctor` on hosts that lack something.

use std::fs;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use upright_tests::fixture::Fixture;
use upright_tests::namespace::{REFUSED, in_namespace, refused};
use upright_tests::programs::upright;
use upright_tests::simulated::Sizes;

#[test]
fn a_host_that_lacks_nothing_and_one_that_does() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    let fresh = upright(host, &["doctor"])?;
    assert_eq!((fresh.status, fresh.stdout.contains("WRONG")), (0, false), "{fresh:?}");
    assert!(fresh.stdout.contains("weak   trust: the server was never reached"), "{fresh:?}");
    fixture.build(&["publish", "1.1.0"])?;
    assert_eq!(upright(host, &["check"])?.status, 0);
    let well = upright(host, &["doctor", "--json"])?;
    assert_eq!((well.status, &well.json()?["healthy"]), (0, &true.into()), "{well:?}");
    assert!(!well.stdout.contains("weak"), "{well:?}");

    fs::rename(host.join("dev/root-b"), host.join("dev/elsewhere"))?;
    let ill = upright(host, &["doctor"])?;
    assert_eq!(ill.status, 6, "{ill:?}");
    assert!(ill.stdout.contains("WRONG  partitions: root-b cannot be used"), "{ill:?}");
    assert!(ill.stdout.contains("mend: give the partition that label"), "{ill:?}");
    assert!(ill.stderr.starts_with("upright: one thing is wrong with this host"), "{ill:?}");
    let json = upright(host, &["doctor", "--json"])?;
    assert_eq!((json.status, &json.json()?["healthy"], json.stderr.as_str()), (6, &false.into(), ""));
    fs::rename(host.join("dev/elsewhere"), host.join("dev/root-b"))?;

    // An entry that somebody renamed is none.
    let entries = host.join("esp/EFI/Linux");
    fs::rename(entries.join("acme_1.0.0.efi"), entries.join("acme_0.1.0.efi"))?;
    let ill = upright(host, &["doctor"])?;
    assert_eq!(ill.status, 6, "{ill:?}");
    assert!(ill.stdout.contains("systemd-boot has no entry for what runs"), "{ill:?}");
    Ok(())
}

#[test]
fn what_goes_before_the_order_of_boot_entries_is_told() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    fs::create_dir_all(host.join("esp/loader"))?;
    fs::write(host.join("esp/loader/loader.conf"), "timeout 3\ndefault acme_1.0.0.efi\n")?;
    let found = upright(host, &["doctor"])?;
    assert!(
        found.stdout.contains("weak   boot loader's state: the line `default acme_1.0.0.efi`"),
        "{found:?}"
    );
    assert!(found.stdout.contains("mend: remove the line from "), "{found:?}");
    Ok(())
}

#[test]
fn what_keeps_every_other_command_from_working_is_a_finding_here() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    let config = host.join("etc/upright/upright.toml");
    let text = fs::read_to_string(&config)?;
    fs::write(&config, "[repository]\n")?;
    let ill = upright(host, &["doctor"])?;
    assert_eq!(ill.status, 6, "{ill:?}");
    assert!(
        ill.stdout.contains("WRONG  configuration: ") && ill.stdout.contains("missing field `url`"),
        "{ill:?}"
    );
    fs::write(&config, text)?;
    fs::write(host.join("var/lib/upright/state.json"), "{}")?;
    let ill = upright(host, &["doctor"])?;
    assert_eq!(ill.status, 6, "{ill:?}");
    assert!(ill.stdout.contains("`upright reset-state` starts from"), "{ill:?}");
    Ok(())
}

/// A host that runs 1.1.0 in slot b and can go back to 1.0.0.
fn updated(fixture: &Fixture) -> Result<PathBuf> {
    let host = fixture.host("host")?;
    fixture.build(&["publish", "1.1.0"])?;
    for arguments in [&["update", "--reboot"][..], &["health"], &["doctor"]] {
        let ran = upright(&host, arguments)?;
        ensure!(ran.status == 0, "{arguments:?}: {ran:?}");
    }
    Ok(host)
}

/// Nothing but one line is wrong: what it says, and how it is to be mended.
fn wrong(host: &Path, says: &str, mend: &str) -> Result<()> {
    let ill = upright(host, &["doctor"])?;
    ensure!(ill.status == 6 && ill.stdout.matches("WRONG").count() == 1, "{ill:?}");
    let mut lines = ill.stdout.lines().skip_while(|line| !line.starts_with("WRONG"));
    let (line, next) = (lines.next().context("no line")?, lines.next().context("no way to mend it")?);
    ensure!(line.contains(says) && next.contains(mend), "{says:?} or {mend:?} is not in {line:?} {next:?}");
    Ok(())
}

#[test]
fn what_cannot_be_written_is_told_before_an_update_finds_out() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    let cases = [
        ("esp", "WRONG  ESP: ./esp cannot be written"),
        ("dev/root-b", "WRONG  partitions: cannot open ./dev/root-b:"),
        ("dev/root-b-verity", "WRONG  partitions: cannot open ./dev/root-b-verity:"),
        ("var/lib/upright", "WRONG  state: ./var/lib/upright cannot be written"),
        // An update never writes what runs.
        ("dev/root-a", ""),
    ];
    let case = |(number, (place, _)): (usize, &(&str, &str))| {
        format!(
            "mount --bind {place} {place} && mount -o remount,bind,ro {place}
            refused {number} upright --root . doctor
            umount {place}
            "
        )
    };
    let cases_run: String = cases.iter().enumerate().map(case).collect();
    in_namespace(host, &format!("{REFUSED}\nupright --root . status >/dev/null\n{cases_run}"))?;
    for (number, (place, says)) in cases.iter().enumerate() {
        let ran = refused(host, &number.to_string())?;
        let status = if says.is_empty() { 0 } else { 6 };
        ensure!(ran.status == status && ran.stdout.contains(says), "{place}: {ran:?}");
        ensure!(says.is_empty() || ran.stdout.contains("Read-only file system"), "{place}: {ran:?}");
    }
    Ok(())
}

#[test]
fn a_way_back_whose_entry_does_not_start_is_told_and_mended() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &updated(&fixture)?;
    let entry = host.join("esp/EFI/Linux/acme_1.0.0.efi");
    let whole = fs::read(&entry)?;
    let mut damaged = whole.clone();
    // What a host was first installed with is known by its command line.
    let text = whole.windows(9).position(|window| window == b"roothash=").context("no command line")?;
    damaged[text + 2] ^= 1;
    for (content, says) in
        [(None, "is gone, so there is no way back"), (Some(vec![]), "is gone"), (Some(damaged), "is damaged")]
    {
        match content {
            Some(content) => fs::write(&entry, content)?,
            None => fs::remove_file(&entry)?,
        }
        wrong(host, &format!("the entry of 1.0.0 in slot a {says}"), "`upright repair` composes it again")?;
        let mended = upright(host, &["repair"])?;
        assert_eq!(mended.status, 0, "{mended:?}");
        assert_eq!(upright(host, &["doctor"])?.status, 0);
        assert!(fs::read(&entry)? == whole, "another entry than before");
    }
    Ok(())
}

#[test]
fn an_entry_of_what_runs_that_is_gone_is_told_and_brought_back() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &updated(&fixture)?;
    let entry = host.join("esp/EFI/Linux/acme_1.1.0.efi");
    let whole = fs::read(&entry)?;
    fs::remove_file(&entry)?;
    wrong(host, "systemd-boot has no entry for what runs", "`upright repair`")?;
    let verify = upright(host, &["verify"])?;
    ensure!(verify.status == 4 && verify.stderr.contains("`upright repair` brings"), "{verify:?}");
    assert_eq!(upright(host, &["repair"])?.status, 0);
    assert!(fs::read(&entry)? == whole);
    assert_eq!(upright(host, &["verify"])?.status, 0);
    assert_eq!(upright(host, &["doctor"])?.status, 0);
    let mut damaged = whole;
    damaged[700_000] ^= 1;
    fs::write(&entry, damaged)?;
    wrong(host, "the entry of 1.1.0 in slot b is damaged", "`upright rollback`")?;
    Ok(())
}

#[test]
fn state_in_memory_and_a_damaged_reset_are_told() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &updated(&fixture)?;
    fs::write(host.join("run/volatile"), "")?;
    wrong(host, "this boot could not use the state on the disk", "`journalctl -b -u upright-state`")?;
    fs::remove_file(host.join("run/volatile"))?;
    fs::write(host.join("var/lib/upright/reset"), "garbage\n")?;
    wrong(host, "the request is damaged", "`upright reset --cancel`")?;
    let status = upright(host, &["status"])?;
    ensure!(status.stdout.contains("reset: what was asked for cannot be read"), "{status:?}");
    let told = upright(host, &["status", "--json"])?.json()?;
    ensure!(told["reset_error"].is_string() && told["reset"].is_null(), "{told}");
    assert_eq!(upright(host, &["reset", "--cancel"])?.status, 0);
    assert_eq!(upright(host, &["doctor"])?.status, 0);
    Ok(())
}

/// Nobody hears of a fleet that takes no update.
#[test]
fn a_root_that_is_another_publishers_is_told() -> Result<()> {
    let (fixture, other) = (Fixture::new()?, Fixture::new()?);
    let host = &updated(&fixture)?;
    let root = host.join("usr/share/upright/root.json");
    let own = fs::read(&root)?;
    fs::copy(other.workspace().join("root.json"), &root)?;
    let mend = "`repository.root` must name the root.json of the publisher's workspace";
    wrong(host, "is not signed by those whom this host's root.json appoints", mend)?;
    // The attempt throws away what it cannot verify.
    assert_eq!(upright(host, &["check"])?.status, 4);
    wrong(host, "nothing is stored of the metadata that was taken at", mend)?;
    fs::write(&root, &own)?;
    assert_eq!(upright(host, &["check"])?.status, 0);
    assert_eq!(upright(host, &["doctor"])?.status, 0);
    // The host goes on with the one that it has stored, and one that begins anew would not.
    fixture.build(&["refresh", "--role", "root"])?;
    assert_eq!(upright(host, &["check"])?.status, 0);
    assert_eq!(upright(host, &["doctor"])?.status, 0);
    fs::copy(other.workspace().join("root.json"), &root)?;
    wrong(
        host,
        "the image's root.json is another publisher's than the one that this host has come to trust",
        mend,
    )
}

#[test]
fn a_clock_that_is_years_ahead_is_no_reason_to_throw_trust_away() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &updated(&fixture)?;
    fs::write(host.join("run/clock"), "2099-01-01T00:00:00Z")?;
    let ill = upright(host, &["doctor"])?;
    assert_eq!(ill.status, 6, "{ill:?}");
    assert!(ill.stdout.contains("weak   clock: it says 2099-01-01T00:00:00Z"), "{ill:?}");
    assert!(ill.stdout.contains("mend: set the clock"), "{ill:?}");
    assert!(!ill.stdout.contains("reset-trust"), "{ill:?}");
    Ok(())
}

#[test]
fn a_medium_that_the_configuration_allows_to_be_late_is_no_fault() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let medium = fixture.workspace().with_file_name("stick.tar").display().to_string();
    fixture.build(&["export", "--channel", "stable", "--output", &medium])?;
    let host = &fixture.host_with("host", "[update]\noffline-expiry = \"30d\"\n", Sizes::default())?;
    let later = |days: i64| {
        let time = Timestamp::now() + SignedDuration::from_hours(24 * days);
        fs::write(host.join("run/clock"), time.to_string())
    };
    assert_eq!(upright(host, &["status"])?.status, 0);
    later(8)?;
    assert_eq!(upright(host, &["update", "--from", &medium])?.status, 0);
    let well = upright(host, &["doctor"])?;
    assert_eq!(well.status, 0, "{well:?}");
    assert!(well.stdout.contains(&format!("metadata is whole; it came from {medium}")), "{well:?}");
    assert!(!well.stdout.contains("server was last reached"), "{well:?}");
    let status = upright(host, &["status"])?.stdout;
    assert!(status.contains("`offline-expiry` takes a medium with it until "), "{status}");
    later(38)?;
    let late = upright(host, &["doctor"])?;
    assert_eq!(late.status, 0, "{late:?}");
    assert!(late.stdout.contains("the next update needs a newer medium, or the server"), "{late:?}");
    let status = upright(host, &["status"])?.stdout;
    assert!(status.contains("nothing is taken before the next contact or a newer medium"), "{status}");
    Ok(())
}
