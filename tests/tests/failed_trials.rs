//! A release that never got as far as a verdict: `upright why` tells from what its boots left behind.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use upright_tests::fixture::{Fixture, file};
use upright_tests::namespace::in_namespace;
use upright_tests::programs::upright;

/// A host that runs 1.0.0, and whose next boot tries 1.1.0, once.
fn switched(fixture: &Fixture) -> Result<PathBuf> {
    fixture.build(&["publish", "1.1.0"])?;
    switched_host(fixture, "host")
}

fn switched_host(fixture: &Fixture, name: &str) -> Result<PathBuf> {
    let host = fixture.host(name)?;
    let path = host.join("etc/upright/upright.toml");
    let config = fs::read_to_string(&path)?;
    fs::write(&path, config.replace("[health]\n", "[health]\ntries = 1\n"))?;
    let updated = upright(&host, &["update"])?;
    ensure!(updated.status == 0, "{updated:?}");
    Ok(host)
}

/// A boot, in which something may happen before the agent runs, or instead of it.
fn boot(host: &Path) -> Result<()> {
    fs::remove_file(host.join("run/cmdline"))?;
    let status = upright(host, &["status"])?;
    ensure!(status.status == 0, "{status:?}");
    Ok(())
}

/// What an operator reads once the agent of 1.0.0 has run.
fn why(host: &Path) -> Result<String> {
    let round = upright(host, &["run", "--once"])?;
    ensure!(round.status == 0, "{round:?}");
    let why: Value = upright(host, &["why", "--json"])?.json()?;
    ensure!(why["version"] == "1.1.0", "{why}");
    Ok(why["summary"].as_str().context("no summary")?.to_owned())
}

#[test]
fn boots_that_left_nothing_are_told_apart_from_those_that_got_further() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &switched(&fixture)?;
    // What an earlier trial left behind is not this one's.
    file(host, "var/lib/systemd/pstore/1/dmesg.txt", b"Kernel panic - not syncing: long ago\n")?;
    let old = fs::File::options().write(true).open(host.join("var/lib/systemd/pstore/1/dmesg.txt"))?;
    old.set_modified(std::time::SystemTime::UNIX_EPOCH)?;
    boot(host)?;
    boot(host)?;
    let why = why(host)?;
    assert!(why.contains("none is known to have mounted /var"), "{why}");
    for part in ["panic", "watchdog", "slot b", "journalctl"] {
        assert!(!why.contains(part), "{why}");
    }
    Ok(())
}

#[test]
fn what_kernel_watchdog_and_initrd_left_behind_is_told_and_kept() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &switched(&fixture)?;
    boot(host)?;
    file(host, "var/lib/upright/trial-boots", b"0f3a-77\n")?;
    file(
        host,
        "sys/fs/pstore/dmesg-efi-1",
        b"<0>[ 9.1] Kernel panic - not syncing: Attempted to kill init!\n",
    )?;
    file(host, "sys/class/watchdog/watchdog0/bootstatus", b"32\n")?;
    boot(host)?;
    let parts = [
        "1 mounted /var and none reached the agent",
        "the kernel said: Kernel panic - not syncing: Attempted to kill init!",
        "until the hardware watchdog ended it",
        "`journalctl --boot=0f3a77`",
    ];
    let first = why(host)?;
    // It is kept when its sources are gone.
    fs::remove_dir_all(host.join("sys"))?;
    assert!(!host.join("var/lib/upright/trial-boots").exists());
    let later: Value = upright(host, &["why", "1.1.0", "--json"])?.json()?;
    let later = later["summary"].as_str().context("no summary")?.to_owned();
    for part in parts {
        assert!(first.contains(part) && later.contains(part), "{part:?} is not in {first} or {later}");
    }
    Ok(())
}

#[test]
fn a_slot_that_was_damaged_after_the_switch_is_named_with_the_file() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &switched(&fixture)?;
    let slot = host.join("dev/root-b");
    let content = fs::read(host.join("dev/root-b"))?;
    let added = upright_tests::fixture::noise(7, 20_000);
    let at =
        content.windows(64).position(|window| window == &added[..64]).context("the file is not there")?;
    fs::File::options().write(true).open(slot)?.write_all_at(b"x", at as u64 + 9000)?;
    boot(host)?;
    boot(host)?;
    let why = why(host)?;
    assert!(why.contains("slot b is damaged: 1 block, of /usr/share/acme/added"), "{why}");
    Ok(())
}

#[test]
fn a_boot_entry_that_was_damaged_after_the_switch_is_named_and_not_the_slot() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    for (name, damage) in [("flipped", None), ("cut-off", Some(1_000_000))] {
        let host = &switched_host(&fixture, name)?;
        let entries = fs::read_dir(host.join("esp/EFI/Linux"))?.collect::<std::io::Result<Vec<_>>>()?;
        let entry = entries.iter().find(|entry| entry.file_name().to_string_lossy().contains("1.1.0"));
        let file = fs::File::options().write(true).open(entry.context("no entry")?.path())?;
        match damage {
            None => file.write_all_at(b"damaged", 700_000)?,
            Some(length) => file.set_len(length)?,
        }
        boot(host)?;
        boot(host)?;
        let why = why(host)?;
        assert!(why.contains("; its boot entry is damaged"), "{name}: {why}");
        assert!(!why.contains("slot b"), "{name}: {why}");
    }
    Ok(())
}

#[test]
fn that_no_boot_was_noted_says_little_where_none_could_be() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &switched(&fixture)?;
    let script = "
        cp -a var/lib/upright kept && rm kept/reserve && mount -t tmpfs -o size=1m none var/lib/upright && cp -a kept/. var/lib/upright
        rm run/cmdline; upright --root . status >/dev/null
        cat /dev/zero >var/lib/upright/filler 2>/dev/null || true
        rm run/cmdline; upright --root . status >/dev/null
        upright --root . why >full
        rm var/lib/upright/filler; mount -o remount,ro var/lib/upright
        upright --root . why >read-only
        mount -o remount,rw var/lib/upright; rm var/lib/upright/trial
        upright --root . why >unnamed";
    in_namespace(host, script)?;
    for (name, says) in [
        ("full", "or come further: there was no room for notes of its boots, since /var is full"),
        ("read-only", "or come further: it could not note its boots"),
        ("unnamed", "or come further: its boots were not noted"),
    ] {
        let why = fs::read_to_string(host.join(name))?;
        assert!(why.contains(says) && !why.contains("so it failed in"), "{name}: {why}");
    }
    Ok(())
}
