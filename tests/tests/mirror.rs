//! A mirror is a copy: by HTTP, from where it was cut off, verified, and never a half state for who reads it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use upright_manifests::digest::Digest;
use upright_tests::fixture::{Fixture, configuration, noise};
use upright_tests::programs::{Ran, folder, run, upright};
use upright_tests::refusal::{contains, files, line_of};
use upright_tests::server::{Fault, Server};

/// A mirror of a fixture's repository.
struct Mirror<'f> {
    fixture: &'f Fixture,
    folder: PathBuf,
}

impl<'f> Mirror<'f> {
    fn of(fixture: &'f Fixture) -> Self {
        Self { fixture, folder: fixture.workspace().with_file_name("mirror") }
    }

    fn run(&self, more: &[&str]) -> Result<Ran> {
        let (url, folder) = (self.fixture.server.url(), self.folder.display().to_string());
        let root = self.fixture.workspace().join("root.json").display().to_string();
        run("upright-build", [&["mirror", &url, &folder, "--root", &root, "--stall", "1"], more].concat())
    }

    fn succeeds(&self, more: &[&str]) -> Result<serde_json::Value> {
        let ran = self.run(&[more, &["--json"]].concat())?;
        ensure!(ran.status == 0, "{ran:?}");
        ran.json()
    }

    /// What hosts find that read the folder: the version that the channel points at, every file of which is there and right;
    /// none if the folder is no repository yet.
    fn offers(&self) -> Result<Option<String>> {
        if !self.folder.join("metadata/timestamp.json").exists() {
            return Ok(None);
        }
        let server = Server::start(&self.folder)?;
        let name = format!("reader-{}", server.url().rsplit(':').next().unwrap_or_default());
        let host = &self.fixture.host(&name)?;
        fs::write(host.join("etc/upright/upright.toml"), configuration(&server.url()))?;
        let ran = upright(host, &["check", "--json"])?;
        ensure!(ran.status == 0, "{ran:?}");
        let version = ran.json()?["version"].as_str().map(str::to_owned);
        let took = upright(host, &["update"])?;
        ensure!(took.status == 0, "{took:?}");
        fs::remove_dir_all(host)?;
        Ok(version)
    }
}

fn repository(fixture: &Fixture) -> PathBuf {
    fixture.workspace().join("repository")
}

/// All files of a repository but for metadata that newer one has superseded, which no host asks for.
fn current(folder: &Path) -> Result<BTreeMap<PathBuf, Digest>> {
    let mut found = files(folder, &[])?;
    for role in ["targets", "snapshot"] {
        let version = |path: &Path| {
            let name =
                path.strip_prefix("metadata").ok()?.to_str()?.strip_suffix(&format!(".{role}.json"))?;
            name.parse::<u64>().ok()
        };
        let newest = found.keys().filter_map(|path| version(path)).max();
        found.retain(|path, _| version(path).is_none_or(|own| Some(own) == newest));
    }
    Ok(found)
}

#[test]
fn a_mirror_is_the_same_files_and_fetches_only_what_is_new() -> Result<()> {
    let fixture = Fixture::new()?;
    let mirror = Mirror::of(&fixture);
    let (url, folder) = (fixture.server.url(), mirror.folder.display().to_string());
    let line = run("upright-build", ["mirror", &url, &folder])?;
    contains(line_of("upright-build", &line, 3)?, &["it is not known whom to trust", "--root"])?;
    mirror.succeeds(&[])?;
    assert_eq!(current(&mirror.folder)?, current(&repository(&fixture))?);
    assert_eq!(mirror.offers()?.as_deref(), Some("1.0.0"));
    fixture.server.reset_counts();
    // Whom to trust is known from the last time.
    let again = run("upright-build", ["mirror", &url, &folder, "--json"])?;
    assert_eq!((again.status, &again.json()?["copied"]), (0, &0.into()), "{again:?}");
    assert_eq!((fixture.server.sent("payloads"), fixture.server.sent("targets")), (0, 0));
    fixture.build(&["publish", "1.1.0"])?;
    let copied = mirror.succeeds(&[])?["copied"].as_u64();
    assert!(
        copied > Some(0) && copied == Some(fixture.server.sent("payloads/") + fixture.server.sent("deltas/"))
    );
    assert_eq!(current(&mirror.folder)?, current(&repository(&fixture))?);
    assert_eq!(mirror.offers()?.as_deref(), Some("1.1.0"));
    Ok(())
}

