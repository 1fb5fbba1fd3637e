//! `upright repair` writes what a disk did to a slot anew, fetches only that, and writes nothing that was not signed.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use upright_manifests::payload::Head;
use upright_tests::fixture::{Fixture, noise};
use upright_tests::namespace::{REFUSED, in_namespace, refused};
use upright_tests::programs::{Ran, upright};
use upright_tests::refusal::{contains, files, line_of};
use upright_tests::server::Fault;
use upright_tests::simulated::boot;

/// What only 1.1.0 has, and what both releases have.
const ADDED: u64 = 7;
const COMMON: u64 = 142;

/// A host that runs 1.1.0 in slot b and has 1.0.0 in slot a.
fn host(fixture: &Fixture) -> Result<PathBuf> {
    let host = fixture.host("host")?;
    fixture.build(&["publish", "1.1.0"])?;
    assert_eq!(upright(&host, &["update", "--reboot"])?.status, 0);
    assert_eq!(upright(&host, &["health"])?.status, 0);
    fixture.server.reset_counts();
    Ok(host)
}

/// Flips bits of the byte at `at` of a partition.
fn flip(host: &Path, partition: &str, at: u64) -> Result<()> {
    let file = File::options().read(true).write(true).open(host.join("dev").join(partition))?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    Ok(file.write_all_at(&[byte[0] ^ 0x55], at)?)
}

/// Where the content that is drawn from `seed` begins on a partition.
fn place(host: &Path, partition: &str, seed: u64) -> Result<u64> {
    let (bytes, content) = (fs::read(host.join("dev").join(partition))?, noise(seed, 200));
    let at = bytes.windows(content.len()).position(|window| window == content);
    Ok(at.context("it is not there")? as u64)
}

fn devices(host: &Path) -> Result<impl PartialEq + std::fmt::Debug + use<>> {
    files(&host.join("dev"), &[])
}

fn mended(host: &Path, more: &[&str]) -> Result<Ran> {
    assert_eq!(upright(host, &["verify"])?.status, 4, "nothing is damaged");
    let ran = upright(host, &[&["repair"], more].concat())?;
    ensure!(ran.status == 0, "{ran:?}");
    let whole = upright(host, &["verify"])?;
    ensure!(whole.status == 0, "{whole:?} after {ran:?}");
    Ok(ran)
}

#[test]
fn a_damaged_block_of_the_slot_that_runs_costs_its_frame_and_no_more() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    let before = devices(host)?;
    let at = place(host, "root-b", ADDED)?;
    flip(host, "root-b", at)?;
    let manifest = fixture.manifest("1.1.0")?;
    let path = manifest["root"]["full"]["path"].as_str().context("no path")?;
    let head_size = manifest["root"]["full"]["head_size"].as_u64().context("no head")?;
    let payload = fs::read(fixture.workspace().join("repository").join(path))?;
    let head = Head::parse(payload.get(..head_size as usize).context("too short")?)?;
    let frame = head.frames.get(head.frame_of(at / 4096).context("no frame")?).context("no frame")?;
    assert!(head.frames.len() > 1, "a payload of one frame proves nothing");

    let plan = upright(host, &["repair", "--dry-run", "--json"])?.json()?;
    assert_eq!((&plan[0]["outcome"], &plan[1]["outcome"]), (&"whole".into(), &"planned".into()), "{plan}");
    assert_eq!(
        (&plan[1]["repair"]["blocks"], &plan[1]["repair"]["fetched"]),
        (&1.into(), &frame.packed.into()),
        "{plan}"
    );
    fixture.server.reset_counts();
    let ran = mended(host, &[])?;
    contains(&ran.stdout, &["slot a holds 1.0.0 as it was signed", "1.1.0: slot b was damaged: 1 block"])?;
    assert_eq!(fixture.server.sent("payloads/"), head_size + u64::from(frame.packed));
    assert_eq!(fixture.server.sent("deltas/"), 0);
    assert_eq!(devices(host)?, before);
    for command in ["history", "why"] {
        contains(&upright(host, &[command])?.stdout, &["1.1.0", "slot b was damaged", "fetched"])?;
    }
    let again = upright(host, &["repair"])?;
    assert_eq!((again.status, again.stdout.matches("as it was signed").count()), (0, 2), "{again:?}");
    Ok(())
}

