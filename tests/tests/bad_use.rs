//! The programs in rough hands: outputs that are closed or full, interruptions, disks that fill up, the same command twice.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use upright_tests::fixture::Fixture;
use upright_tests::programs::{build, folder, run, upright};
use upright_tests::refusal::{Until, files, host_refuses, line_of};
use upright_tests::server::Fault;
use upright_tests::simulated::Sizes;

fn program(name: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(folder()?.join(name));
    command.args(arguments).stdin(Stdio::null());
    Ok(command)
}

/// The same, for [`interrupt`]: whoever runs the tests in the background ignores SIGINT, and so would the program.
fn interruptible(name: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new("env");
    command.arg("--default-signal=INT").arg(folder()?.join(name)).args(arguments).stdin(Stdio::null());
    Ok(command)
}

/// A pipe that nobody reads.
fn closed() -> Result<Stdio> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    Ok(writer.into())
}

#[test]
fn an_output_that_nobody_reads_is_no_failure_and_a_full_one_is_told() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let host = &fixture.host("host")?.display().to_string();
    let workspace = &fixture.workspace().display().to_string();
    let key = &fixture.workspace().join("keys/root.pem").display().to_string();
    let commands: [(&str, &[&str], i32); 9] = [
        ("upright", &["--root", host, "status"], 0),
        ("upright", &["--root", host, "status", "--json"], 0),
        ("upright", &["--root", host, "check"], 0),
        ("upright", &["--root", "/none/such", "status", "--json"], 6),
        ("upright-build", &["-C", workspace, "list"], 0),
        ("upright-build", &["-C", workspace, "list", "--json"], 0),
        ("upright-build", &["-C", "/none/such", "list"], 3),
        ("upright-keys", &["show", key], 0),
        ("upright-keys", &["show", key, "--format", "pem"], 0),
    ];
    for (name, arguments, status) in commands {
        let ended = program(name, arguments)?.stdout(closed()?).stderr(closed()?).status()?;
        assert_eq!(ended.code(), Some(status), "{name} {arguments:?} with its outputs closed");
        let mut full = program(name, arguments)?;
        full.stdout(File::create("/dev/full")?).stderr(File::create("/dev/full")?);
        let ended = full.status()?.code();
        assert!(ended == Some(1) || ended == Some(status) && status != 0, "{name} {arguments:?}: {ended:?}");
        if status == 0 {
            let ran = program(name, arguments)?
                .stdout(File::create("/dev/full")?)
                .stderr(Stdio::piped())
                .output()?;
            let text = String::from_utf8(ran.stderr)?;
            assert!(
                text.contains("cannot write to standard output: No space left"),
                "{name} {arguments:?}: {text}"
            );
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }
    // What is under way goes on without anyone to tell.
    let ended =
        program("upright", &["--root", host, "update"])?.stdout(closed()?).stderr(closed()?).status()?;
    assert_eq!(ended.code(), Some(0));
    let status = upright(Path::new(host), &["status", "--json"])?.json()?;
    assert_eq!(status["slots"][1]["version"], "1.1.0", "{status}");
    Ok(())
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    for (name, full) in [("closed", false), ("full", true)] {
        let host = fixture.host(name)?.display().to_string();
        let ends = |arguments: &[&str]| -> Result<Option<i32>> {
            let mut command = program("upright", &[&["--root", &host], arguments].concat())?;
            let stderr = if full { File::create("/dev/full")?.into() } else { closed()? };
            Ok(command.stdout(Stdio::null()).stderr(stderr).status()?.code())
        };
        // Each of them has something to log.
        let commands: [&[&str]; 7] = [
            &["-vv", "check"],
            &["-v", "update", "--reboot"],
            &["health"],
            &["rollback"],
            &["-v", "rollback"],
            &["health"],
            &["run", "--once"],
        ];
        for arguments in commands {
            assert_eq!(ends(arguments)?, Some(0), "{name} {arguments:?}");
        }
        let status = upright(Path::new(&host), &["status", "--json"])?.json()?;
        assert_eq!((&status["booted"], &status["slots"][1]["verdict"]), (&"b".into(), &"proven".into()));
    }
    Ok(())
}

#[test]
fn what_writes_much_can_be_cut_off_by_its_reader() -> Result<()> {
    let fixture = Fixture::new()?;
    for name in ["upright", "upright-build", "upright-keys"] {
        let ended = program(name, &["completions", "zsh"])?.stdout(closed()?).stderr(closed()?).status()?;
        assert_eq!(ended.code(), Some(0), "{name}");
    }
    let root = fixture.workspace().join("root.json").display().to_string();
    let combine = ["combine", &root, "--output", "-"];
    for stderr in [closed()?, File::create("/dev/full")?.into()] {
        let ended = program("upright-keys", &combine)?.stdout(Stdio::null()).stderr(stderr).status()?;
        assert_eq!(ended.code(), Some(0));
    }
    Ok(())
}

