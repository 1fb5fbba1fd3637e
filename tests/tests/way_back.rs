//! What goes wrong before an update changes anything, or around the boot entry of what runs, costs no way back.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use upright_tests::fixture::Fixture;
use upright_tests::namespace::{REFUSED, in_namespace, refused};
use upright_tests::programs::{done, upright};
use upright_tests::refusal::{Until, contains, host_refuses, line_of};
use upright_tests::server::Fault;
use upright_tests::simulated::{Sizes, boot, runs};

/// A host that runs 1.1.0, proven, and can go back to 1.0.0; 1.2.0 is offered.
fn host(fixture: &Fixture) -> Result<PathBuf> {
    let host = fixture.host("host")?;
    fixture.build(&["publish", "1.1.0"])?;
    done(&host, &["update", "--reboot"])?;
    done(&host, &["health"])?;
    fixture.build(&["publish", "1.2.0"])?;
    Ok(host)
}

fn boot_entry(host: &Path, version: &str) -> PathBuf {
    host.join(format!("esp/EFI/Linux/acme_{version}.efi"))
}

/// Damages a boot entry so that the boot loader still sees it.
fn shorten(entry: &Path) -> Result<()> {
    Ok(File::options().write(true).open(entry)?.set_len(300_000)?)
}

/// The same whatever its boots are counted to.
fn counted_entry(host: &Path, version: &str) -> Result<PathBuf> {
    let mut files = fs::read_dir(host.join("esp/EFI/Linux"))?.filter_map(|file| Some(file.ok()?.path()));
    files.find(|path| path.to_string_lossy().contains(version)).context("no entry")
}

#[test]
fn what_cannot_be_written_is_seen_before_the_way_back_is_given_up() -> Result<()> {
    for place in ["esp", "dev"] {
        let fixture = Fixture::new()?;
        let host = &host(&fixture)?;
        let script = format!(
            "{REFUSED}mount --bind {place} {place}; mount -o remount,ro,bind {place}; refused update upright --root . update"
        );
        in_namespace(host, &script)?;
        let ran = refused(host, "update")?;
        contains(line_of("upright", &ran, 6)?, &["ead-only"])?;
        done(host, &["rollback"])?;
        assert_eq!(runs(host)?, "1.0.0", "{place}");
    }
    Ok(())
}

#[test]
fn a_boot_entry_of_what_runs_that_is_gone_is_brought_back_before_the_other_is_touched() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    let (own, other) = (boot_entry(host, "1.1.0"), boot_entry(host, "1.0.0"));
    let whole = [fs::read(&own)?, fs::read(&other)?];
    fs::remove_file(&own)?;
    let ran = upright(host, &["update"])?;
    contains(
        line_of("upright", &ran, 4)?,
        &["the boot entry of 1.1.0", "is missing: `upright repair` brings it back"],
    )?;
    assert!(fs::read(&other)? == whole[1]);
    done(host, &["repair"])?;
    assert!(fs::read(&own)? == whole[0]);
    // Both are gone, and the next boot would find nothing.
    fs::remove_file(&own)?;
    fs::remove_file(&other)?;
    let slot = fs::read(host.join("dev/root-a"))?;
    let ran = upright(host, &["update"])?;
    contains(line_of("upright", &ran, 4)?, &["is missing: `upright repair` brings it back"])?;
    assert!(fs::read(host.join("dev/root-a"))? == slot, "the way back is written over");
    done(host, &["repair"])?;
    assert!([fs::read(&own)?, fs::read(boot_entry(host, "1.0.0"))?] == whole);
    assert_eq!(runs(host)?, "1.1.0");
    done(host, &["rollback"])?;
    assert_eq!(runs(host)?, "1.0.0");
    Ok(())
}

