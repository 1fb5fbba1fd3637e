//! Updates that are carried to hosts: what is exported to a file or a folder, taken by the rules that hold for a server.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use upright_tests::fixture::{Fixture, OS};
use upright_tests::programs::{Ran, build, folder, run, upright};
use upright_tests::refusal::{Until, contains, files, host_refuses, line_of, publisher_refuses};
use upright_tests::server::Fault;
use upright_tests::simulated::Sizes;

/// A fixture whose server is away for good, since no network reaches its hosts.
fn unreachable() -> Result<Fixture> {
    let fixture = Fixture::new()?;
    fixture.server.spoil("", Fault::HangUp);
    Ok(fixture)
}

/// Exports to a file and to a folder beside the workspace.
fn export(fixture: &Fixture, name: &str, arguments: &[&str]) -> Result<[String; 2]> {
    let place = fixture.workspace().with_file_name("media");
    fs::create_dir_all(place.join(name))?;
    let paths = [place.join(format!("{name}.tar")), place.join(name)].map(|path| path.display().to_string());
    for path in &paths {
        fixture.build(&[&["export", "--output", path], arguments].concat())?;
    }
    Ok(paths)
}

fn set_clock(host: &Path, days: i64) -> Result<()> {
    fs::create_dir_all(host.join("run"))?;
    let time = Timestamp::now() + SignedDuration::from_hours(24 * days);
    Ok(fs::write(host.join("run/clock"), time.to_string())?)
}

fn taken(host: &Path, from: &str) -> Result<Ran> {
    let ran = upright(host, &["update", "--from", from])?;
    assert_eq!(ran.status, 0, "{ran:?}");
    Ok(ran)
}

#[test]
fn a_channel_on_a_medium_updates_a_host_that_no_network_reaches() -> Result<()> {
    let fixture = unreachable()?;
    fixture.build(&["publish", "1.1.0"])?;
    let media = export(&fixture, "stick", &["--channel", "stable"])?;
    for (number, medium) in media.iter().enumerate() {
        let host = &fixture.host(&format!("host-{number}"))?;
        let check = upright(host, &["check", "--from", medium, "--exit-code"])?;
        assert_eq!((check.status, check.stdout.trim()), (10, "1.1.0 is available"), "{check:?}");
        let plan = upright(host, &["update", "--from", medium, "--dry-run"])?;
        contains(&plan.stdout, &["by delta: fetches at most"])?;
        let ran = upright(host, &["update", "--from", medium, "--reboot"])?;
        assert_eq!(ran.status, 0, "{ran:?}");
        assert_eq!(upright(host, &["health"])?.status, 0);
        assert_eq!(upright(host, &["verify"])?.status, 0);
        let history = upright(host, &["history"])?.stdout;
        contains(&history, &["applied by delta", &format!(" from {medium}"), "proven healthy"])?;
        contains(&upright(host, &["status"])?.stdout, &["last metadata: ", &format!("from {medium}")])?;
        let again = upright(host, &["update", "--from", medium])?;
        assert_eq!((again.status, again.stdout.contains("nothing to do")), (0, true), "{again:?}");
    }
    assert!(fixture.server.requests().is_empty(), "the network was asked");
    Ok(())
}