#[test]
fn what_is_on_the_host_is_not_fetched() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    let before = devices(host)?;
    fixture.server.spoil("", Fault::HangUp);
    for slot in ["a", "b"] {
        let partition = format!("root-{slot}");
        flip(host, &partition, place(host, &partition, COMMON)?)?;
        let ran = mended(host, &["--slot", slot])?;
        contains(&ran.stdout, &["1 block of its image (1 of them found on this host)", "0 B fetched"])?;
        assert_eq!(devices(host)?, before);
    }
    assert!(fixture.server.requests().is_empty());
    // Damaged in both slots, it is fetched once, for what runs.
    fixture.server.mend();
    for partition in ["root-a", "root-b"] {
        flip(host, partition, place(host, partition, COMMON)?)?;
    }
    let ran = mended(host, &["--json"])?.json()?;
    assert_eq!((&ran[1]["repair"]["here"], &ran[0]["repair"]["here"]), (&0.into(), &1.into()), "{ran}");
    assert_eq!(devices(host)?, before);
    Ok(())
}

#[test]
fn a_damaged_hash_tree_is_computed_and_nothing_is_fetched() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    let before = devices(host)?;
    fixture.server.spoil("", Fault::HangUp);
    for verity in ["root-a-verity", "root-b-verity"] {
        // Superblock: signature, UUID, number of blocks, salt; the top; leaves.
        for at in [0, 20, 74, 90, 4096 + 40, 3 * 4096, 3 * 4096 + 77] {
            flip(host, verity, at)?;
            let ran = mended(host, &[])?;
            contains(&ran.stdout, &["0 blocks of its image", "1 of its hash tree"])?;
            assert_eq!(devices(host)?, before, "{verity} at {at}");
        }
        let file = File::options().write(true).open(host.join("dev").join(verity))?;
        file.write_all_at(&[0x55; 12 * 4096], 0)?;
        mended(host, &[])?;
        assert_eq!(devices(host)?, before, "{verity}");
    }
    assert!(fixture.server.requests().is_empty());
    Ok(())
}

#[test]
fn image_and_hash_tree_that_are_both_damaged_are_both_mended() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    let before = devices(host)?;
    let at = place(host, "root-b", ADDED)?;
    let block = at / 4096;
    let leaf = |block: u64| {
        let blocks = fixture.manifest("1.1.0")?["root"]["verity"]["data_blocks"].as_u64().context("none")?;
        let geometry = upright_manifests::verity::Geometry::new(blocks)?;
        geometry.leaf_offset(block).context("no leaf")
    };
    let cases: [&[(&str, u64)]; 6] = [
        // The image's superblock; with the tree's beside it, nothing on the host tells how large they are.
        &[("root-b", 1030)],
        &[("root-b", 1030), ("root-b-verity", 8)],
        // The same leaf; another one of the same block of leaves; the top; all of them.
        &[("root-b", at), ("root-b-verity", leaf(block)?)],
        &[("root-b", at), ("root-b-verity", leaf(block + 1)?)],
        &[("root-b", at), ("root-b-verity", 4096)],
        &[("root-b", at), ("root-b-verity", leaf(block)?), ("root-b-verity", 4096), ("root-b-verity", 90)],
    ];
    for case in cases {
        for (partition, at) in case {
            flip(host, partition, *at)?;
        }
        mended(host, &[]).with_context(|| format!("{case:?}"))?;
        assert_eq!(devices(host)?, before, "{case:?}");
    }
    Ok(())
}