#[test]
fn a_release_whose_boot_entry_is_gone_or_damaged_can_be_left() -> Result<()> {
    for damage in [None, Some("garbage")] {
        let fixture = Fixture::new()?;
        let host = &host(&fixture)?;
        let own = boot_entry(host, "1.1.0");
        match damage {
            None => fs::remove_file(&own)?,
            Some(text) => fs::write(&own, text)?,
        }
        let ran = upright(host, &["update"])?;
        contains(line_of("upright", &ran, 4)?, &["`upright rollback` goes to the other slot"])?;
        done(host, &["rollback"])?;
        assert_eq!(runs(host)?, "1.0.0", "{damage:?}");
    }
    Ok(())
}

/// The disk cannot read a file any more: a link that leads to itself.
fn lose(file: &Path) -> Result<()> {
    if file.exists() {
        fs::remove_file(file)?;
    }
    Ok(std::os::unix::fs::symlink(file.file_name().context("no name")?, file)?)
}

#[test]
fn another_systems_entry_that_cannot_be_read_is_told_and_in_nobodys_way() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    let theirs = host.join("esp/EFI/Linux/debian_12.efi");
    lose(&theirs)?;
    contains(&done(host, &["doctor"])?.stdout, &["debian_12.efi cannot be read (", "fsck.fat"])?;
    contains(&done(host, &["status"])?.stderr, &["debian_12.efi cannot be read"])?;
    done(host, &["rollback"])?;
    assert_eq!(runs(host)?, "1.0.0");
    // It is not healthy.
    done(host, &["update", "--reboot"])?;
    assert_eq!((upright(host, &["health"])?.status, runs(host)?.as_str()), (1, "1.0.0"));
    assert!(theirs.is_symlink());
    Ok(())
}

#[test]
fn a_release_whose_boot_entry_cannot_be_read_can_be_left_or_mended() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    let own = boot_entry(host, "1.1.0");
    let whole = fs::read(&own)?;
    lose(&own)?;
    let ran = upright(host, &["update"])?;
    contains(line_of("upright", &ran, 4)?, &["`upright repair` brings it back, `upright rollback` goes to"])?;
    done(host, &["repair"])?;
    assert!(fs::read(&own)? == whole);
    lose(&own)?;
    done(host, &["rollback"])?;
    assert_eq!(runs(host)?, "1.0.0");
    done(host, &["health"])?;
    Ok(())
}

/// The next boot would find nothing, so whatever brings an entry is right: a repair, or the next release.
#[test]
fn a_host_whose_only_boot_entry_is_damaged_or_gone_is_mended_and_updated() -> Result<()> {
    let zeros = |file: &Path, length: usize| -> Result<()> {
        let mut bytes = fs::read(file)?;
        bytes[..length].fill(0);
        Ok(fs::write(file, bytes)?)
    };
    type Damage<'a> = &'a dyn Fn(&Path) -> Result<()>;
    let damages: [Damage; 4] =
        [&|own| zeros(own, 2), &|own| zeros(own, 512), &|own| lose(own), &|own| Ok(fs::remove_file(own)?)];
    for (number, damage) in damages.into_iter().enumerate() {
        for mended in [true, false] {
            let fixture = Fixture::new()?;
            let host = &fixture.host("host")?;
            let own = boot_entry(host, "1.0.0");
            let whole = fs::read(&own)?;
            assert_eq!(runs(host)?, "1.0.0");
            damage(&own)?;
            if number > 0 {
                contains(&upright(host, &["doctor"])?.stdout, &["no entry for what runs", "upright repair"])?;
            }
            done(host, &["run", "--once"])?;
            done(host, &["health"])?;
            if mended {
                done(host, &["repair"])?;
            }
            assert_eq!(fs::read(&own).is_ok_and(|own| own == whole), mended || number == 0, "{number}");
            fixture.build(&["publish", "1.1.0"])?;
            done(host, &["update", "--reboot"])?;
            done(host, &["health"])?;
            assert_eq!(runs(host)?, "1.1.0", "{number}");
        }
    }
    Ok(())
}

