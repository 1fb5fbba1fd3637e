//! State that goes with its slot, with the real programs on a simulated host: what comes along, what comes back, what stays.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;
use upright_tests::fixture::{Fixture, file, make_tree};
use upright_tests::namespace::{REFUSED, in_namespace, refused};
use upright_tests::programs::{done, run, upright};
use upright_tests::simulated::{boot_without, slot, text};

/// What hosts get from `dist`.
const DEFAULTS: &[u8] = include_bytes!("../../dist/state.d/50-upright.conf");

/// A publisher whose releases from 1.1.0 on change a database.
fn publisher() -> Result<(TempDir, Fixture)> {
    let folder = TempDir::new()?;
    let fixture = Fixture::of(folder.path(), &["1.0.0", "1.1.0"], |tree, version| {
        make_tree(tree, version, 8080)?;
        file(tree, "usr/lib/upright/state.d/50-upright.conf", DEFAULTS)?;
        file(tree, "etc/shadow", format!("root:*:1\nservice-of-{version}:!:1\n").as_bytes())?;
        file(tree, "etc/app.conf", format!("default of {version}\n").as_bytes())?;
        if version != "1.0.0" {
            file(tree, "usr/lib/upright/state.d/60-app.conf", b"versioned /var/lib/app\n")?;
        }
        Ok(())
    })?;
    Ok((folder, fixture))
}

fn runs(host: &Path) -> Result<(String, String)> {
    let booted = slot(host, true)?;
    Ok((text(&booted["version"]), text(&booted["slot"])))
}

/// A path as whoever runs in the slot that is booted sees it: below /etc if it was changed, below /var.
fn place(host: &Path, path: &str) -> Result<PathBuf> {
    let own = host.join("var/lib/upright");
    let (_, slot) = runs(host)?;
    if let Some(path) = path.strip_prefix("/etc/") {
        return Ok(own.join("etc").join(slot).join("upper").join(path));
    }
    let path = path.trim_start_matches("/var/");
    let copy = own.join("versioned").join(slot).join("files").join(path);
    Ok(if copy.exists() { copy } else { host.join("var").join(path) })
}

fn put(host: &Path, path: &str, text: &str) -> Result<()> {
    let path = place(host, path)?;
    fs::create_dir_all(path.parent().context("no folder")?)?;
    Ok(fs::write(path, text)?)
}

fn get(host: &Path, path: &str) -> Result<Option<String>> {
    Ok(fs::read_to_string(place(host, path)?).ok())
}

#[test]
fn a_rollback_takes_configuration_and_databases_back_and_leaves_passwords() -> Result<()> {
    let (_folder, fixture) = publisher()?;
    let host = &fixture.host("host")?;
    done(host, &["status"])?;
    put(host, "/etc/shadow", "root:old:1\n")?;
    put(host, "/etc/hosts", "as it was")?;
    put(host, "/var/lib/app/db", "version 1")?;
    fixture.build(&["publish", "1.1.0"])?;
    done(host, &["update"])?;
    // Life goes on until the reboot.
    put(host, "/etc/motd", "written after staging")?;
    put(host, "/var/lib/app/db", "version 1, with more in it")?;
    done(host, &["update", "--reboot"])?;
    assert_eq!(runs(host)?.0, "1.1.0");
    assert_eq!(get(host, "/etc/motd")?.as_deref(), Some("written after staging"));
    assert_eq!(get(host, "/var/lib/app/db")?.as_deref(), Some("version 1, with more in it"));
    assert_eq!(get(host, "/etc/shadow")?.as_deref(), Some("root:old:1\nservice-of-1.1.0:!:1\n"));
    // The release migrates its database, an operator changes what there is to change.
    put(host, "/var/lib/app/db", "version 2")?;
    put(host, "/etc/hosts", "for 1.1.0")?;
    put(host, "/etc/shadow", "root:rotated:1\nservice-of-1.1.0:!:1\n")?;
    done(host, &["health"])?;
    done(host, &["rollback"])?;
    assert_eq!(runs(host)?.0, "1.0.0");
    assert_eq!(get(host, "/var/lib/app/db")?.as_deref(), Some("version 1, with more in it"));
    assert_eq!(get(host, "/etc/hosts")?.as_deref(), Some("as it was"));
    let shadow = get(host, "/etc/shadow")?.context("no passwords")?;
    assert!(shadow.starts_with("root:rotated:1\n") && shadow.contains("service-of-1.0.0"), "{shadow}");
    // And forward again.
    done(host, &["rollback"])?;
    assert_eq!(get(host, "/var/lib/app/db")?.as_deref(), Some("version 2"));
    assert_eq!(get(host, "/etc/hosts")?.as_deref(), Some("for 1.1.0"));
    Ok(())
}

