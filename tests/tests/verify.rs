//! `upright verify` finds what a disk did to a slot, and says where.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use upright_tests::fixture::{Fixture, noise};
use upright_tests::programs::upright;

/// Flips one bit of `file` at the place where `content` begins there.
fn flip(file: &Path, content: &[u8]) -> Result<u64> {
    let bytes = std::fs::read(file)?;
    let at = bytes.windows(content.len()).position(|window| window == content).context("it is not there")?;
    File::options().write(true).open(file)?.write_all_at(&[bytes[at] ^ 1], at as u64)?;
    Ok(at as u64)
}

#[test]
fn a_flipped_bit_is_found_with_its_block_and_its_file() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    fixture.build(&["publish", "1.1.0"])?;
    assert_eq!(upright(host, &["update", "--reboot"])?.status, 0);
    assert_eq!(upright(host, &["health"])?.status, 0);
    let whole = upright(host, &["verify"])?;
    assert_eq!((whole.status, whole.stdout.matches("as it was signed").count()), (0, 2), "{whole:?}");

    // In the slot that is not running: there is no way back.
    let at = flip(&host.join("dev/root-a"), &noise(142, 200))?;
    let damaged = upright(host, &["verify"])?;
    assert_eq!(damaged.status, 4, "{damaged:?}");
    let line = damaged.stdout.lines().next().unwrap_or_default();
    for part in ["slot a  1.0.0", "DAMAGED: 1 of ", &format!("({})", at / 4096), "in /usr/share/acme/042"] {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
    assert!(damaged.stdout.contains("* slot b  1.1.0         as it was signed"), "{damaged:?}");
    assert!(damaged.stderr.contains("it is no way back"), "{damaged:?}");
    assert_eq!(upright(host, &["verify", "b"])?.status, 0);
    let json = upright(host, &["verify", "--json"])?;
    assert_eq!((json.status, &json.json()?[0]["blocks"][0]), (4, &(at / 4096).into()), "{json:?}");
    // Nobody is sent there, and who asks first is told.
    for arguments in [&["rollback", "--dry-run"][..], &["rollback", "--dry-run", "--json"]] {
        let dry = upright(host, arguments)?;
        assert_eq!((dry.status, dry.stdout.contains("would go")), (4, false), "{dry:?}");
    }
    let back = upright(host, &["rollback"])?;
    assert_eq!(back.status, 4, "{back:?}");
    assert!(
        back.stderr.contains("slot a does not hold 1.0.0 as it was signed, so this host stays"),
        "{back:?}"
    );
    assert_eq!(upright(host, &["status", "--json"])?.json()?["booted"], "b");

    // In the one that runs.
    flip(&host.join("dev/root-b"), &noise(7, 200))?;
    let damaged = upright(host, &["verify", "b"])?;
    assert_eq!(damaged.status, 4, "{damaged:?}");
    assert!(damaged.stdout.contains("in /usr/share/acme/added"), "{damaged:?}");
    assert!(damaged.stderr.contains("`upright rollback` leaves it"), "{damaged:?}");
    assert!(damaged.stderr.contains("the kernel refuses to read what is damaged"), "{damaged:?}");
    Ok(())
}

#[test]
fn a_slot_that_cannot_be_opened_does_not_hide_the_other() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    fixture.build(&["publish", "1.1.0"])?;
    assert_eq!(upright(host, &["update", "--reboot"])?.status, 0);
    assert_eq!(upright(host, &["health"])?.status, 0);
    std::fs::remove_file(host.join("dev/root-a"))?;
    let ran = upright(host, &["verify"])?;
    assert_eq!(ran.status, 6, "{ran:?}");
    assert!(ran.stdout.contains("  slot a  -             CANNOT BE READ: cannot open the part"), "{ran:?}");
    assert!(ran.stdout.contains("* slot b  1.1.0         as it was signed"), "{ran:?}");
    assert!(ran.stderr.contains("upright: slot a cannot be verified: "), "{ran:?}");
    assert!(ran.stderr.contains("`upright doctor` says what this host lacks"), "{ran:?}");
    let json = upright(host, &["verify", "--json"])?;
    let slots = json.json()?;
    assert_eq!((json.status, &slots[0]["slot"], &slots[1]["slot"]), (6, &"a".into(), &"b".into()));
    assert!(slots[0]["error"].is_string() && slots[1]["entry"] == "whole", "{slots}");
    Ok(())
}

#[test]
fn a_damaged_hash_tree_and_an_empty_slot_are_told_apart() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    let empty = upright(host, &["verify", "b"])?;
    assert_eq!(empty.status, 3, "{empty:?}");
    assert!(empty.stderr.contains("slot b holds no release"), "{empty:?}");
    let tree = File::options().read(true).write(true).open(host.join("dev/root-a-verity"))?;
    for (place, says) in
        [(4096 + 40, "block 1 of the hash tree"), (3 * 4096, "the lowest level of the hash tree")]
    {
        let mut byte = [0];
        tree.read_exact_at(&mut byte, place)?;
        tree.write_all_at(&[byte[0] ^ 1], place)?;
        let damaged = upright(host, &["verify"])?;
        assert_eq!(damaged.status, 4, "{damaged:?}");
        assert!(damaged.stdout.contains(says), "{damaged:?}");
        tree.write_all_at(&byte, place)?;
    }
    assert_eq!(upright(host, &["verify"])?.status, 0);
    Ok(())
}

#[test]
fn an_unhealthy_release_stays_when_the_way_back_is_damaged() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    fixture.build(&["publish", "1.2.0"])?;
    assert_eq!(upright(host, &["update", "--reboot"])?.status, 0);
    flip(&host.join("dev/root-a"), &noise(142, 200))?;
    assert_eq!(upright(host, &["health"])?.status, 1);
    let status = upright(host, &["status"])?;
    assert!(status.stdout.contains("* slot b  1.2.0"), "{status:?}");
    assert!(status.stdout.contains("slot a does not hold 1.0.0 as it was signed"), "{status:?}");
    let why = upright(host, &["why"])?;
    assert!(why.stdout.contains("no other slot holds a release to go back to"), "{why:?}");

    // The next update writes the damaged slot anew.
    fixture.build(&["publish", "1.1.0", "--allow-downgrade"])?;
    assert_eq!(upright(host, &["update", "--allow-downgrade", "--reboot"])?.status, 0);
    assert_eq!(upright(host, &["health"])?.status, 0);
    assert_eq!(upright(host, &["verify", "a"])?.status, 0);
    Ok(())
}
