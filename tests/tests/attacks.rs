//! Attacks on a host through its repository and its store, end to end: the real agent, over HTTP, on a simulated host.
//!
//! `docs/trust-model.md` lists all attacks and where each is tested; those here need more than one part of the agent.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;
use upright_keys::KeyPair;
use upright_manifests::digest::Digest;
use upright_manifests::name::Arch;
use upright_tests::fixture::Fixture;
use upright_tests::forger::Forger;
use upright_tests::programs::{done, upright};
use upright_tests::server::Fault;
use upright_tests::simulated::Sizes;

/// Takes the full payload alone.
const ONLY_FULL: &str = "[limits]\nwithout = [\"delta\", \"chunks\"]\n";

/// Looks for an update that must be refused, in one line with these words, and must change nothing that boots.
fn refused(host: &Path, status: i32, says: &[&str]) -> Result<()> {
    let slots = || -> Result<Vec<Digest>> {
        let files = ["dev/root-a", "dev/root-a-verity"].into_iter().map(|file| host.join(file));
        let entries = fs::read_dir(host.join("esp/EFI/Linux"))?.map(|entry| entry.map(|entry| entry.path()));
        let files = files.map(Ok).chain(entries).collect::<Result<Vec<PathBuf>, _>>()?;
        files.iter().map(|file| Ok(Digest::of(&fs::read(file)?))).collect()
    };
    let before = slots()?;
    let ran = upright(host, &["update"])?;
    assert_eq!(ran.status, status, "{ran:?}");
    let line = ran.stderr.lines().last().unwrap_or_default();
    for part in says {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
    assert!(slots()? == before, "something that boots has changed: {ran:?}");
    Ok(())
}

/// Makes the host one that has never asked.
fn forget(host: &Path) -> Result<()> {
    match host.join("var/lib/upright/tuf").exists() {
        true => done(host, &["reset-trust", "--force"]).map(drop),
        false => Ok(()),
    }
}

fn updates(host: &Path) -> Result<()> {
    let ran = upright(host, &["update"])?;
    assert_eq!(ran.status, 0, "{ran:?}");
    Ok(())
}

/// The metadata as it is now, to go back to.
struct Metadata(PathBuf, Vec<(PathBuf, Vec<u8>)>);

impl Metadata {
    fn of(fixture: &Fixture) -> Result<Self> {
        let folder = fixture.workspace().join("repository/metadata");
        let mut files = vec![];
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            files.push((path.clone(), fs::read(path)?));
        }
        Ok(Self(folder, files))
    }

    /// The newest document of a role: `7.targets.json` is version 7 of targets.
    fn latest(&self, role: &str) -> &(PathBuf, Vec<u8>) {
        let version = |path: &Path| {
            let (version, rest) = path.file_name()?.to_str()?.split_once('.')?;
            (rest == format!("{role}.json")).then(|| version.parse::<u64>().ok())?
        };
        self.1.iter().max_by_key(|(path, _)| version(path)).unwrap()
    }

    fn restore(&self) -> Result<()> {
        fs::remove_dir_all(&self.0)?;
        fs::create_dir(&self.0)?;
        Ok(self.1.iter().try_for_each(|(path, bytes)| fs::write(path, bytes))?)
    }
}

#[test]
fn what_the_publisher_did_not_sign_in_the_right_role_is_refused() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let host = &fixture.host("host")?;
    let good = Metadata::of(&fixture)?;
    let forger = Forger::new(&fixture.workspace());
    let stranger = KeyPair::from_seed([9; 32]);
    let [targets, snapshot, timestamp] = ["targets", "snapshot", "timestamp"].map(|role| forger.stolen(role));
    let (targets, snapshot, timestamp) = (targets?, snapshot?, timestamp?);
    let evil = |document: &mut serde_json::Value| {
        document["targets"]["releases/acme/x86-64/9.json"] =
            json!({ "length": 1, "hashes": { "sha256": "00" } });
    };
    // Arbitrary software, by someone with no key, with the online keys, or with all keys but in each other's roles.
    for (keys, document) in [
        ([&stranger, &stranger, &stranger], "timestamp.json"),
        ([&stranger, &stranger, &timestamp], "snapshot.json"),
        ([&stranger, &snapshot, &timestamp], "targets.json"),
        ([&timestamp, &snapshot, &timestamp], "targets.json"),
        ([&targets, &timestamp, &timestamp], "snapshot.json"),
        ([&targets, &snapshot, &targets], "timestamp.json"),
    ] {
        forger.targets(keys, evil)?;
        refused(host, 4, &[document, "not signed by those whom root appoints"])?;
        good.restore()?;
        // What came before the document that is refused was signed, and has been kept.
        forget(host)?;
    }
    // A freeze: what has expired is refused though it is signed and new to this host.
    forger.timestamp(&[&timestamp], |timestamp| timestamp["expires"] = json!("2026-01-02T00:00:00Z"))?;
    refused(host, 4, &["timestamp.json", "expired"])?;
    good.restore()?;
    updates(host)
}

