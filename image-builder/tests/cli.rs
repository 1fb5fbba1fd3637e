//! The program as people and pipelines use it: from a root file system to an audited repository.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use upright_image_builder::repo::workspace::Workspace;

struct Shop {
    folder: TempDir,
}

impl Shop {
    fn new() -> Self {
        let shop = Self { folder: tempfile::tempdir().unwrap() };
        let workspace = shop.workspace().display().to_string();
        let made = shop.raw(&["init", &workspace, "--os", "acme", "--arch", "x86-64"]);
        assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
        let path = shop.workspace().join("upright.toml");
        let text = fs::read_to_string(&path).unwrap();
        let small = text
            .replace("slot = \"4GiB\"", "slot = \"16MiB\"")
            .replace("verity = \"40MiB\"", "verity = \"1MiB\"")
            .replace("esp = \"512MiB\"", "esp = \"64MiB\"")
            .replace("var = \"1GiB\"", "var = \"16MiB\"");
        fs::write(&path, small).unwrap();
        shop
    }

    fn workspace(&self) -> PathBuf {
        self.folder.path().join("w")
    }

    fn raw(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_upright-build"));
        command.args(arguments).env_remove("SOURCE_DATE_EPOCH").output().unwrap()
    }

    /// Runs a command in the workspace.
    fn run(&self, arguments: &[&str]) -> Output {
        let workspace = self.workspace().display().to_string();
        self.raw(&[&["-C", &workspace], arguments].concat())
    }

    /// The JSON of a command that succeeds.
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The one line of a command that fails with `code`.
    fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{text}");
        errors[0].trim_start_matches("error: ").replace(self.folder.path().to_str().unwrap(), "DIR")
    }

    /// A root file system whose `etc/issue` holds `text`.
    fn tar(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        write_tar(
            &path,
            &[
                ("etc/issue", text.as_bytes()),
                ("usr/lib/modules/6.1.0/initramfs.img", &pattern(300_000)),
                ("usr/lib/modules/6.1.0/vmlinuz", &kernel(200_000)),
                ("usr/lib/os-release", b"ID=acme\nNAME=Acme\n"),
            ],
        );
        path.display().to_string()
    }
}

fn write_tar(path: &Path, files: &[(&str, &[u8])]) {
    let mut tar = tar::Builder::new(File::create(path).unwrap());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        tar.append_data(&mut header, name, *content).unwrap();
    }
    tar.finish().unwrap();
}

/// Bytes that do not repeat within a block.
fn pattern(length: u32) -> Vec<u8> {
    (0..length / 4).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect()
}