/// Sends SIGINT, as Ctrl-C does, and waits for the end.
fn interrupt(mut child: Child) -> Result<()> {
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)?;
    child.wait()?;
    Ok(())
}

#[test]
fn an_update_that_is_interrupted_is_taken_up_again() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let only_full = "[limits]\nwithout = [\"delta\", \"chunks\"]\n";
    let host = &fixture.host_with("host", only_full, Sizes::default())?;
    let before = files(host, &["var", "dev/root-b", "dev/root-b-verity"]).ok();
    fixture.server.spoil("payloads/", Fault::Stall(2_500_000));
    fixture.server.reset_counts();
    let child = interruptible("upright", &["--root", &host.display().to_string(), "update"])?
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    // Until it is in the middle; then nothing more comes.
    ensure!(fixture.server.until_sent(2_500_000, Duration::from_secs(60)), "it never began to fetch");
    interrupt(child)?;
    fixture.server.mend();
    let after = files(host, &["var", "dev/root-b", "dev/root-b-verity", "run"])?;
    let before = before.map(|files| files.into_iter().filter(|(path, _)| !path.starts_with("run")).collect());
    assert_eq!(Some(after), before);
    let status = upright(host, &["status", "--json"])?.json()?;
    assert_eq!((&status["booted"], &status["slots"][0]["version"]), (&"a".into(), &"1.0.0".into()));
    let again = upright(host, &["update"])?;
    assert_eq!(again.status, 0, "{again:?}");
    let once_more = upright(host, &["update"])?;
    assert_eq!((once_more.status, again.stdout), (0, once_more.stdout));
    Ok(())
}

#[test]
fn a_build_that_is_interrupted_leaves_nothing_in_the_way() -> Result<()> {
    let fixture = Fixture::new()?;
    let workspace = &fixture.workspace();
    let tree = workspace.with_file_name("1.1.0").display().to_string();
    let served = files(&workspace.join("repository"), &[])?;
    let arguments = ["-C", &workspace.display().to_string(), "build", &tree, "--version", "2.0.0"];
    let mut child =
        interruptible("upright-build", &arguments)?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    // In the middle: the tree is stored, the image is being written.
    while !workspace.join("builds/.2.0.0").exists() && child.try_wait()?.is_none() {
        std::thread::yield_now();
    }
    interrupt(child)?;
    assert_eq!(files(&workspace.join("repository"), &[])?, served);
    build(workspace, &["build", &tree, "--version", "2.0.0"])?;
    let again = build(workspace, &["build", &tree, "--version", "2.0.0"])?;
    assert!(again.stdout.contains("was built before, byte for byte"), "{again:?}");
    build(workspace, &["publish", "2.0.0"])?;
    let published = files(&workspace.join("repository"), &[])?;
    build(workspace, &["publish", "2.0.0"])?;
    assert_eq!(files(&workspace.join("repository"), &[])?, published);
    build(workspace, &["check"])?;
    let hidden = fs::read_dir(workspace.join("builds"))?.filter(|entry| {
        entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with('.'))
    });
    assert_eq!(hidden.count(), 0);
    Ok(())
}

/// Runs a publisher's command where no file may be larger than so many bytes, as on a disk that is full from there on.
fn with_small_files(bytes: u64, arguments: &[&str]) -> Result<upright_tests::programs::Ran> {
    let path = folder()?.join("upright-build");
    // The signal that goes with the limit would end the process before it can say anything.
    let script = format!("trap '' XFSZ; exec prlimit --fsize={bytes} \"$@\"");
    let output = Command::new("sh").args(["-c", &script, "sh"]).arg(path).args(arguments).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let status = output.status.code().unwrap_or(-1);
    Ok(upright_tests::programs::Ran { status, stdout: text(&output.stdout), stderr: text(&output.stderr) })
}