/// What was tried and left begins with what there is now, not with what there was then.
#[test]
fn a_release_that_is_tried_again_begins_with_what_there_is_now() -> Result<()> {
    let (_folder, fixture) = publisher()?;
    let host = &fixture.host("host")?;
    done(host, &["status"])?;
    put(host, "/etc/hosts", "of the first try")?;
    put(host, "/var/lib/app/db", "version 1")?;
    fixture.build(&["publish", "1.1.0"])?;
    done(host, &["update", "--reboot"])?;
    put(host, "/var/lib/app/db", "version 2")?;
    // Left before it was proven.
    let told = done(host, &["rollback"])?.stdout;
    assert!(told.contains("as they were when slot a ran last") && told.contains(": /var/lib/app;"), "{told}");
    assert_eq!(get(host, "/var/lib/app/db")?.as_deref(), Some("version 1"));
    put(host, "/etc/hosts", "of weeks later")?;
    put(host, "/var/lib/app/db", "version 1, of weeks later")?;
    done(host, &["update", "--retry", "--reboot"])?;
    assert_eq!(runs(host)?.0, "1.1.0");
    assert_eq!(get(host, "/etc/hosts")?.as_deref(), Some("of weeks later"));
    assert_eq!(get(host, "/var/lib/app/db")?.as_deref(), Some("version 1, of weeks later"));
    Ok(())
}

/// On its last try, 1.1.0 proves healthy and the boot loader is not told; or somebody takes the old entry from the boot loader's menu.
#[test]
fn a_release_that_the_host_comes_back_to_by_itself_begins_with_what_there_is_now() -> Result<()> {
    for by_hand in [false, true] {
        let (_folder, fixture) = publisher()?;
        let host = &fixture.host("host")?;
        let config = host.join("etc/upright/upright.toml");
        let text = fs::read_to_string(&config)?;
        fs::write(
            &config,
            text.replace("[health]\n", &format!("[health]\ntries = {}\n", 1 + u8::from(by_hand))),
        )?;
        done(host, &["status"])?;
        put(host, "/var/lib/app/db", "version 1")?;
        fixture.build(&["publish", "1.1.0"])?;
        done(host, &["update", "--reboot"])?;
        put(host, "/var/lib/app/db", "version 2")?;
        if by_hand {
            boot_without(host, "acme_1.1.0+1-1.efi")?;
        } else {
            let script = format!(
                "{REFUSED}mount --bind esp esp; mount -o remount,ro,bind esp; refused health upright --root . health"
            );
            in_namespace(host, &script)?;
            assert_ne!(refused(host, "health")?.status, 0);
            fs::remove_file(host.join("run/cmdline"))?;
        }
        assert_eq!(runs(host)?.0, "1.0.0");
        put(host, "/var/lib/app/db", "version 1, of weeks later")?;
        put(host, "/etc/hosts", "of weeks later")?;
        done(host, &["run", "--once"])?;
        assert_eq!(runs(host)?.0, "1.1.0", "by hand: {by_hand}");
        assert_eq!(get(host, "/var/lib/app/db")?.as_deref(), Some("version 1, of weeks later"));
        assert_eq!(get(host, "/etc/hosts")?.as_deref(), Some("of weeks later"));
    }
    Ok(())
}

