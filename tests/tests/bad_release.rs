//! Releases that a host must not take, and hosts that have no room: refused before anything is lost.

use std::fs;

use anyhow::{Context, Result, ensure};
use upright_tests::fixture::{Fixture, configuration};
use upright_tests::namespace::{REFUSED, in_namespace, refused};
use upright_tests::programs::{build, run, upright};
use upright_tests::refusal::{Until, host_refuses, line_of};
use upright_tests::server::{Fault, Server};
use upright_tests::simulated::{Sizes, install};

#[test]
fn a_release_that_does_not_fit_the_slot_is_refused_before_anything_is_erased() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let cases = [
        ("root", Sizes { root: 4 << 20, ..Sizes::default() }, "in partition root-b, which has 4194304"),
        (
            "verity",
            Sizes { verity: 8 << 10, ..Sizes::default() },
            "in partition root-b-verity, which has 8192",
        ),
    ];
    for (name, sizes, place) in cases {
        let host = &fixture.host_with(name, "", sizes)?;
        let says = ["1.1.0 needs", place, "bytes too few; nothing was changed", "a smaller release"];
        for _ in 0..2 {
            host_refuses(host, &["update"], 3, &says, Until::Decision)?;
        }
        host_refuses(host, &["update", "--dry-run"], 3, &says, Until::Decision)?;
        let history = upright(host, &["history"])?.stdout;
        ensure!(history.lines().count() == 1 && history.contains("(and 1 time more, last at "), "{history}");
        let why = upright(host, &["why"])?;
        ensure!(why.stdout.contains(place), "{why:?}");
    }
    Ok(())
}