#[test]
fn a_way_back_whose_boot_entry_cannot_be_read_is_kept_and_not_gone_to() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    let way_back = boot_entry(host, "1.0.0");
    let whole = fs::read(&way_back)?;
    lose(&way_back)?;
    contains(&done(host, &["status"])?.stdout, &["1.0.0"])?;
    let ran = upright(host, &["rollback"])?;
    contains(line_of("upright", &ran, 4)?, &["this host stays with what runs", "`upright repair` mends it"])?;
    // It may be read again the next time.
    fs::remove_file(&way_back)?;
    fs::write(&way_back, &whole)?;
    done(host, &["rollback"])?;
    assert_eq!(runs(host)?, "1.0.0");
    done(host, &["rollback"])?;
    assert_eq!(runs(host)?, "1.1.0");
    done(host, &["health"])?;
    lose(&way_back)?;
    done(host, &["repair"])?;
    assert!(fs::read(&way_back)? == whole);
    done(host, &["rollback"])?;
    assert_eq!(runs(host)?, "1.0.0");
    // What runs, unhealthy as it is, beats what does not come up.
    done(host, &["update", "--reboot"])?;
    lose(&way_back)?;
    assert_eq!((upright(host, &["health"])?.status, runs(host)?.as_str()), (1, "1.2.0"));
    Ok(())
}

/// Cut off, or with other bytes in it. What was signed of a release that the host was installed with is not known there.
#[test]
fn nobody_goes_back_to_a_release_whose_boot_entry_is_damaged() -> Result<()> {
    for (version, damage) in [("1.0.0", halve as Damaged), ("1.1.0", halve), ("1.1.0", flip)] {
        let fixture = Fixture::new()?;
        let host = &host(&fixture)?;
        if version == "1.1.0" {
            done(host, &["rollback"])?;
        }
        let (way_back, runs_now) = (counted_entry(host, version)?, runs(host)?);
        damage(&way_back)?;
        for arguments in [&["rollback", "--dry-run"][..], &["rollback"]] {
            let ran = upright(host, arguments)?;
            contains(line_of("upright", &ran, 4)?, &["this host stays with what runs", "upright repair"])?;
        }
        assert_eq!(runs(host)?, runs_now);
    }
    Ok(())
}

#[test]
fn a_release_that_fails_stays_where_the_boot_entry_of_its_way_back_is_damaged() -> Result<()> {
    for damage in [halve as Damaged, flip] {
        let fixture = Fixture::new()?;
        let host = &host(&fixture)?;
        done(host, &["update", "--reboot"])?;
        damage(&boot_entry(host, "1.1.0"))?;
        assert_eq!((upright(host, &["health"])?.status, runs(host)?.as_str()), (1, "1.2.0"));
    }
    Ok(())
}

/// As doctor says: leave it, then mend it.
#[test]
fn a_release_whose_boot_entry_is_damaged_is_mended_from_the_other_slot_or_written_anew() -> Result<()> {
    for command in [&["repair"][..], &["update", "--retry"]] {
        let fixture = Fixture::new()?;
        let host = &fixture.host("host")?;
        fixture.build(&["publish", "1.1.0"])?;
        done(host, &["update", "--reboot"])?;
        done(host, &["health"])?;
        let own = boot_entry(host, "1.1.0");
        let whole = fs::read(&own)?;
        flip(&own)?;
        contains(&upright(host, &["doctor"])?.stdout, &["`upright rollback` leaves it"])?;
        done(host, &["rollback"])?;
        done(host, command)?;
        assert!(fs::read(counted_entry(host, "1.1.0")?)? == whole, "{command:?}");
        assert_eq!(runs(host)?, "1.0.0");
    }
    Ok(())
}

/// It is no way back, so nothing is lost with it.
#[test]
fn a_release_that_failed_keeps_no_host_from_an_update_that_its_damaged_boot_entry_needs() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    done(host, &["update", "--reboot"])?;
    assert_eq!((upright(host, &["health"])?.status, runs(host)?.as_str()), (1, "1.1.0"));
    flip(&boot_entry(host, "1.1.0"))?;
    let workspace = fixture.workspace();
    let tree = workspace.with_file_name("1.0.0");
    fixture.build(&["build", tree.to_str().context("a path that is UTF-8")?, "--version", "1.3.0"])?;
    fixture.build(&["publish", "1.3.0"])?;
    done(host, &["run", "--once"])?;
    assert_eq!(runs(host)?, "1.3.0");
    Ok(())
}