/// The next boot would find nothing of it, and take old copies for current.
#[test]
fn nothing_is_installed_while_state_is_in_memory() -> Result<()> {
    let (_folder, fixture) = publisher()?;
    let host = &fixture.host("host")?;
    done(host, &["status"])?;
    fixture.build(&["publish", "1.1.0"])?;
    fs::write(host.join("run/volatile"), "")?;
    let before = fs::read(host.join("dev/root-b"))?;
    for arguments in [&["update"][..], &["run", "--once"], &["reset", "--yes"]] {
        let refused = upright(host, arguments)?;
        assert_eq!(refused.status, 6, "{refused:?}");
        assert!(refused.stderr.contains("keeps its own in memory only"), "{refused:?}");
    }
    assert!(before == fs::read(host.join("dev/root-b"))?);
    assert!(!host.join("var/lib/upright/reset").exists() && !host.join("var/lib/upright/fresh").exists());
    // Once a boot has its state on the disk, all is as ever.
    fs::remove_file(host.join("run/cmdline"))?;
    done(host, &["update", "--reboot"])?;
    assert_eq!(runs(host)?.0, "1.1.0");
    // Such a boot is one of a slot whose own data cannot be reached.
    fs::remove_file(host.join("var/lib/upright/versioned/b/paths"))?;
    fs::remove_file(host.join("run/cmdline"))?;
    done(host, &["status"])?;
    assert!(host.join("run/volatile").exists());
    Ok(())
}

#[test]
fn a_reset_is_carried_out_by_the_next_boot_and_can_be_taken_back() -> Result<()> {
    let (_folder, fixture) = publisher()?;
    let host = &fixture.host("host")?;
    done(host, &["status"])?;
    fixture.build(&["publish", "1.1.0"])?;
    done(host, &["update", "--reboot"])?;
    done(host, &["health"])?;
    let fill = || -> Result<()> {
        put(host, "/etc/hosts", "mine")?;
        put(host, "/etc/machine-id", "0123")?;
        put(host, "/var/lib/app/db", "x")
    };
    fill()?;
    // Nobody is asked here, so nothing is done.
    let refused = upright(host, &["reset"])?;
    assert_eq!(refused.status, 3, "{refused:?}");
    assert!(refused.stderr.contains("--yes"), "{refused:?}");
    done(host, &["reset", "--yes", "--var"])?;
    let told = done(host, &["status"])?.stdout;
    assert!(told.contains("reset: the next boot resets /etc and /var to the image"), "{told}");
    assert_eq!(done(host, &["status", "--json"])?.json()?["reset"]["var"], true);
    done(host, &["reset", "--cancel"])?;
    assert_eq!(done(host, &["status", "--json"])?.json()?["reset"], Value::Null);

    done(host, &["reset", "--yes", "--keep-identity", "--reboot"])?;
    assert_eq!((get(host, "/etc/hosts")?, get(host, "/etc/machine-id")?.as_deref()), (None, Some("0123")));
    assert_eq!(get(host, "/var/lib/app/db")?.as_deref(), Some("x"));
    let told = done(host, &["history"])?.stdout;
    assert!(told.contains("1.1.0  /etc was reset to the image, and this host's identity kept\n"), "{told}");
    // No rollback brings it back.
    done(host, &["rollback"])?;
    assert_eq!((get(host, "/etc/hosts")?, get(host, "/etc/machine-id")?.as_deref()), (None, Some("0123")));
    done(host, &["rollback"])?;

    fill()?;
    done(host, &["reset", "--yes", "--var", "--reboot"])?;
    for gone in ["/etc/hosts", "/etc/machine-id", "/var/lib/app/db"] {
        assert_eq!(get(host, gone)?, None, "{gone}");
    }
    // What was taken and left is remembered, and so is what was seen of the publisher.
    assert_eq!(runs(host)?.0, "1.1.0");
    let history = done(host, &["history", "--json"])?.json()?;
    assert!(history.as_array().is_some_and(|entries| entries.len() > 2), "{history}");
    // Who looks first may be one who writes nothing, and it is told once.
    done(host, &["channel", "--default"])?;
    let history = done(host, &["history", "--json"])?.json()?;
    let resets: Vec<&Value> = history
        .as_array()
        .into_iter()
        .flatten()
        .filter(|entry| entry["outcome"]["event"] == "reset")
        .collect();
    assert_eq!(resets.len(), 2, "{history}");
    assert_eq!(resets[1]["outcome"]["reset"], serde_json::json!({ "var": true, "keep_identity": false }));
    assert!(!host.join("var/lib/upright/reset-done").exists());
    assert!(host.join("var/lib/upright/tuf/timestamp.json").exists());
    Ok(())
}