#[test]
fn an_export_is_a_plain_tar_of_a_repository_and_the_same_each_time() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let [file, kept] = export(&fixture, "stick", &["--channel", "stable"])?;
    let first = fs::read(&file)?;
    // Again, over what is there, and elsewhere.
    let [again, _] = export(&fixture, "stick", &["--channel", "stable"])?;
    let [elsewhere, _] = export(&fixture, "other", &["--channel", "stable"])?;
    assert!(first == fs::read(again)? && first == fs::read(elsewhere)?, "other bytes of the same content");
    let unpacked = fixture.workspace().with_file_name("unpacked");
    fs::create_dir(&unpacked)?;
    let tar = Command::new("tar").arg("xf").arg(&file).arg("-C").arg(&unpacked).status()?;
    assert!(tar.success());
    assert_eq!(files(&unpacked, &[])?, files(Path::new(&kept), &[])?);
    let root = fixture.workspace().join("root.json").display().to_string();
    for place in [&file, &kept] {
        let checked = run("upright-build", ["-C", "/", "check", place, "--root", &root])?;
        // What other channels' hosts would take is listed, and left out.
        assert_eq!(checked.status, 0, "{checked:?}");
        contains(
            &checked.stdout,
            &["is to have channel stable, a part of its repository", "releases 1 of 2"],
        )?;
        let whole = run("upright-build", ["-C", "/", "check", place, "--root", &root, "--whole"])?;
        assert!(whole.status == 4 && whole.stdout.contains("1.0.0"), "{whole:?}");
    }
    let told =
        build(&fixture.workspace(), &["export", "--channel", "stable", "-o", &file, "--json"])?.json()?;
    assert_eq!((&told["channels"][0], &told["releases"][0]), (&"stable".into(), &"1.1.0".into()), "{told}");
    let time = |value: &serde_json::Value| value.as_str().unwrap_or_default().parse::<Timestamp>();
    assert!(time(&told["good_until"])? < time(&told["metadata"][0]["expires"])?, "{told}");
    Ok(())
}

#[test]
fn who_exports_says_what_goes_along() -> Result<()> {
    let fixture = unreachable()?;
    fixture.build(&["publish", "1.1.0"])?;
    let delta =
        |medium: &str| fs::read_dir(Path::new(medium).join("deltas")).is_ok_and(|some| some.count() > 0);
    let [_, with] = export(&fixture, "with", &["--channel", "stable", "--from-version", "1.0.0"])?;
    let [_, other] = export(&fixture, "other", &["--channel", "stable", "--from-version", "0.9"])?;
    let [file, without] = export(&fixture, "without", &["1.1.0", "--no-deltas"])?;
    assert!(delta(&with) && !delta(&other) && !delta(&without));
    for (number, medium) in [file, without].iter().enumerate() {
        let host = &fixture.host(&format!("host-{number}"))?;
        taken(host, medium)?;
        contains(&upright(host, &["history"])?.stdout, &["applied by chunks"])?;
    }
    let out = &fixture.workspace().with_file_name("out.tar").display().to_string();
    let workspace = &fixture.workspace();
    publisher_refuses(
        workspace,
        &["export", "--channel", "none", "-o", out],
        3,
        &["no channel none; it has stable"],
    )?;
    publisher_refuses(workspace, &["export", "9", "-o", out], 3, &["no release 9; it offers 1.0.0, 1.1.0"])?;
    publisher_refuses(workspace, &["export", "1.1.0", "-o", "/dev/null"], 3, &["not a regular file"])?;
    assert!(!Path::new(out).exists());
    fs::write(out, b"something of mine")?;
    publisher_refuses(workspace, &["export", "1.1.0", "-o", out], 3, &["is no export"])?;
    assert_eq!(fs::read(out)?, b"something of mine");
    Ok(())
}

#[test]
fn an_export_says_whether_it_is_a_file_or_a_folder() -> Result<()> {
    let fixture = unreachable()?;
    let folder = fixture.workspace().with_file_name("media");
    fs::create_dir_all(folder.join("there"))?;
    fs::write(folder.join("taken"), b"something of mine")?;
    let export = |name: &str, more: &[&str]| {
        let out = format!("{}/{name}", folder.display());
        build(&fixture.workspace(), &[&["export", "--channel", "stable", "-o", &out], more].concat())
    };
    for (name, is_folder) in
        [("a", false), ("a.tar", false), ("there", true), ("b/", true), ("c/.", true), ("new/d/", true)]
    {
        let told = export(name, &[])?.stdout;
        let last = told.lines().last().unwrap_or_default();
        let says = if is_folder { " is a folder" } else { " is a single file; a path that ends in /" };
        contains(last, &[&format!("media/{name}{says}")])?;
        assert_eq!(folder.join(name).is_dir(), is_folder, "{name}");
        assert_eq!(folder.join(name).join("metadata/timestamp.json").exists(), is_folder, "{name}");
        // It is the same again.
        let told = export(name, &["--json"])?.json()?;
        assert_eq!(told["form"], if is_folder { "folder" } else { "file" }, "{told}");
    }
    // A folder cannot take the place of a file.
    let (out, taken) = (format!("{}/taken/", folder.display()), folder.join("taken"));
    let arguments = ["export", "--channel", "stable", "-o", &out];
    publisher_refuses(&fixture.workspace(), &arguments, 3, &["taken is there and is no folder"])?;
    assert_eq!(fs::read(taken)?, b"something of mine");
    Ok(())
}