#[test]
fn a_publishers_disk_that_takes_no_more_leaves_the_last_release_served() -> Result<()> {
    let fixture = Fixture::new()?;
    let workspace = &fixture.workspace();
    let path = &workspace.display().to_string();
    let tree = &workspace.with_file_name("1.1.0").display().to_string();
    let served = files(&workspace.join("repository"), &[])?;
    for (bytes, arguments) in [
        (1 << 20, &["-C", path, "build", tree, "--version", "2.0.0"][..]),
        (3 << 20, &["-C", path, "build", tree, "--version", "2.0.0"]),
        (1 << 20, &["-C", path, "publish", "1.1.0"]),
        (100, &["-C", path, "publish", "1.1.0"]),
        (100, &["-C", path, "refresh"]),
        (1 << 20, &["-C", path, "disk", "1.0.0", "--simulated", "--output", "/none-such-host"]),
    ] {
        let ran = with_small_files(bytes, arguments)?;
        let line = line_of("upright-build", &ran, 1).with_context(|| format!("{bytes} {arguments:?}"))?;
        ensure!(line.contains("File too large"), "{line}");
        assert_eq!(files(&workspace.join("repository"), &[".staging"])?, served, "{line}");
    }
    ensure!(!Path::new("/none-such-host").exists(), "half a host");
    build(workspace, &["check"])?;
    build(workspace, &["build", tree, "--version", "2.0.0"])?;
    build(workspace, &["publish", "1.1.0"])?;
    Ok(())
}

#[test]
fn keys_and_documents_that_are_none() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("empty"), "")?;
    fs::write(path("noise"), upright_tests::fixture::noise(1, 1000))?;
    let made = run("upright-keys", ["new", &path("key"), "--unencrypted"])?;
    assert_eq!(made.status, 0, "{made:?}");
    let private = fs::read(path("key"))?;
    fs::write(path("half"), &private[..private.len() / 2])?;
    let [key, half, none, empty, noise, dir] = ["key", "half", "none", "empty", "noise", ""].map(path);
    let public = &format!("{key}.pub");
    let cases: [(&[&str], &[&str]); 15] = [
        (&["new", &key, "--unencrypted"], &["exists and is not overwritten"]),
        (&["new", &dir, "--unencrypted"], &["cannot write the key file", "Is a directory"]),
        (&["new", &none, "--passphrase", "env:NONE_SUCH"], &["NONE_SUCH", "is not set"]),
        (&["new", &none, "--passphrase", &format!("file:{empty}")], &["is empty"]),
        (&["show", &none], &["cannot read", "No such file"]),
        (&["show", &dir], &["Is a directory"]),
        (&["show", &empty], &["not an ed25519 public key: expected"]),
        (&["show", &noise], &["is not a key file"]),
        (&["show", &half], &["is not an ed25519 private key in PKCS#8 PEM"]),
        (&["show", "/dev/zero"], &["/dev/zero has more than"]),
        (&["sign", &none, "--key", &key], &["cannot read", "No such file"]),
        (&["sign", &noise, "--key", &key], &["not a document to sign"]),
        (&["sign", &empty, "--key", public], &["not a document to sign"]),
        (&["sign-request", &none, "--output", &path("out")], &["cannot read", "No such file"]),
        (&["combine", &empty, &none, "--output", &path("out")], &["not a document to sign"]),
    ];
    let bare = run("upright-keys", ["new", &none])?;
    ensure!(bare.status == 2 && bare.stderr.contains("<--passphrase <SOURCE>|--unencrypted>"), "{bare:?}");
    let before = files(folder.path(), &[])?;
    for (arguments, says) in cases {
        let ran = run("upright-keys", arguments)?;
        let line = line_of("upright-keys", &ran, 1).with_context(|| format!("{arguments:?}"))?;
        upright_tests::refusal::contains(line, says)?;
        // Each cause is told once.
        let parts: Vec<&str> = line.split(": ").collect();
        ensure!(parts.windows(2).all(|pair| pair[0] != pair[1]), "{line}");
        assert_eq!(files(folder.path(), &[])?, before, "{arguments:?}");
    }
    Ok(())
}

#[test]
fn commands_about_things_that_are_not_there() -> Result<()> {
    let fixture = Fixture::new()?;
    let workspace = &fixture.workspace();
    let folder = workspace.with_file_name("host");
    fixture.host("host")?;
    let file = workspace.join("root.json").display().to_string();
    let cases: [(&[&str], i32, &[&str]); 14] = [
        (&["disk", "9.9", "-o", "/none-such"], 3, &["9.9 has not been built", "run `upright-build build"]),
        (
            &["disk", "1.0.0", "--simulated", "-o", &folder.display().to_string()],
            3,
            &["exists, and a host's state"],
        ),
        (&["publish", "9.9"], 3, &["9.9 is neither built nor published", "run `upright-build build"]),
        (
            &["promote", "9.9", "--from", "stable", "--to", "stable"],
            3,
            &["stable points at 1.0.0, not at 9.9"],
        ),
        (&["rollout", "nightly", "--hold", "x"], 3, &["nightly is not a channel of acme: there are stable"]),
        (&["diff", "1.0.0", "9.9"], 3, &["9.9 has not been built"]),
        (&["check", "/none/such"], 3, &["is not a repository: it has no folder metadata/"]),
        (&["check", &file], 3, &["cannot be used", "it is not an export"]),
        (&["check", "http://127.0.0.1:1/"], 1, &["127.0.0.1:1", "Connection refused"]),
        (&["serve", &file], 3, &["cannot serve", "it is not a folder"]),
        (&["serve", "/none/such"], 1, &["cannot serve /none/such", "No such file"]),
        (&["init", &file, "--os", "acme"], 3, &["is a file; a new workspace needs a folder of its own"]),
        (&["init", &workspace.display().to_string(), "--os", "acme"], 3, &["is a workspace already"]),
        (
            &["refresh", "--passphrase", "file:/none/such"],
            1,
            &["cannot read the passphrase from file:/none/such"],
        ),
    ];
    for (arguments, status, says) in cases {
        let line = upright_tests::refusal::publisher_refuses(workspace, arguments, status, says)
            .with_context(|| format!("{arguments:?}"))?;
        let parts: Vec<&str> = line.split(": ").collect();
        ensure!(parts.windows(2).all(|pair| pair[0] != pair[1]), "a cause is told twice: {line}");
    }
    Ok(())
}