#[test]
fn a_reset_that_has_no_room_for_what_it_keeps_empties_nothing_and_is_told() -> Result<()> {
    let (_folder, fixture) = publisher()?;
    let host = &fixture.host("host")?;
    done(host, &["status"])?;
    put(host, "/etc/hosts", "mine")?;
    put(host, "/etc/machine-id", "0123")?;
    let script = format!(
        "{REFUSED}
        cp -a var/lib/upright kept && mount -t tmpfs -o size=600k none var/lib/upright && rm -f kept/reserve
        cp -a kept/. var/lib/upright
        upright --root . reset --yes --keep-identity >/dev/null
        cat /dev/zero >var/lib/upright/filler 2>/dev/null || true
        for boot in 1 2; do rm run/cmdline; refused $boot upright --root . status; done
        refused why upright --root . why
        refused doctor upright --root . doctor
        refused full upright --root . reset --yes
        refused asked upright --root . reset --yes --keep-identity
        cp -a var/lib/upright/etc etc-after
        rm var/lib/upright/filler run/cmdline
        refused done upright --root . status
        upright --root . history >history
        ls -R var/lib/upright >files"
    );
    in_namespace(host, &script)?;
    let says = "reset: the last boot could not carry it out: no room for what it keeps: ";
    for name in ["1", "2", "why"] {
        let told = refused(host, name)?;
        assert!(
            told.stdout.contains(says) && told.stdout.contains(" bytes are needed in /var, which has 0: "),
            "{told:?}"
        );
    }
    let ill = refused(host, "doctor")?;
    assert!(ill.status == 6 && ill.stdout.contains(&format!("WRONG  {says}")), "{ill:?}");
    assert_eq!(fs::read_to_string(host.join("etc-after/a/upper/hosts"))?, "mine");
    let full = refused(host, "full")?.stderr;
    assert_eq!(
        (full.matches("cannot write").count(), full.matches("free some space").count()),
        (1, 1),
        "{full}"
    );
    // Nor can the same be asked for again, and what was asked for before stands.
    let asked = refused(host, "asked")?;
    assert_eq!(asked.status, 3, "{asked:?}");
    assert!(
        asked.stderr.contains("no room for what a reset keeps: ") && asked.stderr.contains(", which has 0: "),
        "{asked:?}"
    );
    // Room was made.
    assert!(!refused(host, "done")?.stdout.contains("reset:"));
    assert!(
        fs::read_to_string(host.join("history"))?
            .contains("/etc was reset to the image, and this host's identity kept")
    );
    let files = fs::read_to_string(host.join("files"))?;
    assert!(
        files.contains("machine-id")
            && !files.contains("hosts")
            && !files.contains("reset-ready")
            && !files.contains("reset\n"),
        "{files}"
    );
    Ok(())
}

#[test]
fn a_release_whose_copies_cannot_be_made_is_refused_before_anything_is_erased() -> Result<()> {
    let (_folder, fixture) = publisher()?;
    let host = &fixture.host("host")?;
    done(host, &["status"])?;
    std::os::unix::fs::symlink("elsewhere", host.join("var/lib/app"))?;
    fixture.build(&["publish", "1.1.0"])?;
    let before = fs::read(host.join("dev/root-b"))?;
    let refused = upright(host, &["update"])?;
    assert_eq!(refused.status, 3, "{refused:?}");
    assert!(
        refused.stderr.contains("/var/lib/app cannot be kept for each slot: a symbolic link"),
        "{refused:?}"
    );
    assert!(before == fs::read(host.join("dev/root-b"))?);
    Ok(())
}