#[test]
fn what_a_server_does_wrong_reaches_nobody_who_reads_the_mirror() -> Result<()> {
    let fixture = Fixture::new()?;
    let mirror = Mirror::of(&fixture);
    mirror.succeeds(&[])?;
    fixture.build(&["publish", "1.1.0"])?;
    let cases: [(&str, Fault, i32, &str); 14] = [
        ("deltas/", Fault::TooLittle(1), 1, "goes on where it stopped"),
        ("payloads/", Fault::Flip(5000), 4, "is not what was signed"),
        ("payloads/", Fault::Instead(noise(1, 9_000_000)), 4, "is not what was signed"),
        ("payloads/", Fault::Status(404), 4, "is not there"),
        ("payloads/", Fault::Status(500), 1, "500"),
        ("payloads/", Fault::HangUp, 1, "goes on where it stopped"),
        ("payloads/", Fault::Stall(1000), 1, "the server said nothing for 1 s; what came is kept"),
        ("releases/", Fault::Flip(10), 4, "is not what was signed"),
        ("channels/", Fault::TooMuch(1), 4, "bytes that were signed"),
        ("timestamp.json", Fault::Status(500), 1, "500"),
        ("timestamp.json", Fault::Stall(10), 1, "timestamp.json: the server said nothing for 1 s"),
        ("timestamp.json", Fault::Instead(b"<html>".to_vec()), 4, "malformed"),
        ("targets.json", Fault::Flip(200), 4, "targets.json"),
        ("snapshot.json", Fault::TooMuch(1), 4, "snapshot.json"),
    ];
    for (path, fault, status, says) in cases {
        fixture.server.spoil(path, fault.clone());
        let ran = mirror.run(&[])?;
        let line = line_of("upright-build", &ran, status);
        contains(line.map_err(|error| error.context(format!("{path} {fault:?}")))?, &[says])?;
        fixture.server.mend();
    }
    // Not a byte that is not signed is where hosts look.
    let visible = |folder: &Path| files(folder, &[".partial"]);
    let (here, there) = (visible(&mirror.folder)?, visible(&repository(&fixture))?);
    let wrong = here
        .iter()
        .filter(|(path, digest)| there.get(*path) != Some(digest) && !path.ends_with("timestamp.json"));
    assert_eq!(wrong.count(), 0);
    assert_eq!(mirror.offers()?.as_deref(), Some("1.0.0"));
    mirror.succeeds(&[])?;
    assert_eq!(current(&mirror.folder)?, current(&repository(&fixture))?);
    Ok(())
}

#[test]
fn a_line_that_drops_is_gone_on_with_and_a_server_without_ranges_serves() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.server.spoil("payloads/", Fault::Cut(300_000));
    let mirror = Mirror::of(&fixture);
    let told = mirror.succeeds(&[])?;
    assert_eq!(
        Some(fixture.server.sent("payloads/")),
        told["bytes"].as_u64(),
        "what came is not fetched again"
    );
    assert_eq!(current(&mirror.folder)?, current(&repository(&fixture))?);
    fixture.server.mend();
    // Half of a payload came from a server that had another one there.
    fs::remove_dir_all(&mirror.folder)?;
    fixture.server.spoil(".zst", Fault::Status(500));
    fixture.server.spoil_times(".zst", Fault::Stall(400_000), 1);
    assert_eq!(mirror.run(&[])?.status, 1);
    fixture.server.mend();
    for entry in fs::read_dir(mirror.folder.join(".partial"))? {
        let path = entry?.path();
        let mut bytes = fs::read(&path)?;
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
        fs::write(&path, bytes)?;
    }
    fixture.server.spoil("payloads/", Fault::NoRanges);
    mirror.succeeds(&[])?;
    assert_eq!(current(&mirror.folder)?, current(&repository(&fixture))?);
    Ok(())
}