#[test]
fn nothing_goes_back_to_what_was_before() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    let old = Metadata::of(&fixture)?;
    fixture.build(&["publish", "1.1.0"])?;
    let new = Metadata::of(&fixture)?;
    for command in [&["run", "--once"][..], &["health"]] {
        let ran = upright(host, command)?;
        assert_eq!(ran.status, 0, "{ran:?}");
    }
    // A mirror that stays behind.
    old.restore()?;
    refused(host, 4, &["timestamp.json", "rolled back", "this host has seen"])?;
    // One that mixes two publications: the old targets under the new name.
    new.restore()?;
    fixture.build(&["refresh", "--role", "targets"])?;
    let newest = Metadata::of(&fixture)?;
    for role in ["snapshot", "targets"] {
        fs::write(&newest.latest(role).0, &old.latest(role).1)?;
        refused(host, 4, &[role, "mixes two publications"])?;
        newest.restore()?;
    }
    // A publisher's own signature under an older release does not bring it back.
    fixture.build(&["publish", "1.0.0", "--allow-downgrade"])?;
    refused(host, 3, &["older"])
}

#[test]
fn a_channel_that_names_another_manifest_is_refused() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let host = &fixture.host("host")?;
    let good = Metadata::of(&fixture)?;
    let another = json!(Digest::of(b"another"));
    // Nor is one of another channel, or one of a length that no channel file has.
    for (field, value, length, says) in [
        ("manifest", another, None, "1.1.0.json is not the manifest that channel stable names"),
        ("channel", json!("beta"), None, "stable.json describes channel beta"),
        ("version", json!("1.1.0"), Some(1_u64 << 40), "stable.json is signed with 1099511627776 bytes"),
    ] {
        point(&fixture, length, |channel| channel[field] = value)?;
        refused(host, 4, &[says])?;
        good.restore()?;
        forget(host)?;
    }
    updates(host)
}

/// Signs a changed channel file of stable, and perhaps a false length for it.
fn point(fixture: &Fixture, length: Option<u64>, change: impl FnOnce(&mut serde_json::Value)) -> Result<()> {
    let forger = Forger::new(&fixture.workspace());
    let [targets, snapshot, timestamp] = ["targets", "snapshot", "timestamp"].map(|role| forger.stolen(role));
    forger.targets([&targets?, &snapshot?, &timestamp?], |document| {
        let path = format!("channels/acme/{}/stable.json", Arch::HERE);
        let folder = fixture.workspace().join(format!("repository/channels/acme/{}", Arch::HERE));
        let digest = document["targets"][&path]["hashes"]["sha256"].as_str().unwrap();
        let text = fs::read(folder.join(format!("{digest}.stable.json"))).unwrap();
        let mut channel: serde_json::Value = serde_json::from_slice(&text).unwrap();
        change(&mut channel);
        let text = channel.to_string();
        let digest = Digest::of(text.as_bytes());
        fs::write(folder.join(format!("{digest}.stable.json")), &text).unwrap();
        let length = length.unwrap_or(text.len() as u64);
        document["targets"][&path] = json!({ "length": length, "hashes": { "sha256": digest } });
    })
}

#[test]
fn a_channel_file_or_a_manifest_that_a_mirror_has_edited_is_refused() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let host = &fixture.host("host")?;
    // Another version, or another time: well-formed, and not a byte longer.
    for (kind, from, to) in [
        ("channels", "\"version\": \"1.1.0\"", "\"version\": \"1.1.9\""),
        ("releases", "\"time\": \"20", "\"time\": \"19"),
    ] {
        let mut edited = 0;
        for entry in fs::read_dir(fixture.workspace().join(format!("repository/{kind}/acme/{}", Arch::HERE)))?
        {
            let path = entry?.path();
            let text = fs::read_to_string(&path)?;
            if !text.contains("\"1.1.0\"") || !text.contains(from) {
                continue;
            }
            edited += 1;
            fs::write(&path, text.replacen(from, to, 1))?;
            refused(host, 4, &[kind, "sha256"])?;
            fs::write(&path, text)?;
        }
        assert_eq!(edited, 1, "{kind}");
    }
    updates(host)
}