type Damaged = fn(&Path) -> Result<()>;

/// The end of a file is gone.
fn halve(file: &Path) -> Result<()> {
    let bytes = fs::read(file)?;
    Ok(fs::write(file, &bytes[..bytes.len() / 2])?)
}

/// A byte of a file is another one.
fn flip(file: &Path) -> Result<()> {
    let mut bytes = fs::read(file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    Ok(fs::write(file, bytes)?)
}

#[test]
fn a_bad_release_is_left_though_the_state_disk_is_full() -> Result<()> {
    for reserve in ["true", "rm -f var/lib/upright/reserve"] {
        let fixture = Fixture::new()?;
        let host = &host(&fixture)?;
        done(host, &["update", "--reboot"])?;
        assert_eq!(runs(host)?, "1.2.0");
        let fill = "head -c 100M /dev/zero >var/lib/upright/filler 2>/dev/null || true";
        let script = format!(
            "{REFUSED}
            cp -a var/lib/upright copy
            mount -t tmpfs -o size=12m none var/lib/upright
            cp -a copy/. var/lib/upright
            {fill}; {reserve}; {fill}
            refused health upright --root . health
            refused status upright --root . status
            rm var/lib/upright/filler*
            refused why upright --root . why
            refused again upright --root . update"
        );
        in_namespace(host, &script)?;
        contains(&refused(host, "status")?.stdout, &["* slot a  1.1.0"])
            .or_else(|_| contains(&refused(host, "status")?.stdout, &["* slot b  1.1.0"]))?;
        contains(&refused(host, "why")?.stdout, &["1.2.0"])?;
        // What was left is not taken again.
        assert_eq!(refused(host, "again")?.status, 3, "{:?}", refused(host, "again")?);
    }
    Ok(())
}

#[test]
fn a_release_can_be_left_though_the_state_disk_is_read_only() -> Result<()> {
    for (update, leave) in [(true, "health"), (true, "rollback"), (false, "rollback")] {
        let fixture = Fixture::new()?;
        let host = &host(&fixture)?;
        if update {
            done(host, &["update", "--reboot"])?;
        }
        let script = format!(
            "{REFUSED}
            mount --bind var/lib/upright var/lib/upright
            mount -o remount,ro,bind var/lib/upright
            refused update upright --root . update
            refused leave upright --root . {leave}"
        );
        in_namespace(host, &script)?;
        assert_ne!(refused(host, "update")?.status, 0, "{:?}", refused(host, "update")?);
        contains(&refused(host, "leave")?.stderr, &["ead-only file system", "going on without"])?;
        assert_eq!(runs(host)?, if update { "1.1.0" } else { "1.0.0" }, "{leave}");
    }
    Ok(())
}

#[test]
fn a_release_that_cannot_be_had_costs_no_way_back() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    let other = fs::read(boot_entry(host, "1.0.0"))?;
    let manifest = fixture.manifest("1.2.0")?;
    let uki = manifest["uki"]["compose"]["path"].as_str().context("the manifest names no UKI")?;
    for gone in [&["payloads/", "deltas/"][..], &[uki]] {
        gone.iter().for_each(|path| fixture.server.spoil(path, Fault::Status(404)));
        line_of("upright", &upright(host, &["update"])?, 5)?;
        assert!(fs::read(boot_entry(host, "1.0.0"))? == other);
        fixture.server.mend();
    }
    done(host, &["rollback"])?;
    assert_eq!(runs(host)?, "1.0.0");
    Ok(())
}