#[test]
fn a_medium_that_came_late_is_refused_unless_the_configuration_says_how_late_it_may_come() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let [file, _] = export(&fixture, "stick", &["--channel", "stable"])?;
    let strict = &fixture.host("strict")?;
    let lenient = &fixture.host_with("lenient", "[update]\noffline-expiry = \"30d\"\n", Sizes::default())?;
    for host in [strict, lenient] {
        assert_eq!(upright(host, &["status"])?.status, 0);
        set_clock(host, 8)?;
    }
    let says =
        ["timestamp.json on the medium expired at", "bring a newer export", "`offline-expiry`", "\"refuse\""];
    host_refuses(strict, &["update", "--from", &file], 4, &says, Until::Decision)?;
    // Never what a server sends.
    let says = ["timestamp.json: expired at"];
    host_refuses(lenient, &["update"], 4, &says, Until::Decision)?;
    set_clock(lenient, 38)?;
    host_refuses(lenient, &["update", "--from", &file], 4, &["(now 720 h)"], Until::Decision)?;
    set_clock(lenient, 8)?;
    let ran = taken(lenient, &file)?;
    contains(&ran.stderr, &["note: this is taken from", "which had expired on", "`offline-expiry`"])?;
    contains(&upright(lenient, &["status"])?.stdout, &["which had expired on", "metadata expired since"])?;
    contains(&upright(lenient, &["history"])?.stdout, &["which had expired on"])?;
    let told = upright(lenient, &["status", "--json"])?.json()?;
    assert!(told["medium"]["expired"].is_string(), "{told}");
    // A clock that was ahead leaves no mark: what was shown was not good any more then.
    fs::remove_file(lenient.join("run/clock"))?;
    assert_eq!(upright(lenient, &["check"])?.status, 0);
    let told = upright(lenient, &["status", "--json"])?.json()?;
    assert!(told["medium"].is_null(), "{told}");
    Ok(())
}

#[test]
fn an_older_medium_never_takes_a_host_back() -> Result<()> {
    let fixture = unreachable()?;
    let old = export(&fixture, "old", &["--channel", "stable"])?;
    fixture.build(&["publish", "1.1.0"])?;
    let [new, _] = export(&fixture, "new", &["--channel", "stable"])?;
    let host = &fixture.host_with("host", "[update]\noffline-expiry = \"365d\"\n", Sizes::default())?;
    taken(host, &new)?;
    for old in &old {
        let says = ["rolled back: timestamp.json is", "this host has seen"];
        host_refuses(host, &["update", "--from", old, "--allow-downgrade"], 4, &says, Until::Decision)?;
    }
    Ok(())
}

#[test]
fn a_medium_that_someone_tampered_with_is_refused() -> Result<()> {
    let fixture = unreachable()?;
    fixture.build(&["publish", "1.1.0"])?;
    let [file, _] = export(&fixture, "stick", &["--channel", "stable", "--no-deltas"])?;
    let host = &fixture.host("host")?;
    let whole = fs::read(&file)?;
    let bad = fixture.workspace().with_file_name("bad.tar").display().to_string();
    fs::write(&bad, &whole[..whole.len() / 2])?;
    host_refuses(
        host,
        &["update", "--from", &bad],
        4,
        &["is cut off after", "copy it again"],
        Until::Decision,
    )?;
    fs::write(&bad, b"not a tar")?;
    host_refuses(host, &["update", "--from", &bad], 4, &["it is not an export"], Until::Decision)?;
    host_refuses(host, &["update", "--from", "/none"], 5, &["insert and mount the medium"], Until::Decision)?;
    host_refuses(host, &["update", "--from", "/etc"], 4, &["holds no export"], Until::Decision)?;
    // One flipped bit in each payload.
    let mut flipped = whole.clone();
    let name = b"payloads/";
    for at in 0..whole.len() / 512 {
        if whole[at * 512..].starts_with(name) {
            flipped[at * 512 + 600] ^= 1;
        }
    }
    fs::write(&bad, flipped)?;
    host_refuses(host, &["update", "--from", &bad], 4, &["no way led to 1.1.0"], Until::Writing)?;
    taken(host, &file)?;
    Ok(())
}