/// Between the last look and the first boot, it became impossible.
#[test]
fn a_release_that_would_start_on_the_only_copy_is_left_and_why_says_so() -> Result<()> {
    let (_folder, fixture) = publisher()?;
    let host = &fixture.host("host")?;
    done(host, &["status"])?;
    put(host, "/var/lib/app/db", "version 1")?;
    fixture.build(&["publish", "1.1.0"])?;
    done(host, &["update"])?;
    fs::rename(host.join("var/lib/app"), host.join("var/lib/moved"))?;
    std::os::unix::fs::symlink("moved", host.join("var/lib/app"))?;
    // Somebody pulls the plug, so that the agent has no say.
    fs::remove_file(host.join("run/cmdline"))?;
    assert_eq!(runs(host)?.0, "1.0.0");
    let why = done(host, &["why"])?.stdout;
    assert!(why.contains("1.1.0") && why.contains("it was not started, for the sake of its data"), "{why}");
    assert!(why.contains("/var/lib/app cannot be kept for each slot"), "{why}");
    assert_eq!(get(host, "/var/lib/app/db")?.as_deref(), Some("version 1"));
    // It is tried again at an operator's word, and once it can be done, it is.
    fs::remove_file(host.join("var/lib/app"))?;
    fs::rename(host.join("var/lib/moved"), host.join("var/lib/app"))?;
    done(host, &["update", "--retry", "--reboot"])?;
    assert_eq!(runs(host)?.0, "1.1.0");
    put(host, "/var/lib/app/db", "version 2")?;
    done(host, &["health"])?;
    done(host, &["rollback"])?;
    assert_eq!(get(host, "/var/lib/app/db")?.as_deref(), Some("version 1"));
    Ok(())
}

#[test]
fn copies_that_do_not_fit_are_refused_with_the_exact_shortfall_before_anything_is_erased() -> Result<()> {
    let (_folder, fixture) = publisher()?;
    let host = &fixture.host("host")?;
    done(host, &["status"])?;
    fixture.build(&["publish", "1.1.0"])?;
    // A database of 6 MiB in a /var of 10.
    let script = format!(
        "{REFUSED}
        mkdir kept; cp -a var/. kept/; mount -t tmpfs -o size=10m tmpfs var; cp -a kept/. var/
        mkdir -p var/lib/app; head -c 6291456 /dev/zero > var/lib/app/db
        cp dev/root-b before
        refused update upright --root . update
        cmp before dev/root-b
        df --output=avail -B1 var | tail -n 1 > free
        rm var/lib/app/db; head -c 1048576 /dev/zero > var/lib/app/db
        upright --root . update
        upright --root . plan > plan
        head -c 6291456 /dev/zero > var/lib/app/db
        refused late upright --root . update --reboot
        # Somebody else reboots.
        rm run/cmdline
        upright --root . why > why
        upright --root . plan > short"
    );
    in_namespace(host, &script)?;
    let update = refused(host, "update")?;
    assert_eq!(update.status, 3, "{update:?}");
    let free: u64 = fs::read_to_string(host.join("free"))?.trim().parse()?;
    let says = format!("need 6291456 bytes in /var, which has {free}: {} bytes too few", 6_291_456 - free);
    assert!(update.stderr.contains(&says), "{says}: {update:?}");
    let read = |name: &str| fs::read_to_string(host.join(name));
    assert!(
        read("plan")?.contains("/var/lib/app: copied at the first boot, takes 1.05 MB"),
        "{}",
        read("plan")?
    );
    let late = refused(host, "late")?;
    assert!(
        late.status == 3 && late.stdout.is_empty() && late.stderr.contains("make room there"),
        "{late:?}"
    );
    // Used up after the switch: the boots of the release are stopped, and the one before it runs on.
    let why = read("why")?;
    assert!(why.contains("it was not started") && why.contains("bytes too few"), "{why}");
    assert!(read("short")?.contains("bytes too few, so the release would not start"), "{}", read("short")?);
    Ok(())
}

