//! Whatever a release, a boot loader or a disk does: what runs in the end is proven or alone, nothing is erased while it is needed, and no
//! host restarts for ever.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use upright_tests::fixture::{Fixture, noise};
use upright_tests::namespace::{REFUSED, in_namespace, refused};
use upright_tests::programs::{Ran, done, upright};
use upright_tests::server::Fault;
use upright_tests::simulated::{Sizes, boot, boot_without, runs, slot, text};

const NEVER: &str = "[update]\nreboot = \"never\"\n[limits]\npatience = \"1s\"\n";

fn state(host: &Path) -> Result<String> {
    Ok(text(&done(host, &["status", "--json"])?.json()?["state"]["state"]))
}

/// The file of a release's boot entry.
fn entry_of(host: &Path, version: &str) -> Result<String> {
    let files = fs::read_dir(host.join("esp/EFI/Linux"))?.collect::<std::io::Result<Vec<_>>>()?;
    let names = files.into_iter().map(|file| file.file_name().to_string_lossy().into_owned());
    names.into_iter().find(|name| name.contains(version)).context("no entry")
}

/// Runs a command with a folder of the host that cannot be written.
fn read_only(host: &Path, folder: &str, arguments: &str) -> Result<Ran> {
    let script = format!(
        "{REFUSED}
        mount --bind {folder} {folder}
        mount -o remount,ro,bind {folder}
        refused it upright --root . {arguments}"
    );
    in_namespace(host, &script)?;
    refused(host, "it")
}

/// 1.1.0 was switched to and waits for a reboot when 1.3.0 is published, which cannot be fetched yet.
#[test]
fn a_release_that_another_was_chosen_over_is_not_booted_and_the_way_back_stays() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host_with("host", NEVER, Sizes::default())?;
    fixture.build(&["publish", "1.1.0"])?;
    done(host, &["update"])?;
    fixture.build(&["publish", "1.2.0"])?;
    for path in ["payloads/", "deltas/"] {
        fixture.server.spoil(path, Fault::Status(503));
    }
    assert_ne!(upright(host, &["update"])?.status, 0);
    assert_eq!(boot(host)?, "1.0.0", "what was given up was booted");
    assert_eq!(upright(host, &["health"])?.status, 0);
    fixture.server.mend();
    done(host, &["update", "--reboot"])?;
    assert_eq!(runs(host)?, "1.2.0");
    Ok(())
}

#[test]
fn a_release_that_its_publisher_withdrew_is_not_rebooted_into() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    fixture.build(&["publish", "1.2.0"])?;
    done(host, &["update"])?;
    fixture.build(&["publish", "1.0.0", "--allow-downgrade"])?;
    let round = done(host, &["run", "--once"])?;
    assert!(round.stderr.contains("1.2.0 stands ready and is not what the channel offers"), "{round:?}");
    for command in ["check", "update"] {
        let told = done(host, &[command])?;
        assert!(told.stderr.contains("note: the next boot takes 1.2.0: run `reboot`"), "{told:?}");
    }
    assert_eq!(runs(host)?, "1.0.0");
    done(host, &["rollback"])?;
    assert_eq!((boot(host)?, state(host)?), ("1.0.0".to_owned(), "idle".to_owned()));
    Ok(())
}

#[test]
fn when_to_reboot_after_a_rollback_is_said_by_who_asked_for_it() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host_with("host", NEVER, Sizes::default())?;
    fixture.build(&["publish", "1.1.0"])?;
    done(host, &["update", "--reboot"])?;
    done(host, &["health"])?;
    done(host, &["rollback", "--no-reboot"])?;
    // Each of them finishes what was cut off, and reboots for a release that failed.
    for command in [&["run", "--once"][..], &["health"], &["run", "--once"]] {
        done(host, command)?;
        assert_eq!(runs(host)?, "1.1.0", "{command:?} rebooted");
    }
    let told = done(host, &["check"])?;
    assert!(told.stderr.contains("note: 1.1.0 was left, and the next boot takes 1.0.0"), "{told:?}");
    assert_eq!(boot(host)?, "1.0.0");
    Ok(())
}

#[test]
fn a_release_that_cannot_reach_the_hosts_state_is_left() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    fixture.build(&["publish", "1.1.0"])?;
    done(host, &["update", "--reboot"])?;
    // Its kernel lacks what the state partition needs: what is in /var is not there, and the agent knows nothing.
    fs::rename(host.join("var"), host.join("disk"))?;
    fs::create_dir_all(host.join("var/lib/upright"))?;
    fs::write(host.join("run/volatile"), "")?;
    let health = upright(host, &["health"])?;
    assert_eq!(health.status, 1, "{health:?}");
    assert!(health.stdout.contains("FAIL  state: this boot could not reach its part of /var"), "{health:?}");
    fs::remove_dir_all(host.join("var"))?;
    fs::rename(host.join("disk"), host.join("var"))?;
    assert_eq!(boot(host)?, "1.0.0");
    assert_eq!(text(&slot(host, false)?["verdict"]), "bad");
    Ok(())
}