#[test]
fn a_server_that_goes_away_is_named_once_and_gone_on_with_when_it_is_back() -> Result<()> {
    let fixture = Fixture::new()?;
    let (root, folder) =
        (fixture.workspace().join("root.json"), fixture.workspace().with_file_name("mirror"));
    let (root, folder_) = (root.display().to_string(), folder.display().to_string());
    let url = Server::start(&repository(&fixture))?.url();
    let gone = run("upright-build", ["mirror", &url, &folder_, "--root", &root])?;
    let line = line_of("upright-build", &gone, 1)?;
    contains(line, &["cannot read", "Connection refused"])?;
    assert_eq!(line.matches(&url).count(), 1, "{line}");
    let mirror = Mirror { fixture: &fixture, folder };
    mirror.succeeds(&[])?;
    assert_eq!(current(&mirror.folder)?, current(&repository(&fixture))?);
    Ok(())
}

#[test]
fn a_mirror_that_is_killed_at_any_point_is_whole_and_goes_on() -> Result<()> {
    let fixture = Fixture::new()?;
    let mirror = Mirror::of(&fixture);
    mirror.succeeds(&[])?;
    fixture.build(&["publish", "1.1.0"])?;
    fixture.server.spoil("", Fault::Trickle(200_000));
    for sent in [100, 20_000, 60_000, 400_000, 1_000_000, 2_500_000] {
        fixture.server.reset_counts();
        let (url, folder_) = (fixture.server.url(), mirror.folder.display().to_string());
        let mut child = Command::new(folder()?.join("upright-build"))
            .args(["--quiet", "mirror", &url, &folder_])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()?;
        fixture.server.until_sent(sent, Duration::from_secs(30));
        child.kill()?;
        child.wait()?;
        assert!(matches!(mirror.offers()?.as_deref(), Some("1.0.0" | "1.1.0")), "killed after {sent} bytes");
    }
    fixture.server.mend();
    mirror.succeeds(&[])?;
    assert_eq!(current(&mirror.folder)?, current(&repository(&fixture))?);
    Ok(())
}

#[test]
fn what_is_exported_mirrored_and_exported_again_is_the_same() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let place = |name: &str| fixture.workspace().with_file_name(name);
    let text = |path: &Path| path.display().to_string();
    let (stick, file, site, again) = (place("stick"), place("a.tar"), place("site"), place("b.tar"));
    fs::create_dir(&stick)?;
    for out in [&stick, &file] {
        fixture.build(&["export", "--channel", "stable", "-o", &text(out)])?;
    }
    let root = text(&fixture.workspace().join("root.json"));
    let server = Server::start(&stick)?;
    for (number, source) in [server.url(), text(&stick), text(&file)].iter().enumerate() {
        let site = site.join(number.to_string());
        let arguments = ["mirror", source, &text(&site), "--root", &root, "--channel", "stable"];
        let ran = run("upright-build", arguments)?;
        assert_eq!(ran.status, 0, "{ran:?}");
        assert_eq!(files(&site, &[])?, files(&stick, &[])?);
        let out = text(&again);
        let arguments = [
            "-C",
            "/",
            "export",
            "--repository",
            &text(&site),
            "--root",
            &root,
            "--channel",
            "stable",
            "-o",
            &out,
        ];
        let ran = run("upright-build", arguments)?;
        assert_eq!(ran.status, 0, "{ran:?}");
        assert!(fs::read(&again)? == fs::read(&file)?, "other bytes by way of {source}");
    }
    Ok(())
}