#[test]
fn a_release_that_does_not_fit_the_esp_is_refused_before_anything_is_erased() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let host = &fixture.host("host")?;
    let script = format!(
        "{REFUSED}
        mount -t tmpfs -o size=4m none var && mkdir -p var/esp
        cp -r esp/. var/esp && mount --bind var/esp esp
        sha256sum dev/* esp/EFI/Linux/* >before
        refused update upright --root . update
        refused dry upright --root . update --dry-run
        sha256sum dev/* esp/EFI/Linux/* >after"
    );
    in_namespace(host, &script)?;
    for name in ["update", "dry"] {
        let ran = refused(host, name)?;
        let line = line_of("upright", &ran, 3)?;
        ensure!(line.contains("in the ESP, which has") && line.contains("nothing was changed"), "{line}");
    }
    assert_eq!(fs::read_to_string(host.join("before"))?, fs::read_to_string(host.join("after"))?);
    Ok(())
}

#[test]
fn a_full_state_disk_stops_an_update_and_nothing_else() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let host = &fixture.host("host")?;
    // So much is left when the update begins: nothing, enough for some of the metadata, or until the slot is written.
    let rounds = [0, 4, 12, 20, 28];
    let round = |left: u32| {
        format!(
            "head -c {left}k /dev/zero >var/lib/upright/left; cat /dev/zero >var/lib/upright/filler 2>/dev/null || true
            rm var/lib/upright/left
            refused {left} upright --root . update
            sha256sum dev/root-a* esp/EFI/Linux/* >{left}.after
            rm var/lib/upright/filler
            refused {left}-status upright --root . status --json
            "
        )
    };
    let script = format!(
        "{REFUSED}
        upright --root . status >/dev/null
        sha256sum dev/root-a* esp/EFI/Linux/* >before
        mount -t tmpfs -o size=96k none var/lib/upright
        {}
        refused at-last upright --root . update",
        rounds.map(round).concat()
    );
    in_namespace(host, &script)?;
    for left in rounds {
        let name = left.to_string();
        let ran = refused(host, &name)?;
        if ran.status == 0 {
            continue;
        }
        // Nothing can be kept at all, or the rest of the update would not fit.
        let line = line_of("upright", &ran, if ran.status == 3 { 3 } else { 6 })
            .with_context(|| format!("{left} KiB left"))?;
        ensure!(line.contains("var/lib/upright"), "{line}");
        let full = line.contains("No space left on device") && line.contains("are free; free some space");
        ensure!(full || (ran.status == 3 && line.contains("bytes too few; nothing was changed")), "{line}");
        assert_eq!(
            fs::read_to_string(host.join("before"))?,
            fs::read_to_string(host.join(format!("{left}.after")))?
        );
        let status = refused(host, &format!("{left}-status"))?;
        assert_eq!(
            (status.status, &status.json()?["booted"]),
            (0, &"a".into()),
            "{left} KiB left: {status:?}"
        );
    }
    let failed =
        rounds.iter().filter(|left| refused(host, &left.to_string()).is_ok_and(|ran| ran.status != 0));
    assert!(failed.count() >= 2, "the state disk was not full");
    let at_last = refused(host, "at-last")?;
    assert_eq!(at_last.status, 0, "{at_last:?}");
    Ok(())
}

#[test]
fn a_state_disk_without_room_for_a_copy_of_etc_is_refused_with_the_exact_shortfall() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let host = &fixture.host("host")?;
    // A local change of 1 MiB to /etc, on a file system that has no room for a second one.
    let script = format!(
        "{REFUSED}
        mount -t tmpfs -o size=2000k none var/lib/upright
        mkdir -p var/lib/upright/etc/a/upper
        head -c 1M /dev/zero >var/lib/upright/etc/a/upper/large
        sha256sum dev/* esp/EFI/Linux/* >before
        refused update upright --root . update
        stat -f -c '%a %S' var/lib/upright >room
        sha256sum dev/* esp/EFI/Linux/* >after
        refused why upright --root . why
        rm var/lib/upright/etc/a/upper/large
        refused at-last upright --root . update"
    );
    in_namespace(host, &script)?;
    let ran = refused(host, "update")?;
    let line = line_of("upright", &ran, 3)?;
    for part in ["the copies of /etc", "bytes in /var, which has", "make room there"] {
        ensure!(line.contains(part), "{part:?} is not in: {line}");
    }
    let numbers: Vec<u64> = line.split([' ', ':']).filter_map(|word| word.parse().ok()).collect();
    let [needed, available, missing] = numbers[..] else { anyhow::bail!("{numbers:?} in {line}") };
    ensure!(needed - available == missing && needed >= 1 << 20, "{line}");
    // What the refusal itself takes is little.
    let room = fs::read_to_string(host.join("room"))?;
    let room: Vec<u64> = room.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [blocks, block] = room[..] else { anyhow::bail!("{room:?}") };
    ensure!(available.abs_diff(blocks * block) <= 64 << 10, "{line}, and there are {}", blocks * block);
    ensure!(refused(host, "why")?.stdout.contains("the copies of /etc"), "`why` says nothing");
    assert_eq!(fs::read_to_string(host.join("before"))?, fs::read_to_string(host.join("after"))?);
    assert_eq!(refused(host, "at-last")?.status, 0);
    Ok(())
}

#[test]
fn a_slot_that_cannot_be_written_is_the_hosts_fault_and_not_the_publishers() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let host = &fixture.host("host")?;
    // A partition that says it is large enough, on a disk that takes 2 MiB of it.
    let script = format!(
        "{REFUSED}
        sha256sum dev/root-a* esp/EFI/Linux/* >before
        mkdir small && mount -t tmpfs -o size=2m none small && truncate -s 64M small/root-b
        mount --bind small/root-b dev/root-b
        refused update upright --root . update
        sha256sum dev/root-a* esp/EFI/Linux/* >after"
    );
    in_namespace(host, &script)?;
    let ran = refused(host, "update")?;
    let line = line_of("upright", &ran, 6)?;
    for part in ["no way led to 1.1.0", "No space left on device", "what runs is untouched", "`dmesg`"] {
        ensure!(line.contains(part), "{part:?} is not in: {line}");
    }
    assert_eq!(fs::read_to_string(host.join("before"))?, fs::read_to_string(host.join("after"))?);
    assert_eq!(upright(host, &["update"])?.status, 0);
    Ok(())
}

#[test]
fn a_downgrade_needs_a_word_on_the_host_too() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    let newer = host.with_file_name("newer");
    install(&newer, &fixture.workspace(), "1.1.0", &configuration(&fixture.server.url()), Sizes::default())?;
    let says = ["1.0.0 is refused: it is older than 1.1.0, which runs", "`upright update --allow-downgrade`"];
    for arguments in [&["update"][..], &["update", "--now"], &["update", "--version", "1.0.0"]] {
        host_refuses(&newer, arguments, 3, &says, Until::Decision)?;
    }
    assert_eq!(upright(&newer, &["update", "--allow-downgrade"])?.status, 0);
    Ok(())
}

#[test]
fn another_os_or_architecture_or_publisher_is_refused() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host_with("other-os", "", Sizes::default())?;
    let config = host.join("etc/upright/upright.toml");
    let good = fs::read_to_string(&config)?;
    fs::write(&config, good.replace("[repository]", "[repository]\nos = \"other\""))?;
    let missing =
        "not among the targets that the publisher has signed; check the names of OS, channel and version";
    let says = ["channels/other/", "/stable.json", missing];
    host_refuses(host, &["update"], 5, &says, Until::Decision)?;
    fs::write(&config, &good)?;
    let says = ["there is no release 9.9 of acme for", "`upright update` takes 1.0.0"];
    host_refuses(host, &["update", "--version", "9.9"], 5, &says, Until::Decision)?;
    host_refuses(host, &["channel", "nightly"], 5, &["/nightly.json", missing], Until::Decision)?;

    // A publisher of the same OS for another architecture, first with keys that this host does not know.
    let arm = fixture.workspace().with_file_name("arm");
    let made = run("upright-build", ["init", &arm.display().to_string(), "--os", "acme", "--arch", "arm64"])?;
    assert_eq!(made.status, 0, "{made:?}");
    build(&arm, &["refresh"])?;
    let server = Server::start(&arm.join("repository"))?;
    fs::write(&config, good.replace(&fixture.server.url(), &server.url()))?;
    let says = ["timestamp.json: not signed by those whom", "it was not made by this host's publisher"];
    host_refuses(host, &["update"], 4, &says, Until::Decision)?;
    fs::remove_dir_all(host.join("var/lib/upright/tuf"))?;
    fs::copy(arm.join("root.json"), host.join("usr/share/upright/root.json"))?;
    host_refuses(host, &["update"], 5, &["channels/acme/x86-64/stable.json", missing], Until::Decision)?;
    Ok(())
}

#[test]
fn a_delta_for_another_base_leads_nowhere_but_to_the_next_way() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    fixture.build(&["publish", "1.2.0"])?;
    let host = &fixture.host("host")?;
    let served = fixture.workspace().join("repository");
    let manifest = fixture.manifest("1.2.0")?;
    let delta_from = |version: &str| {
        let edge = manifest["deltas"].as_array()?.iter().find(|edge| edge["from"] == version)?;
        edge["delta"]["path"].as_str()
    };
    let (right, wrong) = (delta_from("1.0.0").context("a delta")?, delta_from("1.1.0").context("a delta")?);
    fixture.server.spoil(right, Fault::Instead(fs::read(served.join(wrong))?));
    fixture.server.spoil("payloads/", Fault::Status(404));
    let says = ["no way led to 1.2.0: by delta: ", "; by full: ", "(404)", "check the network"];
    host_refuses(host, &["update"], 5, &says, Until::Writing)?;
    fixture.server.mend();
    fixture.server.spoil(right, Fault::Instead(fs::read(served.join(wrong))?));
    // The cheapest way comes first again, also where all have failed.
    let other = fixture.host("other")?;
    for host in [host, &other] {
        let ran = upright(host, &["update"])?;
        assert_eq!(ran.status, 0, "{ran:?}");
        assert!(ran.stderr.contains("way=\"delta\""), "{ran:?}");
    }
    Ok(())
}