#[test]
fn a_release_that_its_slot_holds_is_taken_again_without_a_download() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.2.0"])?;
    let host = &fixture.host("host")?;
    assert_eq!(upright(host, &["update", "--reboot"])?.status, 0);
    // Its required service does not start, and the host is back on 1.0.0 after the reboot.
    assert_eq!(upright(host, &["health"])?.status, 1);
    assert_eq!(upright(host, &["status", "--json"])?.json()?["booted"], "a");
    fixture.server.reset_counts();
    let plan = upright(host, &["update", "--retry", "--dry-run"])?;
    let says =
        "would go from 1.0.0 to 1.2.0 in slot b, which holds it already: nothing is fetched or written\n";
    assert_eq!((plan.status, plan.stdout.as_str()), (0, says), "{plan:?}");
    let plan = upright(host, &["update", "--retry", "--dry-run", "--json"])?.json()?;
    assert_eq!((&plan["present"], &plan["writes"]), (&true.into(), &0.into()), "{plan}");
    let done = upright(host, &["update", "--retry", "--json"])?;
    let told = done.json()?;
    assert_eq!((done.status, &told["version"], &told["reboot_needed"]), (0, &"1.2.0".into(), &true.into()));
    let outcome = &told["history"]["outcome"];
    assert_eq!((&outcome["event"], &outcome["way"]["way"]), (&"applied".into(), &"present".into()), "{told}");
    assert_eq!(fixture.server.sent("payloads/") + fixture.server.sent("deltas/"), 0);
    let history = upright(host, &["history"])?.stdout;
    let last = history.lines().last().context("a line")?;
    ensure!(last.ends_with("1.2.0  its slot held it already; nothing was fetched or written"), "{history}");
    Ok(())
}

#[test]
fn nothing_is_taken_while_a_release_has_to_prove_itself() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let host = &fixture.host("host")?;
    assert_eq!(upright(host, &["update", "--reboot"])?.status, 0);
    fixture.build(&["publish", "1.2.0"])?;
    for command in [&["update"][..], &["update", "--dry-run"]] {
        let says = ["1.1.0 runs on trial", "`upright status`", "`upright rollback`"];
        host_refuses(host, command, 3, &says, Until::Decision)?;
    }
    assert_eq!(upright(host, &["health"])?.status, 0);
    assert_eq!(upright(host, &["update"])?.status, 0);
    Ok(())
}

#[test]
fn versions_that_run_already_or_are_not_there_are_told_apart() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let host = &fixture.host("host")?;
    let runs = upright(host, &["update", "--version", "1.0.0"])?;
    assert_eq!(runs.stdout, "1.0.0 runs already, and the channel offers 1.1.0; nothing to do\n", "{runs:?}");
    assert_eq!(runs.status, 0);
    let none = upright(host, &["update", "--version", "9"])?;
    let line = line_of("upright", &none, 5)?;
    ensure!(line.contains("there is no release 9 of acme for "), "{line}");
    ensure!(line.contains("`upright update` takes 1.1.0, which the channel points at"), "{line}");
    // A release that was proven and is switched to again has to prove itself again.
    assert_eq!(upright(host, &["update", "--reboot"])?.status, 0);
    assert_eq!(upright(host, &["health"])?.status, 0);
    let back = upright(host, &["update", "--version", "1.0.0", "--allow-downgrade"])?;
    assert_eq!(back.status, 0, "{back:?}");
    let status = upright(host, &["status"])?.stdout;
    ensure!(status.contains("1.0.0         trial, 3 boots left"), "{status}");
    Ok(())
}