#[test]
fn a_medium_that_is_taken_out_in_the_middle_is_gone_on_with_when_it_is_back() -> Result<()> {
    let fixture = unreachable()?;
    fixture.build(&["publish", "1.1.0"])?;
    let media = export(&fixture, "stick", &["--channel", "stable", "--no-deltas"])?;
    for (number, medium) in media.iter().enumerate() {
        let more = "[limits]\nwrite-rate = \"2MiB\"\nwithout = [\"chunks\"]\n";
        let host = &fixture.host_with(&format!("host-{number}"), more, Sizes::default())?;
        let mut update = Command::new(folder()?.join("upright"))
            .arg("--root")
            .arg(host)
            .args(["update", "--from", medium])
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(update.stderr.take().context("no stderr")?).lines();
        // Some of it is written by then, and most of it is not.
        let until = |line: &std::io::Result<String>| line.as_ref().is_ok_and(|line| line.contains(" %)"));
        let begun = lines.find(until).context("it ended before anything was written")??;
        let kept = PathBuf::from(format!("{medium}.kept"));
        take_out(Path::new(medium), &kept)?;
        let rest: Vec<String> = lines.collect::<Result<_, _>>()?;
        assert_eq!(update.wait()?.code(), Some(5), "{begun} {rest:?}");
        contains(rest.last().context("no error")?, &["insert it again", "goes on where it stopped", medium])?;
        let state = upright(host, &["status", "--json"])?.json()?["state"].clone();
        assert_eq!(state["state"], "applying", "{state}");
        // The service, which has no server, leaves it alone.
        assert_eq!(upright(host, &["run", "--once"])?.status, 5);
        assert_eq!(upright(host, &["status", "--json"])?.json()?["state"], state);
        fs::rename(&kept, medium)?;
        taken(host, medium)?;
        assert_eq!(upright(host, &["verify"])?.status, 0);
    }
    Ok(())
}

/// Moves a medium away, and ends what can be read of files that are open.
fn take_out(medium: &Path, kept: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-r").arg(medium).arg(kept).status()?;
    assert!(status.success());
    if medium.is_file() {
        File::options().write(true).open(medium)?.set_len(0)?;
        return Ok(fs::remove_file(medium)?);
    }
    for path in files(medium, &[])?.keys() {
        File::options().write(true).open(medium.join(path))?.set_len(0)?;
    }
    Ok(fs::remove_dir_all(medium)?)
}

#[test]
fn releases_that_must_be_passed_through_go_along() -> Result<()> {
    let fixture = unreachable()?;
    fixture.build(&["publish", "1.1.0"])?;
    fixture.build(&["publish", "1.2.0", "--floor", "1.1.0"])?;
    let [file, _] = export(&fixture, "stick", &["--channel", "stable"])?;
    let host = &fixture.host("host")?;
    let ran = upright(host, &["update", "--from", &file, "--reboot"])?;
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(upright(host, &["health"])?.status, 0);
    contains(&upright(host, &["status"])?.stdout, &["1.1.0", "booted"])?;
    taken(host, &file)?;
    // Whoever knows where hosts come from carries less.
    let [_, less] = export(&fixture, "less", &["--channel", "stable", "--from-version", "1.1.0"])?;
    let releases = Path::new(&less).join("releases").join(OS);
    assert_eq!(files(&releases, &[])?.len(), 1);
    Ok(())
}