#[test]
fn nothing_that_was_not_signed_is_written() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    flip(host, "root-b", place(host, "root-b", ADDED)?)?;
    let damaged = devices(host)?;
    let manifest = fixture.manifest("1.1.0")?;
    let path = manifest["root"]["full"]["path"].as_str().context("no path")?;
    let head = manifest["root"]["full"]["head_size"].as_u64().context("no head")? as usize;
    let mut wrong = fs::read(fixture.workspace().join("repository").join(path))?;
    wrong[head..].iter_mut().for_each(|byte| *byte = !*byte);
    let cases = [
        (".zst", Fault::Instead(wrong), 4, "is damaged: sha256"),
        (".zst", Fault::Flip(100), 4, "is signed"),
        (".zst", Fault::Status(404), 5, "does not exist on the server"),
        ("1.1.0.json", Fault::Flip(100), 4, "is signed"),
        ("1.1.0.json", Fault::Status(500), 5, "status 500"),
    ];
    for (path, fault, status, says) in cases {
        fixture.server.spoil(path, fault);
        let ran = upright(host, &["repair"])?;
        contains(line_of("upright", &ran, status)?, &[says])?;
        fixture.server.mend();
        assert_eq!(devices(host)?, damaged, "{says}");
    }
    let dry = upright(host, &["repair", "--dry-run"])?;
    assert_eq!((dry.status, devices(host)?), (0, damaged), "{dry:?}");
    contains(&dry.stdout, &["would write 1 block of 1.1.0 in slot b"])?;
    mended(host, &[])?;
    Ok(())
}

#[test]
fn a_slot_is_mended_from_a_medium_where_no_network_is() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    let before = devices(host)?;
    fixture.server.spoil("", Fault::HangUp);
    let file = fixture.workspace().with_file_name("stick.tar").display().to_string();
    fixture.build(&["export", "1.1.0", "--no-deltas", "-o", &file])?;
    flip(host, "root-b", place(host, "root-b", ADDED)?)?;
    let ran = mended(host, &["--from", &file])?;
    contains(&ran.stdout, &[&format!("fetched from {file}")])?;
    assert_eq!(devices(host)?, before);
    Ok(())
}

/// The boot entry of a release, and where the text is in it that names its root.
fn boot_entry(host: &Path, version: &str) -> Result<PathBuf> {
    Ok(host.join(format!("esp/EFI/Linux/acme_{version}.efi")))
}

fn flip_in(file: &Path, at: usize) -> Result<()> {
    let mut bytes = fs::read(file)?;
    *bytes.get_mut(at).context("too short")? ^= 0x55;
    Ok(fs::write(file, bytes)?)
}