#[test]
fn a_server_that_goes_back_is_not_followed_and_another_publishers_folder_is_left_alone() -> Result<()> {
    let fixture = Fixture::new()?;
    let old = fixture.workspace().with_file_name("old");
    assert!(Command::new("cp").arg("-r").arg(repository(&fixture)).arg(&old).status()?.success());
    fixture.build(&["publish", "1.1.0"])?;
    let mirror = Mirror::of(&fixture);
    mirror.succeeds(&[])?;
    let held = files(&mirror.folder, &[])?;
    let stale = Server::start(&old)?;
    let folder = mirror.folder.display().to_string();
    let ran = run("upright-build", ["mirror", &stale.url(), &folder])?;
    contains(line_of("upright-build", &ran, 4)?, &["rolled back: timestamp.json"])?;
    let other = Fixture::new()?;
    let root = other.workspace().join("root.json").display().to_string();
    let ran = run("upright-build", ["mirror", &other.server.url(), &folder, "--root", &root])?;
    assert!([3, 4].contains(&ran.status), "{ran:?}");
    assert_eq!(files(&mirror.folder, &[".partial"])?, held);
    Ok(())
}

#[test]
fn what_was_in_a_folder_before_the_first_copy_is_not_removed() -> Result<()> {
    let fixture = Fixture::new()?;
    let mirror = Mirror::of(&fixture);
    let photo = mirror.folder.join("payloads/family.jpg");
    fs::create_dir_all(mirror.folder.join("payloads"))?;
    fs::write(&photo, "not ours")?;
    // Half a run is no copy either.
    fs::create_dir_all(mirror.folder.join("metadata"))?;
    fs::write(mirror.folder.join("metadata/timestamp.json"), "{}")?;
    let told = mirror.succeeds(&["--prune"])?;
    assert_eq!((photo.exists(), &told["pruned"]), (true, &0.into()), "{told}");
    let note = told["notes"][0].as_str().unwrap_or_default();
    assert!(
        note.contains("held no copy before, so --prune removed nothing") && note.contains("family.jpg"),
        "{told}"
    );
    let told = mirror.succeeds(&["--prune"])?;
    assert_eq!((photo.exists(), &told["pruned"]), (false, &1.into()), "{told}");
    // The same on a medium, and a folder that was empty is worth no word.
    let medium = mirror.folder.with_file_name("medium");
    let export = |medium: &Path| -> Result<serde_json::Value> {
        let (place, to) = (repository(&fixture), medium.display().to_string() + "/");
        let place = place.display().to_string();
        let root = fixture.workspace().join("root.json").display().to_string();
        let what =
            ["export", "--channel", "stable", "--repository", &place, "--output", &to, "--root", &root];
        let ran = run("upright-build", [&what[..], &["--prune", "--json"]].concat())?;
        ensure!(ran.status == 0, "{ran:?}");
        ran.json()
    };
    assert_eq!(export(&medium)?["notes"], serde_json::json!([]));
    let other = mirror.folder.with_file_name("photos");
    fs::create_dir_all(other.join("payloads"))?;
    fs::write(other.join("payloads/family.jpg"), "not ours")?;
    assert_eq!(export(&other)?["pruned"], 0);
    assert!(other.join("payloads/family.jpg").exists());
    Ok(())
}

#[test]
fn only_what_nobody_refers_to_is_removed_and_only_when_asked() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let mirror = Mirror::of(&fixture);
    mirror.succeeds(&["--channel", "stable"])?;
    let stray = mirror.folder.join("payloads/stray.zst");
    fs::write(&stray, b"what an older release had")?;
    mirror.succeeds(&["--channel", "stable"])?;
    assert!(stray.exists());
    fixture.build(&["publish", "1.2.0"])?;
    let before = files(&mirror.folder, &[])?;
    let told = mirror.succeeds(&["--channel", "stable", "--prune"])?;
    assert_eq!((stray.exists(), &told["pruned"]), (false, &1.into()), "{told}");
    // Hosts may be in the middle of what the last state refers to.
    let payloads =
        |path: &&PathBuf| path.starts_with("payloads") && **path != Path::new("payloads/stray.zst");
    assert!(before.keys().filter(payloads).all(|path| mirror.folder.join(path).exists()));
    let told = mirror.succeeds(&["--channel", "stable", "--prune"])?;
    assert!(told["pruned"].as_u64() > Some(2), "{told}");
    assert!(!before.keys().filter(payloads).all(|path| mirror.folder.join(path).exists()));
    assert_eq!(mirror.offers()?.as_deref(), Some("1.2.0"));
    Ok(())
}