#[test]
fn an_update_that_waited_is_looked_at_again_before_it_gives_up_the_way_back() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host_with("host", "[limits]\npatience = \"1s\"\n", Sizes::default())?;
    fixture.build(&["publish", "1.1.0"])?;
    done(host, &["update", "--reboot"])?;
    done(host, &["health"])?;
    fixture.build(&["publish", "1.2.0"])?;
    for path in ["payloads/", "deltas/"] {
        fixture.server.spoil(path, Fault::Status(503));
    }
    line_of("upright", &upright(host, &["update"])?, 5)?;
    fixture.server.mend();
    let (own, other) = (boot_entry(host, "1.1.0"), fs::read(boot_entry(host, "1.0.0"))?);
    fs::remove_file(&own)?;
    contains(line_of("upright", &upright(host, &["update"])?, 4)?, &["the boot entry of 1.1.0"])?;
    assert!(fs::read(boot_entry(host, "1.0.0"))? == other);
    done(host, &["rollback"])?;
    assert_eq!(runs(host)?, "1.0.0");
    Ok(())
}

#[test]
fn an_update_mends_a_damaged_boot_entry_of_what_runs_before_the_other_goes() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    let (own, other) = (boot_entry(host, "1.1.0"), boot_entry(host, "1.0.0"));
    let entries = || -> Result<_> { Ok([fs::read(&own)?, fs::read(&other)?]) };
    let whole = entries()?;
    let mut damaged = whole.clone();
    damaged[0][700_000] ^= 1;
    fs::write(&own, &damaged[0])?;
    // What it is mended with cannot be had.
    for lacking in ["1.1.0.json", ".uki"] {
        fixture.server.spoil(lacking, Fault::Status(404));
        let ran = upright(host, &["update"])?;
        let says = [
            "the boot entry of 1.1.0, which runs from slot b, is damaged and cannot be mended: ",
            "or `upright rollback`, which goes",
        ];
        contains(line_of("upright", &ran, 5)?, &says)?;
        assert!(entries()? == damaged);
        fixture.server.mend();
    }
    let ran = upright(host, &["update"])?;
    contains(&ran.stderr, &["the boot entry of 1.1.0, which runs, is damaged: it is mended first"])?;
    assert_eq!((ran.status, fs::read(&own)? == whole[0]), (0, true), "{ran:?}");
    contains(&upright(host, &["history"])?.stdout, &["and its boot entry, were written anew"])?;
    assert_eq!(boot(host)?, "1.2.0");
    Ok(())
}

#[test]
fn a_damaged_boot_entry_is_mended_though_it_is_no_way_back_to_anything_else() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    fixture.build(&["publish", "1.1.0"])?;
    let own = boot_entry(host, "1.0.0");
    let whole = fs::read(&own)?;
    shorten(&own)?;
    done(host, &["update"])?;
    assert!(fs::read(&own)? == whole);
    // What cannot be mended is no reason to stay with it.
    let host = &fixture.host("other")?;
    shorten(&boot_entry(host, "1.0.0"))?;
    fixture.server.spoil("1.0.0.json", Fault::Status(404));
    let ran = done(host, &["update"])?;
    contains(&ran.stderr, &["the boot entry of 1.0.0, which runs, is damaged", "it cannot be mended: "])?;
    Ok(())
}

/// What was switched to boots, and what runs may not.
#[test]
fn a_release_that_was_switched_to_is_not_given_up_for_a_damaged_way_back() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    fixture.build(&["publish", "1.1.0"])?;
    done(host, &["update"])?;
    shorten(&boot_entry(host, "1.0.0"))?;
    fixture.build(&["publish", "1.2.0"])?;
    fixture.server.spoil("1.0.0.json", Fault::Status(404));
    let ran = upright(host, &["update"])?;
    contains(line_of("upright", &ran, 5)?, &["the boot entry of 1.0.0, which runs from slot a, is damaged"])?;
    assert_eq!(boot(host)?, "1.1.0");
    Ok(())
}