#[test]
fn a_damaged_boot_entry_of_the_way_back_is_composed_again_and_what_runs_stays_next() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let make = |tree: &Path, version: &str| upright_tests::fixture::make_tree(tree, version, 8080);
    let fixture = Fixture::of(folder.path(), &["1.0.0", "1.1.0", "1.3.0"], make)?;
    let host = &host(&fixture)?;
    // What the host was first installed with: its entry no longer names it.
    let (first, whole) = (boot_entry(host, "1.0.0")?, fs::read(boot_entry(host, "1.0.0")?)?);
    let text = whole.windows(9).position(|window| window == b"roothash=").context("no command line")?;
    flip_in(&first, text + 2)?;
    let ran = upright(host, &["verify"])?;
    assert_eq!(ran.status, 4, "{ran:?}");
    contains(&ran.stdout, &["slot a  1.0.0         DAMAGED: the boot entry"])?;
    let plan = upright(host, &["repair", "--dry-run"])?;
    contains(&plan.stdout, &["would write 0 blocks of 1.0.0 in slot a", ", and its boot entry; fetches"])?;
    // It goes only when the new one is known to be had.
    let damaged = fs::read(&first)?;
    fixture.server.spoil(".uki", Fault::Flip(300));
    assert_eq!(upright(host, &["repair"])?.status, 4);
    assert!(fs::read(&first)? == damaged);
    fixture.server.mend();
    let ran = mended(host, &[])?;
    contains(&ran.stdout, &["0 blocks of its image", ", and its boot entry, were written anew"])?;
    assert!(fs::read(&first)? == whole, "another entry than before");
    assert_eq!(upright(host, &["status", "--json"])?.json()?["slots"][0]["verdict"], "proven");

    // What the agent installed: any byte of it is compared.
    fixture.build(&["publish", "1.3.0"])?;
    assert_eq!(upright(host, &["update", "--reboot"])?.status, 0);
    assert_eq!(upright(host, &["health"])?.status, 0);
    let (second, whole) = (boot_entry(host, "1.1.0")?, fs::read(boot_entry(host, "1.1.0")?)?);
    flip_in(&second, whole.len() / 2)?;
    flip(host, "root-b", place(host, "root-b", COMMON)?)?;
    mended(host, &[])?;
    assert!(fs::read(&second)? == whole, "another entry than before");
    let back = upright(host, &["rollback"])?;
    assert_eq!(back.status, 0, "{back:?}");
    assert_eq!(upright(host, &["status", "--json"])?.json()?["booted"], "b");
    Ok(())
}

#[test]
fn a_damaged_boot_entry_of_what_runs_is_mended_where_it_is() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    let entry = boot_entry(host, "1.1.0")?;
    let (whole, inode) = (fs::read(&entry)?, fs::metadata(&entry)?.ino());
    flip_in(&entry, 700_000)?;
    let ran = upright(host, &["verify"])?;
    contains(&ran.stdout, &["* slot b  1.1.0         DAMAGED: the boot entry"])?;
    // The kernel reads all of the slot.
    contains(
        &ran.stderr,
        &["the next boot may not come up with that boot entry; `upright repair` mends it"],
    )?;
    assert!(!ran.stderr.contains("kernel"), "{ran:?}");
    mended(host, &[])?;
    // Another file would be another name, and on FAT a moment without either.
    assert!(fs::read(&entry)? == whole && fs::metadata(&entry)?.ino() == inode);
    assert_eq!(boot(host)?, "1.1.0");
    Ok(())
}

#[test]
fn a_way_back_without_a_boot_entry_is_no_way_back_until_it_is_mended() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    let (entry, whole) = (boot_entry(host, "1.0.0")?, fs::read(boot_entry(host, "1.0.0")?)?);
    fs::remove_file(&entry)?;
    let ran = upright(host, &["verify"])?;
    assert_eq!(ran.status, 4, "{ran:?}");
    contains(&ran.stdout, &["slot a  1.0.0         DAMAGED: the boot entry"])?;
    let ran = upright(host, &["rollback"])?;
    let says = ["slot a holds 1.0.0, which cannot be booted as it is; `upright repair` brings it back"];
    contains(line_of("upright", &ran, 3)?, &says)?;
    let says = ["  slot a  1.0.0         lost\n", "`upright repair` brings it back"];
    contains(&upright(host, &["status"])?.stdout, &says)?;
    // Cut off or refused at first, it is mended later.
    fixture.server.spoil("", Fault::HangUp);
    assert_ne!(upright(host, &["repair"])?.status, 0);
    fixture.server.mend();
    mended(host, &[])?;
    assert!(fs::read(&entry)? == whole, "another entry than before");
    let status = upright(host, &["status"])?;
    assert!(!status.stdout.contains("last failure"), "what was mended is still told: {status:?}");
    let back = upright(host, &["rollback"])?;
    assert_eq!(back.status, 0, "{back:?}");
    Ok(())
}