/// The same behind the headers of an EFI program for x86-64, all of which that is looked at.
fn kernel(length: u32) -> Vec<u8> {
    let mut bytes = pattern(length);
    let fields: [(usize, &[u8]); 4] =
        [(0, b"MZ"), (0x3c, &[0x40, 0, 0, 0]), (0x40, b"PE\0\0\x64\x86\0\0"), (0x58, &[0x0b, 0x02])];
    for (at, field) in fields {
        bytes[at..at + field.len()].copy_from_slice(field);
    }
    bytes
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_passphrase_on_the_command_line_is_not_repeated() {
    let shop = Shop::new();
    let output = shop.run(&["--passphrase", "hunter2", "refresh"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("--passphrase") && !stderr(&output).contains("hunter2"),
        "{}",
        stderr(&output)
    );
}

/// Far beyond any clock that runs this.
const FUTURE: &str = "2199-01-01T00:00:00Z";

#[test]
fn no_release_is_of_the_future() {
    let shop = Shop::new();
    let source = shop.tar("1.tar", "one");
    let error = shop.refused(3, &["build", &source, "--version", "1.0", "--time", FUTURE]);
    assert!(
        error.starts_with("1.0 would be of 2199-01-01T00:00:00Z, and this machine's clock says "),
        "{error}"
    );
    assert!(error.ends_with("; set the clock, or give an earlier --time"), "{error}");
    assert!(!shop.workspace().join("builds/1.0").exists());
    // What the input says by chance, such as a file touched by a wrong clock, is no more than a note.
    let folder = shop.folder.path().join("tree");
    fs::create_dir(&folder).unwrap();
    let unpacked = Command::new("tar").args(["-xf", &source, "-C"]).arg(&folder).status().unwrap();
    assert!(unpacked.success());
    let touched = Command::new("touch").args(["-d", FUTURE]).arg(folder.join("etc/issue")).status().unwrap();
    assert!(touched.success());
    let output = shop.run(&["build", folder.to_str().unwrap(), "--version", "1.0"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let note = "the input's newest time is 2199-01-01T00:00:00Z, which has not come: the release is of ";
    assert!(stderr(&output).contains(note), "{}", stderr(&output));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("2199"));
}

#[test]
fn from_a_root_file_system_to_an_audited_repository() {
    let shop = Shop::new();
    let first = shop.json(&["build", &shop.tar("1.tar", "one"), "--version", "1.0"]);
    assert_eq!((&first["unchanged"], &first["time"]), (&false.into(), &"2023-11-14T22:13:20Z".into()));
    assert_eq!(shop.json(&["publish", "1.0"])["edges"], Value::Array(vec![]));
    let second = shop.json(&["build", &shop.tar("2.tar", "two"), "--version", "1.1"]);
    assert_eq!(second["base"], "1.0");
    let plan = shop.json(&["publish", "1.1", "--dry-run"]);
    assert_eq!(plan["make"][0]["from"], "1.0");
    let published = shop.json(&["publish", "1.1"]);
    assert_eq!(published["edges"][0]["from"], "1.0");
    assert!(published["edges"][0]["size"].as_u64().unwrap() < 2000, "{published}");
    assert_eq!(shop.json(&["publish", "1.1"])["changed"], false);
    let report = shop.json(&["check"]);
    assert_eq!((&report["errors"], &report["releases"]), (&Value::Array(vec![]), &2.into()), "{report}");
    let diff = shop.json(&["diff", "1.0", "1.1"]);
    assert_eq!(diff["changed"].as_array().unwrap().len(), 1);
    assert_eq!((&diff["changed"][0]["path"], &diff["added"]), (&"/etc/issue".into(), &Value::Array(vec![])));
    let held = shop.json(&["rollout", "stable", "--wave", "5%@now", "--wave", "100%@+1h", "--hold", "wait"]);
    assert_eq!((&held["waves"][0]["share"], &held["hold"]), (&500.into(), &"wait".into()));
    assert_eq!(shop.json(&["rollout", "stable", "--resume", "--everyone"])["waves"], Value::Null);
    let windows = shop.json(&["rollout", "stable", "--window", "sat,sun@02:30+90m"])["windows"].clone();
    assert_eq!(windows, serde_json::json!([{ "days": ["sat", "sun"], "start": 150, "minutes": 90 }]));
    assert_eq!(shop.json(&["rollout", "stable", "--any-time"])["windows"], Value::Null);
    let listed = shop.json(&["list"]);
    assert_eq!(listed["releases"][1]["channels"][0], "stable");
    assert_eq!(shop.json(&["refresh"])[0]["role"], "root");
    let disk = shop.folder.path().join("disk.raw");
    let written = shop.run(&["disk", "1.1", "-o", disk.to_str().unwrap()]);
    assert_eq!(written.status.code(), Some(0), "{}", stderr(&written));
    assert!(fs::metadata(disk).unwrap().len() > 100 << 20);
}

#[test]
fn a_repeated_publish_tells_the_rollout_that_is_in_force() {
    let shop = Shop::new();
    shop.json(&["build", &shop.tar("1.tar", "one"), "--version", "1.0"]);
    let first = shop.json(&["publish", "1.0", "--wave", "5%@2030-01-01T00:00:00Z", "--hold", "wait"]);
    for again in [first, shop.json(&["publish", "1.0"])] {
        assert_eq!((&again["waves"][0]["share"], &again["hold"]), (&500.into(), &"wait".into()), "{again}");
    }
    let said = shop.run(&["publish", "1.0"]);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let expected =
        "1.0 is published in stable already, 5% from 2030-01-01T00:00:00Z, on hold: wait; nothing changed\n";
    assert!(text.starts_with(expected), "{text}");
    for command in [&["publish", "1.0", "--hold", ""][..], &["rollout", "stable", "--hold", ""]] {
        assert_eq!(shop.run(command).status.code(), Some(2), "{command:?}");
    }
}

#[test]
fn whoever_asks_for_json_gets_one_document_and_nothing_else() {
    let shop = Shop::new();
    let document = |code: i32, arguments: &[&str]| -> Value {
        let output = shop.run(&[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let bare = shop.folder.path().join("bare.tar");
    write_tar(&bare, &[("etc/issue", b"x")]);
    let told = document(3, &["build", bare.to_str().unwrap(), "--version", "1.0"]);
    assert!(told["error"].as_str().unwrap().starts_with("the tree has no kernel"), "{told}");
    assert_eq!(told["exit"], 3);
    assert_eq!(document(3, &["publish", "9"])["exit"], 3);
    shop.json(&["build", &shop.tar("1.tar", "one"), "--version", "1.0"]);
    let disk = shop.folder.path().join("host").display().to_string();
    let told = document(0, &["disk", "1.0", "--simulated", "-o", &disk]);
    assert_eq!((&told["format"], &told["slot"]), (&"simulated".into(), &"a".into()), "{told}");
    let other = shop.folder.path().join("other").display().to_string();
    let told = document(0, &["init", &other, "--os", "acme"]);
    assert!(told["keys"]["root"].as_str().unwrap().ends_with("other/keys/root.pem"), "{told}");
    // The report says it all already; what it comes to is for people.
    fs::write(shop.workspace().join("repository/metadata/timestamp.json"), "{}").unwrap();
    assert_eq!(document(4, &["check"])["errors"].as_array().unwrap().len(), 1);
    let output = shop.run(&["check", "--json"]);
    assert!(stderr(&output).starts_with("error: "), "{}", stderr(&output));
}

#[test]
fn a_build_is_the_same_bytes_wherever_and_however_often() {
    let [one, two] = [Shop::new(), Shop::new()];
    let read = |shop: &Shop, name: &str| fs::read(shop.workspace().join("builds/1.0").join(name)).unwrap();
    for shop in [&one, &two] {
        shop.json(&["build", &shop.tar("1.tar", "one"), "--version", "1.0"]);
    }
    for name in ["build.json", "root.erofs", "layout.json.zst", "uki.efi", "uki.cfg"] {
        assert!(read(&one, name) == read(&two, name), "{name}");
    }
    let lines = String::from_utf8(read(&one, "uki.cfg")).unwrap();
    let place = lines.strip_prefix("linux (uki)").and_then(|rest| rest.split_once('+')).unwrap().0;
    let kernel = place.parse::<usize>().unwrap() * 512;
    assert_eq!(&read(&one, "uki.efi")[kernel + 0x40..][..6], b"PE\0\0\x64\x86");
    assert!(lines.contains(" 'upright.version=1.0'") && lines.contains("\ninitrd (uki)"), "{lines}");
    let again = one.json(&["build", &one.tar("1.tar", "one"), "--version", "1.0"]);
    assert_eq!(again["unchanged"], true);
    let error = one.refused(3, &["build", &one.tar("2.tar", "two"), "--version", "1.0"]);
    assert!(error.starts_with("1.0 was built before with other content or another time (commit "), "{error}");
    assert!(
        error.ends_with("choose a new version, or remove DIR/w/builds/1.0 if it was never published"),
        "{error}"
    );
    assert_eq!(one.json(&["build", &one.tar("1.tar", "one"), "--version", "1.0"])["unchanged"], true);
}

/// Builds 1.0 with a file that 2.0 lacks, so that 2.0 would be full of holes in the layout of 1.0.
fn one_that_shrinks(shop: &Shop) -> Value {
    let path = shop.folder.path().join("large.tar");
    let more = pattern(400_000);
    let small = shop.tar("small.tar", "small");
    let mut files = vec![("etc/large", &more[..])];
    let (initrd, kernel) = (pattern(300_000), kernel(200_000));
    files.extend([
        ("usr/lib/modules/6.1.0/initramfs.img", &initrd[..]),
        ("usr/lib/modules/6.1.0/vmlinuz", &kernel),
        ("usr/lib/os-release", b"ID=acme\nNAME=Acme\n"),
    ]);
    write_tar(&path, &files);
    shop.json(&["build", path.to_str().unwrap(), "--version", "1.0"]);
    shop.json(&["build", &small, "--version", "2.0"])
}

#[test]
fn an_image_that_was_laid_out_anew_is_the_same_bytes_again() {
    let shop = Shop::new();
    let first = one_that_shrinks(&shop);
    assert_eq!((&first["not_followed"], &first["base"]), (&Value::from("1.0"), &Value::Null));
    let small = shop.tar("small.tar", "small");
    let again = |version: &str, arguments: &[&str]| {
        let made = shop.json(&[&["build", &small, "--version", version], arguments].concat());
        made["unchanged"].as_bool().unwrap()
    };
    assert!(again("2.0", &[]));
    assert!(again("2.0", &["--base", "1.0"]));
    let output = shop.run(&["build", &small, "--version", "2.0", "--base", "1.0"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains(", laid out anew, since more than a tenth of it would be unused after 1.0"),
        "{text}"
    );
    // One that was asked for is no different, whatever was built since.
    assert!(!again("3.0", &["--fresh"]));
    assert!(!again("2.5", &[]));
    assert!(again("3.0", &[]) && again("3.0", &["--fresh"]));
}

#[test]
fn a_manifest_says_which_layout_makes_its_image_again() {
    let shop = Shop::new();
    for version in ["1.0", "2.0"] {
        shop.json(&["build", &shop.tar("x.tar", version), "--version", version]);
    }
    let first = shop.json(&["publish", "1.0"]);
    let second = shop.json(&["publish", "2.0"]);
    let manifest = |outcome: &Value| -> Value {
        let (version, digest) = (&outcome["version"], &outcome["manifest"]);
        let name = format!("{}.{}.json", digest.as_str().unwrap(), version.as_str().unwrap());
        let path = shop.workspace().join("repository/releases/acme/x86-64").join(name);
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let (first, second) = (manifest(&first), manifest(&second));
    assert_eq!(first["base"], Value::Null);
    assert_eq!(second["base"]["version"], "1.0");
    assert_eq!(second["base"]["root_hash"], first["root"]["verity"]["root_hash"]);
    // Somebody with both trees, and without these builds, gets what was published.
    let other = Shop::new();
    for version in ["1.0", "2.0"] {
        other.json(&["build", &other.tar("x.tar", version), "--version", version]);
    }
    let made = other.json(&["build", &other.tar("x.tar", "2.0"), "--version", "2.0", "--base", "1.0"]);
    assert_eq!(made["followed"], second["base"]);
    assert_eq!(made["root"]["verity"], second["root"]["verity"]);
    let layout = File::open(other.workspace().join("builds/1.0/layout.json.zst")).unwrap();
    let layout = upright_manifests::digest::Digest::of(&zstd::decode_all(layout).unwrap());
    assert_eq!(second["base"]["layout"], layout.to_string());
}

#[test]
fn what_cannot_be_built_is_refused_in_one_line() {
    let shop = Shop::new();
    let bare = shop.folder.path().join("bare.tar");
    write_tar(&bare, &[("etc/issue", b"x")]);
    let error = shop.refused(3, &["build", bare.to_str().unwrap(), "--version", "1.0"]);
    assert!(error.starts_with("the tree has no kernel: looked for usr/lib/modules/"), "{error}");
    let half = shop.tar("half.tar", "x");
    let bytes = fs::read(&half).unwrap();
    fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
    let error = shop.refused(3, &["build", &half, "--version", "1.0"]);
    assert!(error.starts_with("cannot take DIR/half.tar: "), "{error}");
    let error = shop.refused(3, &["build", "/nonexistent", "--version", "1.0"]);
    assert!(error.starts_with("cannot take /nonexistent: "), "{error}");
    assert!(
        fs::read_dir(shop.workspace().join("builds"))
            .unwrap()
            .next()
            .is_none_or(|e| { e.unwrap().file_name().to_string_lossy().starts_with('.') })
    );
    assert_eq!(shop.json(&["list"])["releases"], Value::Array(vec![]));
}

/// A folder with what a release needs, whose files belong to someone who is not root.
fn unpacked(folder: &Path) {
    for (name, content) in [("vmlinuz", kernel(200_000)), ("initramfs.img", pattern(300_000))] {
        let path = folder.join("usr/lib/modules/6.1.0").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let me = fs::metadata(folder).unwrap().uid();
    let owner = if me == 0 { 1000 } else { me };
    let mut folders = vec![folder.to_owned()];
    while let Some(path) = folders.pop() {
        std::os::unix::fs::lchown(&path, Some(owner), None).unwrap();
        if path.is_dir() {
            folders.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
}

#[test]
fn a_folder_that_holds_the_workspace_is_refused_since_its_keys_would_be_in_the_image() {
    let shop = Shop::new();
    unpacked(&shop.workspace().join("tree"));
    unpacked(&shop.folder.path().join("x"));
    let link = shop.folder.path().join("link");
    std::os::unix::fs::symlink(".", &link).unwrap();
    for source in [shop.folder.path(), &shop.workspace(), &link, &link.join("link/w")] {
        let error = shop.refused(3, &["build", source.to_str().unwrap(), "--version", "1.0"]);
        assert!(error.starts_with("the workspace DIR/w lies in DIR"), "{error}");
        assert!(error.ends_with("its private keys would be in the image; move it out of there"), "{error}");
    }
    // Beside it, and in it, are other places.
    for (version, source) in [("1.0", shop.folder.path().join("x")), ("1.1", shop.workspace().join("tree"))] {
        shop.json(&["build", source.to_str().unwrap(), "--version", version]);
    }
}

#[test]
fn a_folder_that_is_nobody_elses_gets_a_note() {
    let shop = Shop::new();
    let folder = shop.folder.path().join("x");
    unpacked(&folder);
    let noted = |version: &str, source: &str| {
        let output = shop.run(&["build", source, "--version", version]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stderr(&output).contains("note: every file belongs to user ")
    };
    assert!(noted("1.0", folder.to_str().unwrap()));
    assert!(!noted("1.1", &shop.tar("root.tar", "x")));
}

#[test]
fn a_tree_without_what_its_hosts_need_gets_a_note() {
    let shop = Shop::new();
    let noted = |version: &str, source: &str| stderr(&shop.run(&["build", source, "--version", version]));
    let text = noted("1.0", &shop.tar("root.tar", "x"));
    assert!(text.contains("note: the tree has no etc/upright/upright.toml, so "), "{text}");
    assert!(text.contains("a release on trial is not judged; put one there"), "{text}");
    let folder = shop.folder.path().join("x");
    unpacked(&folder);
    fs::create_dir_all(folder.join("etc/upright")).unwrap();
    fs::write(folder.join("etc/upright/upright.toml"), b"").unwrap();
    let text = noted("1.1", folder.to_str().unwrap());
    assert!(!text.contains("upright.toml"), "{text}");
}

/// Hosts that trust somebody else take no update, and say nothing that anybody hears.
#[test]
fn a_tree_whose_hosts_would_trust_somebody_else_is_not_built() {
    let (shop, other) = (Shop::new(), Shop::new());
    let folder = shop.folder.path().join("x");
    unpacked(&folder);
    let root = folder.join("usr/share/upright/root.json");
    let build =
        |version: &'static str| ["build", folder.to_str().unwrap(), "--version", version].map(str::to_owned);
    let refused = |version| {
        let arguments = build(version);
        shop.refused(3, &arguments.each_ref().map(String::as_str))
    };
    fs::create_dir_all(root.parent().unwrap()).unwrap();
    let own = fs::read(shop.workspace().join("root.json")).unwrap();
    let damaged = String::from_utf8(own.clone()).unwrap().replacen("\"expires\": \"2", "\"expires\": \"3", 1);
    for bad in [b"".as_slice(), b"{}", &own[..own.len() / 2], damaged.as_bytes()] {
        fs::write(&root, bad).unwrap();
        let line = refused("1.0");
        assert!(
            line.starts_with("usr/share/upright/root.json is no root.json (")
                && line.ends_with("; copy DIR/w/root.json there"),
            "{line}"
        );
    }
    fs::copy(other.workspace().join("root.json"), &root).unwrap();
    let says = "usr/share/upright/root.json is another workspace's root.json, none that this one has signed, so hosts would take none of its \
                updates; copy DIR/w/root.json there";
    assert_eq!(refused("1.0"), says);
    assert!(!shop.workspace().join("builds/1.0").exists());
    fs::remove_file(&root).unwrap();
    fs::create_dir(&root).unwrap();
    assert!(refused("1.0").starts_with("usr/share/upright/root.json is no file"));
    fs::remove_dir(&root).unwrap();
    // An older one leads on.
    let rotated = shop.run(&["refresh", "--role", "root"]);
    assert_eq!(rotated.status.code(), Some(0), "{}", stderr(&rotated));
    fs::write(&root, &own).unwrap();
    let built = |version| shop.json(&build(version).each_ref().map(String::as_str));
    built("1.0");
    fs::copy(shop.workspace().join("root.json"), &root).unwrap();
    assert!(fs::read(&root).unwrap() != own);
    built("1.1");
    // It is where the configuration says.
    let configuration = folder.join("etc/upright/upright.toml");
    fs::create_dir_all(configuration.parent().unwrap()).unwrap();
    fs::write(&configuration, "[repository]\nurl = \"https://x\"\nroot = \"/etc/upright/root.json\"\n")
        .unwrap();
    fs::write(folder.join("etc/upright/root.json"), "{}").unwrap();
    assert!(refused("1.2").starts_with("etc/upright/root.json is no root.json ("));
    fs::write(&configuration, "[repository\nurl = 1\n").unwrap();
    let line = refused("1.2");
    assert!(
        line.starts_with("etc/upright/upright.toml is no TOML (") && line.contains(" in line 1)"),
        "{line}"
    );
}

#[test]
fn who_is_to_be_trusted_has_to_be_a_root() {
    let shop = Shop::new();
    let bad = shop.folder.path().join("bad.json").display().to_string();
    fs::write(&bad, b"{}").unwrap();
    let repository = shop.workspace().join("repository").display().to_string();
    let mirror = shop.folder.path().join("m").display().to_string();
    for arguments in [["check", "--root", &bad].as_slice(), &["mirror", &repository, &mirror, "--root", &bad]]
    {
        let line = shop.refused(3, arguments);
        assert!(line.starts_with("DIR/bad.json is no root.json: "), "{line}");
    }
    // Its keys have not signed what it says now.
    let text = fs::read_to_string(shop.workspace().join("root.json")).unwrap();
    fs::write(&bad, text.replacen("\"expires\": \"2", "\"expires\": \"3", 1)).unwrap();
    let line = shop.refused(3, &["mirror", &repository, &mirror, "--root", &bad]);
    let says = "DIR/bad.json is damaged: 0 of the 1 signatures needed are valid, by the keys that it appoints itself; name the root.json \
                that the publisher gave you with --root";
    assert_eq!(line, says);
    let line = shop.refused(3, &["mirror", &repository, &mirror]);
    let says = "it is not known whom to trust: DIR/m has no root that can be used yet; name the root.json that the publisher gave you \
                with --root";
    assert_eq!(line, says);
}

#[test]
fn a_workspace_may_have_any_name_that_a_folder_can_have() {
    use std::os::unix::ffi::OsStrExt as _;
    let shop = Shop::new();
    let odd = shop.folder.path().join(std::ffi::OsStr::from_bytes(b"w\xff\n"));
    fs::rename(shop.workspace(), &odd).unwrap();
    for command in ["list", "check", "refresh"] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_upright-build"));
        let ran = program.arg("-C").arg(&odd).arg(command).output().unwrap();
        assert_eq!(ran.status.code(), Some(0), "{command}: {}", stderr(&ran));
    }
}

#[test]
fn exit_codes_tell_failures_apart() {
    let shop = Shop::new();
    assert_eq!(shop.run(&["publish"]).status.code(), Some(2));
    assert_eq!(shop.run(&["publish", "1_0"]).status.code(), Some(2));
    assert_eq!(
        shop.refused(3, &["publish", "1.0"]),
        "1.0 is neither built nor published; run `upright-build build SOURCE --version 1.0`"
    );
    assert_eq!(
        shop.refused(3, &["promote", "1.0", "--from", "stable", "--to", "stable"]),
        "stable points at nothing, not at 1.0; promote what it points at, or publish 1.0 to stable directly"
    );
    let timestamp = shop.workspace().join("repository/metadata/timestamp.json");
    let good = fs::read(&timestamp).unwrap();
    fs::write(&timestamp, "{}").unwrap();
    let repository = shop.workspace().join("repository");
    assert_eq!(shop.refused(4, &["check"]), "DIR/w/repository has an error");
    assert_eq!(shop.run(&["check", repository.to_str().unwrap()]).status.code(), Some(4));
    assert_eq!(shop.run(&["list"]).status.code(), Some(4));
    fs::write(&timestamp, good).unwrap();
    let lock = Workspace::open(&shop.workspace()).unwrap();
    let lock = lock.lock().unwrap();
    assert_eq!(
        shop.refused(5, &["publish", "1.0"]),
        "another command works in DIR/w; wait for it to end and run this one again"
    );
    drop(lock);
    let settings = shop.workspace().join("upright.toml");
    fs::write(&settings, "os = \"acme\"\narch = \"pdp11\"\n").unwrap();
    assert_eq!(
        shop.refused(3, &["list"]),
        "DIR/w/upright.toml:2: unknown variant `pdp11`, expected `x86-64` or `arm64`"
    );
    fs::remove_file(&settings).unwrap();
    assert_eq!(
        shop.refused(3, &["list"]),
        "DIR/w is not a workspace: it has no upright.toml; make one with `upright-build init DIR/w --os NAME`, or name \
         the right folder with --workspace"
    );
}

#[test]
fn keys_made_with_a_passphrase_need_it() {
    let folder = tempfile::tempdir().unwrap();
    let workspace = folder.path().join("w");
    let workspace = workspace.to_str().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_upright-build"));
        command.args(["-C", workspace]).args(arguments).env("PHRASE", "open sesame").output().unwrap()
    };
    let made = run(&["init", workspace, "--os", "acme", "--passphrase", "env:PHRASE"]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    let without = run(&["refresh"]);
    assert_eq!(without.status.code(), Some(3));
    let text = stderr(&without);
    assert!(text.contains("snapshot.pem is encrypted; name its passphrase with --passphrase"), "{text}");
    assert_eq!(run(&["refresh", "--passphrase", "env:PHRASE"]).status.code(), Some(0));
}

/// Run with `UPDATE_HELP=1` to accept what the program says now.
#[test]
fn the_help_is_what_was_reviewed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help");
    let mut command = upright_image_builder::cli::command().term_width(100);
    command.build();
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    let mut texts = vec![("upright-build".to_owned(), command.render_long_help().to_string())];
    for name in names.iter().filter(|name| *name != "help") {
        let sub = command.find_subcommand_mut(name).unwrap();
        texts.push((name.clone(), sub.render_long_help().to_string()));
    }
    for (name, text) in texts {
        let path = folder.join(format!("{name}.txt"));
        if std::env::var_os("UPDATE_HELP").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &text).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap_or_default(), text, "{}", path.display());
    }
}