/// The state disk is mended while the release runs whose verdict could not be noted.
#[test]
fn a_verdict_that_could_not_be_noted_is_noted_later() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    fixture.build(&["publish", "1.1.0"])?;
    done(host, &["update", "--reboot"])?;
    let health = read_only(host, "var", "health")?;
    assert_eq!(health.status, 0, "{health:?}");
    assert_eq!((state(host)?, text(&slot(host, true)?["verdict"])), ("idle".to_owned(), "proven".to_owned()));
    // What was known in this boot alone is on the disk.
    done(host, &["run", "--once"])?;
    assert_eq!((boot(host)?, text(&slot(host, true)?["verdict"])), ("1.1.0".to_owned(), "proven".to_owned()));
    let history = done(host, &["history"])?;
    assert!(history.stdout.contains("1.1.0  proven healthy on its first boot"), "{history:?}");
    Ok(())
}

#[test]
fn a_trial_comes_to_a_verdict_though_the_way_back_has_lost_its_boot_entry() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    fixture.build(&["publish", "1.1.0"])?;
    done(host, &["update", "--reboot"])?;
    fs::remove_file(host.join("esp/EFI/Linux/acme_1.0.0.efi"))?;
    let health = done(host, &["health"])?;
    assert!(health.stdout.starts_with("healthy"), "{health:?}");
    assert_eq!((state(host)?, text(&slot(host, true)?["verdict"])), ("idle".to_owned(), "proven".to_owned()));
    Ok(())
}

/// Each time a release proves healthy it fails to tell the boot loader, so its boots are used up.
#[test]
fn a_release_that_cannot_be_committed_is_left_for_good_and_why_says_so() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    fixture.build(&["publish", "1.1.0"])?;
    let mut boots = 0;
    for _ in 0..6 {
        let round = upright(host, &["run", "--once"])?;
        if runs(host)? == "1.0.0" {
            assert!(round.stderr.contains("1.1.0 is refused: it was rolled back on this host"), "{round:?}");
            break;
        }
        while runs(host)? == "1.1.0" {
            let health = read_only(host, "esp", "health")?;
            assert_ne!(health.status, 0, "{health:?}");
            boot(host)?;
            boots += 1;
            assert!(boots < 20, "it is tried for ever");
        }
    }
    let why = done(host, &["why"])?;
    for says in
        ["the boot loader does not do as it is told", "it proved healthy", "ead-only file system", "3 times"]
    {
        assert!(why.stdout.contains(says), "{why:?} does not say {says:?}");
    }
    Ok(())
}

/// A default in its configuration, say, keeps the boot loader from starting what was switched to.
#[test]
fn a_boot_loader_that_does_not_start_what_it_is_told_is_not_rebooted_for_ever() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    fixture.build(&["publish", "1.1.0"])?;
    let mut reboots = 0;
    for _ in 0..6 {
        // It is told to restart by hand where policy would do it at once.
        let ran = upright(host, &["run", "--once"])?;
        if runs(host)? == "1.1.0" {
            reboots += 1;
            boot_without(host, &entry_of(host, "1.1.0")?)?;
        }
        assert_eq!(runs(host)?, "1.0.0", "{ran:?}");
    }
    assert_eq!(reboots, 3);
    let why = done(host, &["why"])?;
    assert!(
        why.stdout.contains("the other slot was started instead, 3 times; see `upright doctor`"),
        "{why:?}"
    );
    Ok(())
}

#[test]
fn a_release_without_a_way_back_is_what_every_boot_takes() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    fixture.build(&["publish", "1.2.0"])?;
    done(host, &["update", "--reboot"])?;
    let mut image = fs::read(host.join("dev/root-a"))?;
    let damaged = noise(142, 200);
    let at = image.windows(damaged.len()).position(|window| window == damaged).context("no such content")?;
    image[at] ^= 1;
    fs::write(host.join("dev/root-a"), image)?;
    assert_eq!(upright(host, &["health"])?.status, 1);
    for _ in 0..5 {
        assert_eq!(boot(host)?, "1.2.0", "a damaged release was booted");
    }
    assert_eq!(text(&slot(host, true)?["verdict"]), "unproven");
    Ok(())
}