#[test]
fn what_was_mended_is_told_though_the_other_slot_could_not_be() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    flip(host, "root-b", place(host, "root-b", ADDED)?)?;
    fs::rename(host.join("dev/root-a"), host.join("dev/elsewhere"))?;
    let ran = upright(host, &["repair", "--json"])?;
    let told = ran.json()?;
    assert_eq!((ran.status, &told["exit"]), (6, &6.into()), "{ran:?}");
    assert_eq!(
        (&told["slots"][0]["outcome"], &told["slots"][0]["repair"]["blocks"]),
        (&"mended".into(), &1.into())
    );
    contains(told["error"].as_str().unwrap_or_default(), &["dev/root-a"])?;
    // Once there is nothing to tell, there is no empty line for it.
    let ran = upright(host, &["repair", "--slot", "a"])?;
    assert_eq!((ran.status, ran.stdout.as_str()), (6, ""), "{ran:?}");
    fs::rename(host.join("dev/elsewhere"), host.join("dev/root-a"))?;
    contains(&upright(host, &["history"])?.stdout, &["slot b was damaged: 1 block of its image (0 of them"])?;
    Ok(())
}

#[test]
fn where_both_boot_entries_are_damaged_that_of_what_runs_is_mended_first() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    let entries = [boot_entry(host, "1.0.0")?, boot_entry(host, "1.1.0")?];
    let whole = entries.each_ref().map(fs::read);
    for entry in &entries {
        let text = fs::read(entry)?.windows(9).position(|window| window == b"roothash=");
        flip_in(entry, text.context("no command line")? + 2)?;
    }
    let damaged = entries.each_ref().map(fs::read);
    let are = |expected: &[std::io::Result<Vec<u8>>; 2]| {
        let is = |(entry, expected): (_, &std::io::Result<Vec<u8>>)| {
            expected.as_ref().is_ok_and(|bytes| fs::read(entry).is_ok_and(|found| found == *bytes))
        };
        entries.iter().zip(expected).all(is)
    };
    // Neither goes for want of what it is mended with, and that of the way back not before the other is mended.
    fixture.server.spoil("", Fault::HangUp);
    assert_ne!(upright(host, &["repair"])?.status, 0);
    fixture.server.mend();
    let ran = upright(host, &["repair", "--slot", "a"])?;
    contains(line_of("upright", &ran, 4)?, &["the boot entry of 1.0.0 in slot a is damaged"])?;
    assert!(are(&damaged), "an entry was touched");
    mended(host, &[])?;
    assert!(are(&whole), "an entry is another than before");
    Ok(())
}

#[test]
fn nothing_is_mended_while_a_release_has_to_prove_itself() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    fixture.build(&["publish", "1.1.0"])?;
    assert_eq!(upright(host, &["update", "--reboot"])?.status, 0);
    contains(line_of("upright", &upright(host, &["repair"])?, 3)?, &["1.1.0 runs on trial"])?;
    assert_eq!(upright(host, &["health"])?.status, 0);
    assert_eq!(upright(host, &["repair"])?.status, 0);
    Ok(())
}

#[test]
fn a_release_that_is_not_offered_any_more_is_mended_by_what_it_was_installed_from() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let make = |tree: &Path, version: &str| upright_tests::fixture::make_tree(tree, version, 8080);
    let fixture = Fixture::of(folder.path(), &["1.0.0", "1.1.0", "1.3.0"], make)?;
    let host = &host(&fixture)?;
    let file = fixture.workspace().with_file_name("stick.tar").display().to_string();
    fixture.build(&["export", "1.1.0", "--no-deltas", "-o", &file])?;
    // The export is older than what the host has seen since.
    fixture.build(&["publish", "1.3.0"])?;
    assert_eq!(upright(host, &["check"])?.status, 0);
    fixture.server.spoil("", Fault::HangUp);
    let before = devices(host)?;
    flip(host, "root-b", place(host, "root-b", ADDED)?)?;
    mended(host, &["--from", &file])?;
    assert_eq!(devices(host)?, before);
    Ok(())
}