#[test]
fn a_bare_name_is_a_file_of_the_current_folder() -> Result<()> {
    let fixture = unreachable()?;
    let here = fixture.workspace().with_file_name("here");
    fs::create_dir(&here)?;
    let workspace = fixture.workspace().display().to_string();
    let root = "root.json";
    fs::copy(fixture.workspace().join(root), here.join(root))?;
    let commands: [&[&str]; 8] = [
        &["-C", &workspace, "export", "--channel", "stable", "-o", "acme-stable.tar"],
        &["-C", &workspace, "export", "--channel", "stable", "-o", "stick/"],
        &["check", "acme-stable.tar", "--root", root],
        &["check", "stick", "--root", root],
        &["mirror", "acme-stable.tar", "m", "--root", root],
        &["mirror", "stick", "m"],
        &["-C", &workspace, "disk", "1.0.0", "-o", "host", "--simulated"],
        &["init", "w", "--os", "other"],
    ];
    for arguments in commands {
        let ran =
            Command::new(folder()?.join("upright-build")).args(arguments).current_dir(&here).output()?;
        assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }
    assert!(
        ["acme-stable.tar", "stick/metadata", "m/metadata", "host/dev", "w/upright.toml"]
            .iter()
            .all(|name| here.join(name).exists())
    );
    Ok(())
}

#[test]
fn a_medium_for_another_channel_is_told_as_such() -> Result<()> {
    let fixture = unreachable()?;
    let settings = fixture.workspace().join("upright.toml");
    fs::write(&settings, fs::read_to_string(&settings)?.replace("[\"stable\"]", "[\"stable\", \"beta\"]"))?;
    fixture.build(&["publish", "1.1.0", "--channel", "beta"])?;
    let host = &fixture.host("host")?;
    for medium in export(&fixture, "stick", &["--channel", "beta"])? {
        let says = format!("{medium} holds channel beta, and this host follows channel stable: bring what");
        for arguments in [["check", "--from", &medium], ["update", "--from", &medium]] {
            let ran = upright(host, &arguments)?;
            let line = line_of("upright", &ran, 5)?;
            contains(line, &[&says])?;
            ensure!(!line.contains("it is damaged"), "{line}");
        }
    }
    Ok(())
}

#[test]
fn a_release_that_its_channel_has_left_is_taken_from_a_medium_by_its_version() -> Result<()> {
    let fixture = unreachable()?;
    fixture.build(&["publish", "1.1.0"])?;
    fixture.build(&["publish", "1.2.0"])?;
    let arguments = ["export", "1.1.0", "--from-version", "1.0.0", "-o"];
    let place = fixture.workspace().with_file_name("media");
    fs::create_dir_all(place.join("one"))?;
    let root = fixture.workspace().join("root.json").display().to_string();
    for (number, medium) in [place.join("one.tar"), place.join("one")].iter().enumerate() {
        let medium = &medium.display().to_string();
        let ran = build(&fixture.workspace(), &[&arguments[..], &[medium]].concat())?;
        let note = "channel stable points at 1.2.0, which is not in it, so its hosts have to be told what to take: \
                    `upright update --from PATH --version 1.1.0`";
        contains(&ran.stderr, &[note])?;
        let checked = run("upright-build", ["-C", "/", "check", medium, "--root", &root])?;
        assert_eq!(checked.status, 0, "{checked:?}");
        let host = &fixture.host(&format!("host-{number}"))?;
        let command = format!("upright update --from {medium} --version 1.1.0");
        let says = ["has nothing of 1.2.0 but its manifest; it has 1.1.0", &command];
        host_refuses(host, &["check", "--from", medium], 5, &says, Until::Decision)?;
        host_refuses(host, &["update", "--from", medium], 5, &says, Until::Decision)?;
        let ran = upright(host, &["update", "--from", medium, "--version", "1.1.0", "--reboot"])?;
        assert_eq!(ran.status, 0, "{ran:?}");
        assert_eq!(upright(host, &["health"])?.status, 0);
        // What runs is no way on.
        let says = ["has nothing of 1.2.0 but its manifest; bring an export that has it"];
        host_refuses(host, &["update", "--from", medium], 5, &says, Until::Decision)?;
    }
    Ok(())
}