#[test]
fn answers_without_end_are_cut_off() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let host = &fixture.host_with("host", ONLY_FULL, Sizes::default())?;
    for (path, says) in [
        ("root.json", "root.json"),
        ("timestamp.json", "timestamp.json"),
        ("snapshot.json", "snapshot.json"),
        ("channels/", "channels/"),
        ("payloads/", "payloads/"),
    ] {
        for announced in [true, false] {
            fixture.server.reset_counts();
            fixture.server.spoil(path, Fault::Endless { announced });
            refused(host, 4, &[says])?;
            // What the agent reads is bounded; the rest is what sockets hold, for each of a few tries.
            let sent = fixture.server.sent(path);
            assert!(sent < 64 << 20, "{sent} bytes of {path} were sent");
            fixture.server.mend();
        }
    }
    updates(host)
}

#[test]
fn a_mirror_that_changes_its_answers_is_found_out() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let host = &fixture.host_with("host", ONLY_FULL, Sizes::default())?;
    // Cut off in the middle, and then another file from there on.
    fixture.server.spoil("payloads/", Fault::Flip(1_200_000));
    fixture.server.spoil_times("payloads/", Fault::Cut(1_000_000), 1);
    refused(host, 4, &["by full", "sha256"])?;
    fixture.server.mend();
    // A first answer that is wrong costs another question, no more.
    for path in ["channels/", "releases/"] {
        fixture.server.spoil_times(path, Fault::Flip(30), 1);
        refused(host, 4, &[path, "sha256"])?;
    }
    fixture.server.spoil_times("payloads/", Fault::Flip(1_200_000), 2);
    updates(host)
}

#[test]
fn a_store_that_was_tampered_with_is_not_believed_and_can_be_repaired() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    fixture.build(&["refresh"])?;
    assert_eq!(upright(host, &["check"])?.status, 0);
    fixture.build(&["publish", "1.1.0"])?;
    let stored = host.join("var/lib/upright/tuf");
    let reset = upright(host, &["reset-trust"])?;
    assert_eq!(reset.status, 3, "what is whole is not thrown away: {reset:?}");
    let elsewhere = host.join("elsewhere.json");
    for damage in ["link", "folder", "empty"] {
        // Whose agent does not remember what it has seen.
        done(host, &["reset-state", "--force"])?;
        let path = stored.join("timestamp.json");
        fs::rename(&path, &elsewhere)?;
        match damage {
            "link" => symlink(&elsewhere, &path)?,
            "folder" => fs::create_dir(&path)?,
            _ => fs::write(&path, b"")?,
        }
        refused(host, 6, &["timestamp.json", "damaged", "`upright reset-trust`"])?;
        let reset = upright(host, &["reset-trust"])?;
        assert_eq!(reset.status, 0, "{damage}: {reset:?}");
        assert!(host.join("var/lib/upright/tuf.damaged").is_dir() && !stored.exists());
        assert_eq!(upright(host, &["check"])?.status, 0, "{damage}");
        fs::remove_file(&elsewhere)?;
    }
    // A link in place of the whole folder, to an older copy of it or to nothing.
    for target in ["tuf.older", "nothing"] {
        fs::rename(&stored, stored.with_file_name("tuf.older"))?;
        symlink(target, &stored)?;
        refused(host, 6, &["a link, not a folder", "`upright reset-trust`"])?;
        assert_eq!(upright(host, &["reset-trust"])?.status, 0, "{target}");
        assert_eq!(upright(host, &["check"])?.status, 0, "{target}");
        fs::remove_dir_all(stored.with_file_name("tuf.older"))?;
    }
    updates(host)
}