#[test]
fn what_cannot_be_mended_says_what_to_do() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // What the host runs was never published.
    let make = |tree: &Path, version: &str| upright_tests::fixture::make_tree(tree, version, 8080);
    let fixture = Fixture::of(folder.path(), &["1.1.0", "1.0.0"], make)?;
    let host = &fixture.host("host")?;
    let empty = upright(host, &["repair", "--slot", "b"])?;
    contains(line_of("upright", &empty, 3)?, &["slot b holds no release"])?;
    flip(host, "root-a", place(host, "root-a", COMMON)?)?;
    let ran = upright(host, &["repair"])?;
    contains(
        line_of("upright", &ran, 5)?,
        &["does not offer 1.0.0 any more", "`upright repair --from PATH`"],
    )?;
    // Another image altogether.
    let size = fs::metadata(host.join("dev/root-a"))?.len();
    File::options()
        .write(true)
        .open(host.join("dev/root-a"))?
        .write_all_at(&noise(9, size as usize / 2), 0)?;
    let ran = upright(host, &["repair"])?;
    assert!([4, 5].contains(&ran.status), "{ran:?}");
    Ok(())
}

/// The kernel that a boot entry is made of, in every release.
const KERNEL: u64 = 2;

#[test]
fn a_block_that_cannot_be_had_keeps_no_boot_entry_from_being_brought_back() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    let (entry, whole) = (boot_entry(host, "1.1.0")?, fs::read(boot_entry(host, "1.1.0")?)?);
    let (before, at) = (devices(host)?, place(host, "root-b", ADDED)?);
    fs::remove_file(&entry)?;
    flip(host, "root-b", at)?;
    let damaged = devices(host)?;
    fixture.server.spoil(".zst", Fault::Status(404));
    let ran = upright(host, &["repair", "--json"])?;
    let told = ran.json()?;
    assert_eq!(ran.status, 5, "{ran:?}");
    contains(told["error"].as_str().unwrap_or_default(), &["slot b cannot be mended", "does not exist"])?;
    let of_b = &told["slots"][1];
    assert_eq!((&of_b["outcome"], &of_b["repair"]["entry"]), (&"mended".into(), &true.into()), "{told}");
    assert!(fs::read(&entry)? == whole, "another entry than before");
    assert_eq!(devices(host)?, damaged);
    contains(&upright(host, &["history"])?.stdout, &["0 blocks of its image", ", and its boot entry,"])?;
    fixture.server.mend();
    mended(host, &[])?;
    assert_eq!(devices(host)?, before);

    // That of the way back, of which a block is damaged as well.
    let (entry, whole) = (boot_entry(host, "1.0.0")?, fs::read(boot_entry(host, "1.0.0")?)?);
    fs::remove_file(&entry)?;
    flip(host, "root-a", place(host, "root-a", 100)?)?;
    fixture.server.spoil(".zst", Fault::Status(404));
    let ran = upright(host, &["repair"])?;
    assert_eq!(ran.status, 5, "{ran:?}");
    assert!(fs::read(&entry)? == whole, "another entry than before");
    fixture.server.mend();
    mended(host, &[])?;
    assert_eq!(devices(host)?, before);
    Ok(())
}

#[test]
fn a_boot_entry_waits_for_the_blocks_that_it_is_made_of() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    let (entry, whole) = (boot_entry(host, "1.1.0")?, fs::read(boot_entry(host, "1.1.0")?)?);
    let before = devices(host)?;
    fs::remove_file(&entry)?;
    for partition in ["root-a", "root-b"] {
        flip(host, partition, place(host, partition, KERNEL)? + 500_000)?;
    }
    fixture.server.spoil(".zst", Fault::Status(404));
    let ran = upright(host, &["repair"])?;
    assert_eq!(ran.status, 5, "{ran:?}");
    contains(&ran.stderr, &["a block that it is made of is damaged", "does not exist on the server"])?;
    assert!(!entry.exists(), "of damaged blocks");
    fixture.server.mend();
    let ran = mended(host, &["--slot", "b"]);
    assert!(ran.is_err(), "slot a is damaged still: {ran:?}");
    assert!(fs::read(&entry)? == whole, "another entry than before");
    mended(host, &[])?;
    assert_eq!(devices(host)?, before);
    Ok(())
}

