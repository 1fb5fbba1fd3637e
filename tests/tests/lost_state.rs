//! A host whose agent remembers nothing: boot loader and partitions say what is there.

use std::fs;
use std::path::Path;

use anyhow::Result;
use upright_tests::fixture::Fixture;
use upright_tests::namespace::{REFUSED, in_namespace, refused};
use upright_tests::programs::{done, upright};
use upright_tests::simulated::{slot, text};

/// A host that runs 1.0.0 and was told to take `version`.
fn host_after(fixture: &Fixture, version: &str, update: &[&str]) -> Result<std::path::PathBuf> {
    let host = fixture.host("host")?;
    fixture.build(&["publish", version])?;
    done(&host, update)?;
    Ok(host)
}

/// Makes the record unreadable and sets it aside, as the message says.
fn reset(host: &Path) -> Result<()> {
    fs::write(host.join("var/lib/upright/state.json"), "x")?;
    let refused = upright(host, &["status"])?;
    assert!(refused.stderr.contains("`upright reset-state`"), "{refused:?}");
    done(host, &["reset-state"]).map(drop)
}

/// Version and verdict of the slot that runs and of the other, and the state.
fn told(host: &Path) -> Result<[String; 5]> {
    let (runs, other) = (slot(host, true)?, slot(host, false)?);
    let status = done(host, &["status", "--json"])?.json()?;
    let [a, b, c, d] = [&runs["version"], &runs["verdict"], &other["version"], &other["verdict"]].map(text);
    Ok([a, b, c, d, text(&status["state"]["state"])])
}

#[test]
fn a_release_on_trial_is_left_for_the_one_that_nobody_remembers() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host_after(&fixture, "1.2.0", &["update", "--reboot"])?;
    fs::remove_file(host.join("var/lib/upright/state.json"))?;
    assert_eq!(told(host)?, ["1.2.0", "trial", "1.0.0", "proven", "trial"]);
    // It fails its checks.
    upright(host, &["health"])?;
    assert_eq!(told(host)?, ["1.0.0", "proven", "1.2.0", "bad", "idle"]);
    Ok(())
}

/// As a restored backup may leave them, or somebody's slip.
#[test]
fn what_is_in_the_place_of_the_agents_files_keeps_it_from_nothing() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host_after(&fixture, "1.1.0", &["update", "--reboot"])?;
    let own = host.join("var/lib/upright");
    let folder = |name: &str| {
        let _ = fs::remove_file(own.join(name));
        fs::create_dir_all(own.join(name).join("inside"))
    };
    // A healthy release is not left for it.
    fs::remove_file(own.join("lock"))?;
    std::os::unix::fs::symlink("/nowhere/at/all", own.join("lock"))?;
    done(host, &["health"])?;
    assert_eq!(told(host)?, ["1.1.0", "proven", "1.0.0", "proven", "idle"]);
    let names = ["lock", "fresh", "trial", "trial-boots", "stopped"];
    for name in names {
        folder(name)?;
    }
    let ill = upright(host, &["doctor"])?;
    let says = "is a folder, a link or a device in the place of a file";
    assert_eq!((ill.status, ill.stdout.matches(says).count()), (6, names.len()), "{ill:?}");
    fixture.build(&["publish", "1.2.0"])?;
    done(host, &["update"])?;
    // In the meantime, too.
    folder("fresh")?;
    fs::write(own.join("lock"), "")?;
    done(host, &["update", "--reboot"])?;
    assert_eq!(told(host)?[..2], ["1.2.0", "trial"]);
    assert_eq!(upright(host, &["doctor"])?.status, 0);
    for name in names {
        assert!(own.join(format!("{name}.left-0/inside")).is_dir() || name == "lock", "{name} is lost");
    }
    assert!(own.join("lock.left-0").is_symlink() && own.join("lock.left-1/inside").is_dir());
    Ok(())
}

#[test]
fn what_is_in_the_way_for_good_is_told_before_the_way_back_is_gone() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host_after(&fixture, "1.1.0", &["update", "--reboot"])?;
    done(host, &["health"])?;
    fixture.build(&["publish", "1.2.0"])?;
    let script = format!(
        "{REFUSED}
        for name in trial fresh; do
            mkdir -p var/lib/upright/$name && mount --bind var/lib/upright/$name var/lib/upright/$name
            refused $name upright --root . update
            umount var/lib/upright/$name && rmdir var/lib/upright/$name
        done
        printf '\\377' >var/lib/upright/last-slot
        refused last-slot upright --root . update
        refused doctor upright --root . doctor"
    );
    in_namespace(host, &script)?;
    for (name, says) in [
        ("trial", "cannot use ./var/lib/upright/trial: it is no file; move it away"),
        ("fresh", "cannot use ./var/lib/upright/fresh: it is no file; move it away"),
        ("last-slot", "cannot read ./var/lib/upright/last-slot: it is no text; the next boot notes anew"),
        ("doctor", ""),
    ] {
        let ran = refused(host, name)?;
        assert!(ran.status != 0 && ran.stderr.contains(says), "{name}: {ran:?}");
    }
    assert!(refused(host, "doctor")?.stdout.contains("last-slot: it is no text"));
    assert_eq!(told(host)?, ["1.1.0", "proven", "1.0.0", "proven", "idle"]);
    // It does.
    fs::remove_file(host.join("run/cmdline"))?;
    done(host, &["update"])?;
    Ok(())
}