#[test]
fn a_file_that_cannot_be_read_is_the_mediums_fault_and_not_waited_for() -> Result<()> {
    let fixture = unreachable()?;
    fixture.build(&["publish", "1.1.0"])?;
    let [_, medium] = export(&fixture, "stick", &["--channel", "stable"])?;
    let host = &fixture.host("host")?;
    // Reading the first page of one's own memory is an error of input or output, as a bad sector is.
    let unreadable = |part: &str| -> Result<()> {
        for name in files(&Path::new(&medium).join(part), &[])?.keys() {
            let path = Path::new(&medium).join(part).join(name);
            fs::remove_file(&path)?;
            std::os::unix::fs::symlink("/proc/self/mem", &path)?;
        }
        Ok(())
    };
    fs::rename(Path::new(&medium).join("payloads"), Path::new(&medium).join("kept"))?;
    fs::create_dir(Path::new(&medium).join("payloads"))?;
    for name in files(&Path::new(&medium).join("kept"), &[])?.keys() {
        fs::copy(Path::new(&medium).join("kept").join(name), Path::new(&medium).join("payloads").join(name))?;
    }
    unreadable("deltas")?;
    unreadable("payloads")?;
    let says =
        ["Input/output error", "; if the medium was taken out", "copy the export anew, to another medium"];
    let line = host_refuses(host, &["update", "--from", &medium], 5, &says, Until::Writing)?;
    assert!(!line.contains("network"), "{line}");
    let ran = upright(host, &["update", "--from", &medium])?;
    assert!(ran.status == 5 && !ran.stderr.contains("trying again"), "{ran:?}");
    // One bad sector leaves another way.
    fs::remove_dir_all(Path::new(&medium).join("payloads"))?;
    fs::rename(Path::new(&medium).join("kept"), Path::new(&medium).join("payloads"))?;
    let ran = taken(host, &medium)?;
    assert!(!ran.stderr.contains("trying again"), "{ran:?}");
    Ok(())
}

#[test]
fn what_is_wrong_with_a_medium_is_never_the_networks_fault() -> Result<()> {
    let fixture = unreachable()?;
    fixture.build(&["publish", "1.1.0"])?;
    let [_, medium] = export(&fixture, "stick", &["--channel", "stable", "--no-deltas"])?;
    let host = &fixture.host("host")?;
    let manifest = fixture.manifest("1.1.0")?;
    let uki = Path::new(&medium).join(manifest["uki"]["compose"]["path"].as_str().context("no UKI")?);
    let snapshot = fs::read_dir(Path::new(&medium).join("metadata"))?
        .map(|file| Ok(file?.path()))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .find(|path| path.display().to_string().ends_with(".snapshot.json"))
        .context("no snapshot")?;
    let says = ["; if the medium was taken out", "copy the export anew, to another medium"];
    let refused = |file: &Path, status, by: &dyn Fn(&Path) -> Result<()>| -> Result<()> {
        let kept = fs::read(file)?;
        by(file)?;
        // A host without a way back has nothing to lose by what it finds out at the end.
        let (commands, until) = match file == uki {
            true => (&["update"][..], Until::Writing),
            false => (&["check", "update"][..], Until::Decision),
        };
        for command in commands {
            let line = host_refuses(host, &[command, "--from", &medium], status, &says, until)?;
            anyhow::ensure!(
                !line.contains("network") && !line.contains("`url`") && !line.contains("address"),
                "{line}"
            );
        }
        Ok(fs::write(file, kept)?)
    };
    refused(&snapshot, 5, &|file| Ok(fs::remove_file(file)?))?;
    refused(&snapshot, 4, &|file| Ok(File::options().write(true).open(file)?.set_len(100)?))?;
    refused(&uki, 5, &|file| Ok(fs::remove_file(file)?))?;
    // The beginning of the UKI's delta is another: it is as long as it was signed.
    let flip = |file: &Path| {
        let mut bytes = fs::read(file)?;
        bytes[20] ^= 1;
        Ok(fs::write(file, bytes)?)
    };
    refused(&uki, 4, &flip)
}
