//! What the agent writes for boot loaders, read and written by the boot loaders' own tools: `grub-editenv`, `fw_printenv` and
//! `fw_setenv`, `efibootmgr`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use upright_manifests::boot::grub_env::GrubEnv;
use upright_manifests::boot::load_option::{LoadOption, Partition, order_bytes};
use upright_manifests::boot::uboot_env::UbootEnv;

const SIZE: usize = 0x400;

/// What a program prints; it must succeed.
fn run<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn editenv(block: &Path, arguments: &[&str]) -> String {
    run("grub-editenv", [block.as_os_str()].into_iter().chain(arguments.iter().map(OsStr::new)))
}

#[test]
fn grub_reads_our_blocks_and_we_read_grubs() {
    let folder = tempfile::tempdir().unwrap();
    let block = folder.path().join("grubenv");
    editenv(&block, &["create"]);
    assert_eq!(GrubEnv::default().to_bytes().unwrap(), fs::read(&block).unwrap());
    editenv(&block, &["set", "saved_entry=gnu\\linux", "ORDER=A B", "A_OK=1"]);
    let mut env = GrubEnv::parse(&fs::read(&block).unwrap()).unwrap();
    assert_eq!((env.get("saved_entry"), env.get("ORDER")), (Some("gnu\\linux"), Some("A B")));
    env.set("ORDER", "B A");
    env.set("B_TRY", "0");
    fs::write(&block, env.to_bytes().unwrap()).unwrap();
    let listed = editenv(&block, &["list"]);
    let mut lines: Vec<&str> = listed.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A_OK=1", "B_TRY=0", "ORDER=B A", "saved_entry=gnu\\linux"]);
    // What GRUB's own code writes into a block of ours is what we would write.
    editenv(&block, &["set", "B_TRY=1"]);
    env.set("B_TRY", "1");
    assert_eq!(env.to_bytes().unwrap(), fs::read(&block).unwrap());
}

#[test]
fn the_block_that_is_shipped_is_one_of_grubs() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/grub/grubenv");
    let listed = editenv(&shipped, &["list"]);
    for line in ["ORDER=A B", "A_OK=1", "A_TRIES=0", "B_OK=0", "MAX_TRIES=9"] {
        assert!(listed.lines().any(|listed| listed == line), "{line} is not in {listed}");
    }
    for script in ["grub.cfg", "embedded.cfg"] {
        run("grub-script-check", [shipped.with_file_name(script)]);
    }
}

/// A configuration of U-Boot's tools for `copies` copies in one file.
fn board(folder: &Path, copies: usize) -> (std::path::PathBuf, std::path::PathBuf) {
    let (config, region) = (folder.join("fw_env.config"), folder.join("mmcblk0"));
    let line = |copy: usize| format!("{} {:#x} {SIZE:#x}\n", region.display(), copy * SIZE);
    fs::write(&config, (0..copies).map(line).collect::<String>()).unwrap();
    let mut env = UbootEnv::empty(SIZE, copies > 1);
    env.set("bootcmd", "run distro_bootcmd");
    env.set("BOOT_ORDER", "A B");
    fs::write(&region, env.to_bytes().unwrap().repeat(copies)).unwrap();
    (config, region)
}

fn fw(program: &str, config: &Path, arguments: &[&str]) -> String {
    let all = [OsStr::new("-c"), config.as_os_str()];
    run(program, all.into_iter().chain(arguments.iter().map(OsStr::new)))
}

/// The copy that counts.
fn current(region: &[u8], copies: usize) -> UbootEnv {
    let parsed = region.chunks(SIZE).take(copies).map(|copy| UbootEnv::parse(copy, copies > 1).unwrap());
    parsed.reduce(|best, other| if other.compare(&best).is_gt() { other } else { best }).unwrap()
}

#[test]
fn u_boots_tools_read_our_environments_and_we_read_theirs() {
    for copies in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let (config, region) = board(folder.path(), copies);
        assert_eq!(fw("fw_printenv", &config, &["-n", "BOOT_ORDER"]), "A B\n");
        // In turn, so that each follows on what the other wrote, past the number's end.
        for round in 0..300 {
            let value = format!("{}", round % 10);
            if round % 75 == 0 {
                fw("fw_setenv", &config, &["BOOT_A_LEFT", &value]);
            } else {
                let bytes = fs::read(&region).unwrap();
                let mut env = current(&bytes, copies);
                env.set("BOOT_A_LEFT", &value);
                env.follow();
                let is_second =
                    copies > 1 && current(&bytes, copies) == UbootEnv::parse(&bytes[..SIZE], true).unwrap();
                let at = if is_second { SIZE } else { 0 };
                let mut bytes = bytes;
                bytes[at..at + SIZE].copy_from_slice(&env.to_bytes().unwrap());
                fs::write(&region, bytes).unwrap();
            }
            let read = current(&fs::read(&region).unwrap(), copies);
            assert_eq!(read.get("BOOT_A_LEFT"), Some(value.as_str()), "{copies} copies, round {round}");
            if round % 15 == 0 {
                assert_eq!(fw("fw_printenv", &config, &["-n", "BOOT_A_LEFT"]), format!("{value}\n"));
            }
        }
        let all = fw("fw_printenv", &config, &[]);
        assert_eq!(all, "BOOT_A_LEFT=9\nBOOT_ORDER=A B\nbootcmd=run distro_bootcmd\n");
    }
}

#[test]
fn what_is_no_environment_to_us_is_none_to_u_boots_tools() {
    let folder = tempfile::tempdir().unwrap();
    let (config, region) = board(folder.path(), 1);
    let mut bytes = fs::read(&region).unwrap();
    bytes[100] ^= 1;
    assert!(UbootEnv::parse(&bytes, false).is_err());
    fs::write(&region, bytes).unwrap();
    let output = Command::new("fw_printenv").arg("-c").arg(&config).output().unwrap();
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn efibootmgr_finds_the_file_that_our_boot_option_names() {
    let folder = tempfile::tempdir().unwrap();
    let variable = |name: &str, value: &[u8]| {
        let path = folder.path().join(format!("{name}-8be4df61-93ca-11d2-aa0d-00e098032b8c"));
        fs::write(path, [&[7, 0, 0, 0], value].concat()).unwrap();
    };
    let option = LoadOption {
        active: true,
        description: "Upright a".to_owned(),
        partition: Partition {
            number: 1,
            start: 2048,
            blocks: 262_144,
            uuid: "b38b6d24-5f5c-4d2a-9b0a-0f7a3ad1c001".parse().unwrap(),
        },
        path: "\\EFI\\upright\\a.efi".to_owned(),
    };
    variable("Boot0003", &option.to_bytes().unwrap());
    variable("BootOrder", &order_bytes(&[3]));
    variable("BootNext", &order_bytes(&[3]));
    let output = Command::new("efibootmgr")
        .arg("-v")
        .env("EFIVARFS_PATH", format!("{}/", folder.path().display()))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("BootNext: 0003") && said.contains("BootOrder: 0003"), "{said}");
    let line = "Boot0003* Upright a\tHD(1,GPT,b38b6d24-5f5c-4d2a-9b0a-0f7a3ad1c001,0x800,0x40000)/File(\\EFI\\upright\\a.efi)";
    assert!(said.contains(line), "{said}");
}