#[test]
fn metadata_that_was_damaged_on_the_host_is_fetched_anew_and_nothing_older_is_taken() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    let [stored, elsewhere] = ["var/lib/upright/tuf", "elsewhere"].map(|name| host.join(name));
    // So that there is a root other than the one that came with the image.
    fixture.build(&["refresh", "--role", "root"])?;
    let old = Metadata::of(&fixture)?;
    fixture.build(&["refresh", "--role", "root"])?;
    let new = Metadata::of(&fixture)?;
    done(host, &["check"])?;
    let whole = ["root.json", "timestamp.json", "snapshot.json", "targets.json"];
    let whole = whole.map(|name| (name, fs::read(stored.join(name)).unwrap()));
    for (name, good) in &whole {
        let path = stored.join(name);
        for damage in ["flipped", "truncated", "empty", "link", "folder"] {
            fs::rename(&path, &elsewhere)?;
            match damage {
                "flipped" => fs::write(
                    &path,
                    String::from_utf8(good.clone())?.replacen("\"sig\": \"", "\"sig\": \"0", 1),
                )?,
                "truncated" => fs::write(&path, &good[..good.len() / 2])?,
                "empty" => fs::write(&path, b"")?,
                "link" => symlink(&elsewhere, &path)?,
                _ => fs::create_dir_all(path.join("inside"))?,
            }
            // Nobody is there to say anything. A server that went back is told as such, and teaches nothing.
            let mut log = String::new();
            if *name != "targets.json" {
                old.restore()?;
                let round = upright(host, &["run", "--once"])?;
                assert_eq!(round.status, 4, "{name} {damage}: {round:?}");
                assert!(round.stderr.contains("rolled back: "), "{round:?}");
                log = round.stderr;
                new.restore()?;
            }
            assert!(!upright(host, &["doctor"])?.stdout.contains("reset-trust"));
            log += &done(host, &["run", "--once"])?.stderr;
            let told = log.lines().any(|line| line.contains(name) && line.starts_with(" WARN"));
            assert!(told || *name == "targets.json", "{name} {damage}: {log}");
            assert!(!log.contains("reset-trust"), "{name} {damage}: {log}");
            assert_eq!(&fs::read(&path)?, good, "{name} {damage}");
            assert!(path.symlink_metadata()?.is_file(), "{name} {damage}");
            assert!(!done(host, &["run", "--once"])?.stderr.contains(name), "{name} {damage}");
            fs::remove_file(&elsewhere)?;
        }
        // What was in the way has the name that it gets everywhere.
        let kept = ["left-0", "left-1/inside"].map(|ending| stored.join(format!("{name}.{ending}")));
        assert!(kept[0].is_symlink() && kept[1].is_dir(), "{name}");
    }
    // What is gone without a trace is not forgotten either.
    fs::remove_dir_all(&stored)?;
    old.restore()?;
    refused(host, 4, &["rolled back: "])?;
    new.restore()?;
    fixture.build(&["publish", "1.1.0"])?;
    updates(host)
}

#[test]
fn a_host_whose_trust_was_reset_remembers_no_version_that_it_has_seen() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    let old = Metadata::of(&fixture)?;
    fixture.build(&["refresh"])?;
    for is_lost in [false, true] {
        done(host, &["check"])?;
        let new = Metadata::of(&fixture)?;
        old.restore()?;
        if is_lost {
            fs::remove_dir_all(host.join("var/lib/upright/tuf"))?;
        }
        refused(host, 4, &["rolled back: "])?;
        assert_eq!(upright(host, &["reset-trust"])?.status, 3, "it is whole");
        done(host, &["reset-trust", "--force"])?;
        done(host, &["check"])?;
        new.restore()?;
    }
    Ok(())
}

/// What a host has seen is all that keeps older metadata away, and a wrong path is no reason to forget it.
#[test]
fn trust_is_not_thrown_away_where_there_is_no_root_to_start_from() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    let old = Metadata::of(&fixture)?;
    fixture.build(&["refresh"])?;
    done(host, &["check"])?;
    let root = host.join("usr/share/upright/root.json");
    let aside = root.with_extension("aside");
    for damage in [None, Some(&b"{}"[..])] {
        fs::rename(&root, &aside)?;
        if let Some(damage) = damage {
            fs::write(&root, damage)?;
        }
        let ill = upright(host, &["doctor"])?;
        assert_eq!(ill.status, 6, "{ill:?}");
        assert!(
            ill.stdout.contains("`repository.root` must name") && !ill.stdout.contains("reset-trust"),
            "{ill:?}"
        );
        for force in [&["reset-trust"][..], &["reset-trust", "--force"]] {
            let reset = upright(host, force)?;
            assert_eq!(reset.status, 6, "{reset:?}");
            assert!(reset.stderr.contains("nothing was set aside"), "{reset:?}");
        }
        fs::rename(&aside, &root)?;
    }
    old.restore()?;
    refused(host, 4, &["rolled back: "])
}