/// What `plan --json` says of each path that is in the way.
fn differences(plan: &Value) -> Vec<String> {
    let all = plan["differences"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.iter()
        .map(|difference| format!("{} {}", text(&difference["path"]), text(&difference["because"])))
        .collect()
}

#[test]
fn plan_shows_which_changes_hide_which_defaults_before_the_reboot() -> Result<()> {
    let (_folder, fixture) = publisher()?;
    let host = &fixture.host("host")?;
    let nothing = upright(host, &["plan"])?;
    assert_eq!(nothing.status, 3, "{nothing:?}");
    put(host, "/etc/app.conf", "mine\n")?;
    put(host, "/etc/hosts", "mine")?;
    put(host, "/etc/shadow", "root:new:1\n")?;
    put(host, "/etc/machine-id", "0123")?;
    put(host, "/var/lib/app/db", "version 1")?;
    fixture.build(&["publish", "1.1.0"])?;
    done(host, &["update"])?;
    let plan = done(host, &["plan", "--json"])?.json()?;
    assert_eq!(differences(&plan), ["/etc/app.conf changed"]);
    assert_eq!(plan["local"], serde_json::json!(["/etc/hosts", "/etc/machine-id"]));
    assert_eq!((&plan["first_boot"], &plan["version"]), (&true.into(), &"1.1.0".into()));
    assert_eq!(plan["follows"][0], serde_json::json!({ "path": "/etc/machine-id", "kind": "identity" }));
    assert_eq!(plan["versioned"][0]["path"], "/var/lib/app");
    let text = done(host, &["plan"])?.stdout;
    for line in [
        "1.1.0 in slot b: its first boot begins with the /etc of the slot that runs",
        "/etc/app.conf: changed here and in 1.1.0; what is here counts",
        "local changes in the way of nothing: 2 (`--all` lists them)",
        "/etc/shadow: follows this host, with the users that only the release knows",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(done(host, &["plan", "--all"])?.stdout.contains("\n    /etc/hosts\n"));
    // What a rollback goes to is told in the same way.
    done(host, &["update", "--reboot"])?;
    done(host, &["health"])?;
    put(host, "/etc/only-new", "x")?;
    let back = done(host, &["plan", "--json"])?.json()?;
    assert_eq!((&back["version"], &back["first_boot"]), (&"1.0.0".into(), &false.into()));
    assert_eq!(back["stays"], serde_json::json!(["/etc/only-new"]));
    // It was never copied for 1.0.0, and comes back all the same.
    assert_eq!(back["versioned"], serde_json::json!([{ "path": "/var/lib/app", "bytes": 0 }]));
    // A name is one line, whatever is in it.
    put(host, "/etc/two\nlines", "x")?;
    assert!(done(host, &["plan", "--all"])?.stdout.contains("    /etc/two\\nlines\n"));
    // A reset goes before all of that.
    done(host, &["reset", "--yes", "--keep-identity"])?;
    let text = done(host, &["plan", "--all"])?.stdout;
    assert!(text.starts_with("1.0.0 in slot a: the next boot resets /etc to the image, and keeps"), "{text}");
    assert!(text.contains("/etc/machine-id: follows this host") && !text.contains("only-new"), "{text}");
    done(host, &["reset", "--yes"])?;
    let plan = done(host, &["plan", "--json"])?.json()?;
    assert_eq!(
        (&plan["stays"], &plan["local"], &plan["follows"]),
        (&Value::Array(vec![]), &Value::Array(vec![]), &Value::Array(vec![]))
    );
    assert_eq!(plan["reset"], serde_json::json!({ "var": false, "keep_identity": false }));
    fs::write(host.join("var/lib/upright/reset"), "garbage")?;
    let text = done(host, &["plan"])?.stdout;
    assert!(text.contains("warning: the reset that was asked for cannot be read"), "{text}");
    Ok(())
}

#[test]
fn declarations_that_hosts_would_not_understand_are_refused_with_their_line() -> Result<()> {
    let (folder, fixture) = publisher()?;
    let tree = folder.path().join("1.1.0");
    file(&tree, "usr/lib/upright/state.d/70-bad.conf", b"# a database\nversioned /etc/app\n")?;
    let workspace = fixture.workspace();
    let arguments =
        [workspace.as_os_str(), "build".as_ref(), tree.as_os_str(), "--version".as_ref(), "1.3.0".as_ref()];
    let ran = run("upright-build", ["-C".as_ref()].into_iter().chain(arguments))?;
    assert_eq!(ran.status, 3, "{ran:?}");
    let says = "usr/lib/upright/state.d/70-bad.conf:2: a path below /var is wanted";
    assert!(ran.stderr.contains(says) && ran.stderr.trim().lines().count() == 1, "{ran:?}");
    Ok(())
}