/// Nobody is there to say `upright reset-state`.
#[test]
fn a_damaged_record_keeps_no_host_from_a_verdict_or_from_updates() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host_after(&fixture, "1.1.0", &["update", "--reboot"])?;
    let record = host.join("var/lib/upright/state.json");
    fs::write(&record, "x")?;
    done(host, &["health"])?;
    assert_eq!(told(host)?, ["1.1.0", "proven", "1.0.0", "proven", "idle"]);
    fixture.build(&["publish", "1.2.0"])?;
    let newer = fs::read_to_string(&record)?.replacen("\"format\": 1", "\"format\": 2", 1);
    fs::write(&record, newer)?;
    let round = upright(host, &["run", "--once"])?;
    assert!(round.stderr.contains("state.json was damaged, or of a newer agent: it is kept as"), "{round:?}");
    assert_eq!(told(host)?[..2], ["1.2.0", "trial"]);
    Ok(())
}

/// What a file system that was mended may have put there is as good as a damaged file.
#[test]
fn what_takes_the_place_of_the_record_keeps_no_host_from_updates_and_can_be_set_aside() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host_after(&fixture, "1.1.0", &["status"])?;
    let record = &host.join("var/lib/upright/state.json");
    fs::create_dir_all(record.join("inside"))?;
    done(host, &["run", "--once"])?;
    assert_eq!(told(host)?[..2], ["1.1.0", "trial"]);
    done(host, &["health"])?;
    fs::remove_file(record)?;
    std::os::unix::fs::symlink("nowhere", record)?;
    let refused = upright(host, &["status"])?;
    assert!(refused.stderr.contains("`upright reset-state`"), "{refused:?}");
    done(host, &["reset-state"])?;
    assert_eq!(told(host)?, ["1.1.0", "proven", "1.0.0", "proven", "idle"]);
    Ok(())
}

/// A disk that fails is both: what was there cannot be read any more, and nothing can be put aside.
#[test]
fn a_damaged_record_on_a_disk_that_cannot_be_written_keeps_no_host_from_a_verdict() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host_after(&fixture, "1.1.0", &["update", "--reboot"])?;
    fs::write(host.join("var/lib/upright/state.json"), "x")?;
    let script = format!(
        "{REFUSED}
        mount --bind var/lib/upright var/lib/upright
        mount -o remount,ro,bind var/lib/upright
        refused health upright --root . health
        refused round upright --root . run --once
        refused status upright --root . status"
    );
    in_namespace(host, &script)?;
    let health = refused(host, "health")?;
    assert!(health.status == 0 && health.stdout.starts_with("healthy"), "{health:?}");
    assert!(health.stderr.contains("it cannot be set aside"), "{health:?}");
    assert!(host.join("esp/EFI/Linux/acme_1.1.0.efi").is_file(), "it was not committed");
    let status = refused(host, "status")?;
    assert!(status.stdout.contains("1.1.0") && !status.stdout.contains("trial"), "{status:?}");
    Ok(())
}

#[test]
fn an_operator_can_go_back_to_a_release_that_nobody_remembers() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host_after(&fixture, "1.1.0", &["update", "--reboot"])?;
    done(host, &["health"])?;
    reset(host)?;
    assert_eq!(told(host)?, ["1.1.0", "proven", "1.0.0", "proven", "idle"]);
    done(host, &["rollback"])?;
    assert_eq!(told(host)?[0], "1.0.0");
    Ok(())
}

#[test]
fn a_release_that_the_next_boot_tries_has_to_prove_itself_though_nobody_remembers_it() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host_after(&fixture, "1.1.0", &["update"])?;
    reset(host)?;
    let [runs, _, other, verdict, state] = told(host)?;
    assert_eq!([runs, other, verdict, state], ["1.0.0", "1.1.0", "trial", "switched"]);
    done(host, &["update", "--reboot"])?;
    assert_eq!(told(host)?[4], "trial");
    done(host, &["health"])?;
    assert_eq!(told(host)?, ["1.1.0", "proven", "1.0.0", "proven", "idle"]);
    Ok(())
}

#[test]
fn a_slot_that_was_being_written_is_no_release() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host_after(&fixture, "1.1.0", &["update", "--reboot"])?;
    done(host, &["health"])?;
    // The tree's first block is what goes first and comes last.
    let tree = fs::File::options().write(true).open(host.join("dev/root-a-verity"))?;
    std::os::unix::fs::FileExt::write_all_at(&tree, &[0; 4096], 0)?;
    reset(host)?;
    assert_eq!(told(host)?[2..4], ["-", "empty"]);
    Ok(())
}

#[test]
fn a_copy_of_what_runs_is_no_other_release() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    for part in ["root", "root-verity"] {
        let name = |slot: &str| host.join("dev").join(part.replacen("root", &format!("root-{slot}"), 1));
        let copy = fs::File::options().write(true).open(name("b"))?;
        std::os::unix::fs::FileExt::write_all_at(&copy, &fs::read(name("a"))?, 0)?;
    }
    assert_eq!(told(host)?, ["1.0.0", "proven", "-", "empty", "idle"]);
    Ok(())
}