#[test]
fn a_boot_entry_and_a_block_that_it_is_made_of_are_both_mended_by_an_update() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    let own = boot_entry(host, "1.1.0");
    let whole = fs::read(&own)?;
    shorten(&own)?;
    // The kernel, in the slot that runs alone.
    let root = File::options().read(true).write(true).open(host.join("dev/root-b"))?;
    let kernel = &whole[1_000_000..1_000_064];
    let image = fs::read(host.join("dev/root-b"))?;
    let at = image.windows(kernel.len()).position(|window| window == kernel).context("no kernel")?;
    root.write_all_at(&[0; 64], at as u64)?;
    done(host, &["update"])?;
    assert!(fs::read(&own)? == whole);
    Ok(())
}

#[test]
fn a_medium_without_what_runs_does_not_mend_its_boot_entry_and_says_what_does() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    let medium = fixture.workspace().with_file_name("m.tar").display().to_string();
    fixture.build(&["export", "1.2.0", "--from-version", "1.1.0", "-o", &medium])?;
    shorten(&boot_entry(host, "1.1.0"))?;
    for arguments in [["update", "--from", &medium], ["repair", "--from", &medium]] {
        let ran = upright(host, &arguments)?;
        let says = format!(
            "{medium} has nothing of 1.1.0, which this host has: bring what `upright-build export 1.1.0` writes"
        );
        let line = line_of("upright", &ran, 5)?;
        contains(line, &[&says])?;
        ensure!(!line.contains("copy the export anew"), "{line}");
    }
    fixture.build(&["export", "1.1.0", "-o", &medium])?;
    done(host, &["repair", "--from", &medium])?;
    Ok(())
}

/// Takes the last byte of a file away, and says how that is told.
fn cut(file: &Path) -> Result<String> {
    let size = fs::metadata(file)?.len();
    File::options().write(true).open(file)?.set_len(size - 1)?;
    Ok(format!("has {} bytes where {size} are signed", size - 1))
}

#[test]
fn a_medium_that_was_copied_in_part_costs_no_way_back() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    let medium = fixture.workspace().with_file_name("stick");
    let from = medium.display().to_string();
    let copy = || {
        fs::create_dir(&medium)?;
        fixture.build(&["export", "--channel", "stable", "--from-version", "1.1.0", "--output", &from])
    };
    copy()?;
    let manifest = fixture.manifest("1.2.0")?;
    let edges = manifest["deltas"].as_array().context("no deltas")?;
    let edge = edges.iter().find(|edge| edge["from"] == "1.1.0").context("no delta from 1.1.0")?;
    let blobs =
        [&edge["delta"], &manifest["root"]["full"], &manifest["root"]["chunks"], &manifest["uki"]["compose"]];
    let [delta, full, chunks, uki] = blobs.map(|blob| blob["path"].as_str().unwrap_or_default());
    // Their beginnings are there, and all that comes later but for a byte.
    let update = ["update", "--from", &from];
    for gone in [&[delta, full][..], &[uki]] {
        let told = gone.iter().map(|path| cut(&medium.join(path))).collect::<Result<Vec<_>>>()?;
        let says = gone.iter().copied().chain(told.iter().map(String::as_str));
        let says: Vec<&str> = says.chain(["; it was copied in part: copy the export anew"]).collect();
        for arguments in [&update[..], &[&update[..], &["--dry-run"]].concat()] {
            let line = host_refuses(host, arguments, 4, &says, Until::Decision)?;
            ensure!(!line.contains("network"), "{line}");
        }
        fs::remove_dir_all(&medium)?;
        copy()?;
    }
    done(host, &["rollback", "--dry-run"])?;
    // What is whole is another way, and only that is taken.
    [delta, chunks].iter().try_for_each(|path| cut(&medium.join(path)).map(drop))?;
    let plan = done(host, &[&update[..], &["--dry-run"]].concat())?.stdout;
    contains(&plan, &["  by full: fetches", "  not by delta: ", "  not by chunks: ", "are signed"])?;
    let ran = done(host, &update)?;
    ensure!(!ran.stderr.contains("by delta:") && !ran.stderr.contains("by chunks:"), "{ran:?}");
    contains(&upright(host, &["history"])?.stdout, &["1.2.0  applied by full"])
}