#[test]
fn what_is_on_the_host_is_mended_though_the_rest_cannot_be_had() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    let before = devices(host)?;
    let (here, elsewhere) = (place(host, "root-b", COMMON)?, place(host, "root-b", ADDED)?);
    flip(host, "root-b", elsewhere)?;
    let but_for_one = devices(host)?;
    // Nothing comes, the manifest does and the payload does not.
    for (path, fault) in [("", Fault::HangUp), (".zst", Fault::Status(404))] {
        flip(host, "root-b", here)?;
        fixture.server.spoil(path, fault);
        let ran = upright(host, &["repair", "--json"])?;
        let told = ran.json()?;
        assert_eq!((ran.status, &told["slots"][1]["outcome"]), (5, &"mended".into()), "{path}: {told}");
        let repair = &told["slots"][1]["repair"];
        assert_eq!((&repair["blocks"], &repair["here"]), (&1.into(), &1.into()), "{path}: {told}");
        assert_eq!(devices(host)?, but_for_one, "{path}");
        fixture.server.mend();
    }
    mended(host, &[])?;
    assert_eq!(devices(host)?, before);
    Ok(())
}

#[test]
fn a_damaged_boot_entry_stays_where_the_esp_has_no_room_for_another() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &host(&fixture)?;
    let first = boot_entry(host, "1.0.0")?;
    let text = fs::read(&first)?.windows(9).position(|window| window == b"roothash=");
    flip_in(&first, text.context("no command line")? + 2)?;
    let script = format!(
        "{REFUSED}
        mkdir small && mount -t tmpfs -o size=8m none small
        cp -r esp/. small && mount --bind small esp
        truncate -s 300000 esp/EFI/Linux/acme_1.0.0.efi
        cat /dev/zero >esp/fill 2>/dev/null || true; truncate -s -200k esp/fill
        sha256sum esp/EFI/Linux/* >before
        refused full upright --root . repair --slot a
        sha256sum esp/EFI/Linux/* >after
        printf x | dd of=esp/EFI/Linux/acme_1.1.0.efi bs=1 seek=3000 conv=notrunc
        refused runs upright --root . repair --slot b
        rm esp/fill && truncate -s 300000 esp/EFI/Linux/acme_1.1.0.efi
        cat /dev/zero >esp/fill 2>/dev/null || true; truncate -s -2700k esp/fill
        refused grows upright --root . repair --slot b
        stat -c %s esp/EFI/Linux/acme_1.1.0.efi >grown
        rm esp/EFI/Linux/acme_1.1.0.efi
        cat /dev/zero >esp/more 2>/dev/null || true; truncate -s -200k esp/more
        refused gone upright --root . repair --slot b
        rm esp/fill esp/more
        refused roomy upright --root . repair"
    );
    in_namespace(host, &script)?;
    for name in ["full", "runs", "grows", "gone"] {
        let ran = refused(host, name)?;
        let says = ["in the ESP, which has", "bytes too few; it was left as it is: remove from the ESP"];
        contains(line_of("upright", &ran, 3)?, &says)?;
    }
    assert_eq!(fs::read_to_string(host.join("before"))?, fs::read_to_string(host.join("after"))?);
    assert_eq!(fs::read_to_string(host.join("grown"))?, "300000\n", "what is there was made longer first");
    let roomy = refused(host, "roomy")?;
    assert_eq!((roomy.status, roomy.stdout.matches("and its boot entry,").count()), (0, 2), "{roomy:?}");
    Ok(())
}
