//! Disk images of a small release, judged by the programs that others judge disks with.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use upright_manifests::verity::{Discard, TreeBuilder, salt};

use super::*;

/// A release of random-looking content.
struct Release {
    folder: tempfile::TempDir,
    os: OsName,
    version: Version,
    verity: VerityParams,
}

const SIZES: Sizes = Sizes { slot: 8 << 20, verity: 1 << 20, esp: 64 << 20, var: 32 << 20 };

impl Release {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let noise = |length: usize| -> Vec<u8> {
            (0..length as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
        };
        let mut root = noise(600 * 4096);
        root[4096..9 * 4096].fill(0);
        fs::write(folder.path().join("root"), &root).unwrap();
        fs::write(folder.path().join("uki"), noise(300_001)).unwrap();
        fs::write(folder.path().join("loader"), noise(90_000)).unwrap();
        let os = "acme".parse().unwrap();
        let mut tree = TreeBuilder::new(salt(&os), 600, Discard).unwrap();
        tree.update(&root).unwrap();
        let (verity, _) = tree.finish().unwrap();
        Self { folder, os, version: "1.0.0".parse().unwrap(), verity }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, sizes: Sizes, format: Format, out: &str) -> Result<PathBuf, DiskError> {
        let (root, uki, loader, out) =
            (self.path("root"), self.path("uki"), self.path("loader"), self.path(out));
        let plan = Plan {
            os: &self.os,
            version: &self.version,
            arch: Arch::X86_64,
            time: Timestamp::from_second(1_700_000_000).unwrap(),
            root: &root,
            verity: &self.verity,
            uki: &uki,
            loader: &loader,
            sizes,
            format,
        };
        write(&plan, &out, &|_| {}).map(|()| out)
    }

    /// Cuts a partition out of a raw disk.
    fn cut(&self, disk: &Path, offset: u64, size: u64) -> PathBuf {
        let part = self.path("part");
        let mut disk = File::open(disk).unwrap();
        disk.seek(SeekFrom::Start(offset)).unwrap();
        std::io::copy(&mut disk.take(size), &mut File::create(&part).unwrap()).unwrap();
        part
    }
}

/// Runs a program, asserts that it is content, and returns what it said.
fn run(program: &str, arguments: &[&str], path: &Path) -> String {
    let output = Command::new(program).args(arguments).arg(path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn a_disk_is_clean_sparse_and_reproducible() {
    let release = Release::new();
    let disk = release.write(SIZES, Format::Raw, "disk").unwrap();
    let said = run("sgdisk", &["-v", "-p"], &disk);
    assert!(said.contains("No problems found"), "{said}");
    for label in ["esp", "root-a", "root-a-verity", "root-b", "root-b-verity", "var"] {
        assert!(said.lines().any(|line| line.ends_with(&format!("  {label}"))), "{label}: {said}");
    }
    let found = fs::metadata(&disk).unwrap();
    assert_eq!(found.len(), SIZES.esp + SIZES.var + 2 * (SIZES.slot + SIZES.verity) + 2 * MIB);
    assert!(found.blocks() * 512 < 6 << 20, "{} bytes on the disk", found.blocks() * 512);
    let again = release.write(SIZES, Format::Raw, "again").unwrap();
    assert!(fs::read(&disk).unwrap() == fs::read(again).unwrap());
    let left = fs::read_dir(release.folder.path()).unwrap().count();
    assert_eq!(left, 5, "scratch files are left");
}

#[test]
fn the_esp_holds_what_firmware_and_systemd_boot_look_for() {
    let release = Release::new();
    let disk = release.write(SIZES, Format::Raw, "disk").unwrap();
    let esp = release.cut(&disk, MIB, SIZES.esp);
    run("fsck.fat", &["-n", "-v"], &esp);
    let image = esp.to_str().unwrap();
    let read = |path: &str| run("mtype", &["-i", image], Path::new(&format!("::{path}"))).into_bytes();
    assert!(String::from_utf8(read("loader/loader.conf")).unwrap().starts_with("timeout 0\n"));
    for (path, from) in [
        ("EFI/BOOT/BOOTX64.EFI", "loader"),
        ("EFI/systemd/systemd-bootx64.efi", "loader"),
        ("EFI/Linux/acme_1.0.0.efi", "uki"),
    ] {
        let copy = release.path("copy");
        let source = format!("::{path}");
        run("mcopy", &["-n", "-o", "-i", image, &source], &copy);
        assert!(fs::read(copy).unwrap() == fs::read(release.path(from)).unwrap(), "{path}");
    }
}

#[test]
fn slot_a_is_filled_and_verifies_and_slot_b_is_empty() {
    let release = Release::new();
    let disk = release.write(SIZES, Format::Raw, "disk").unwrap();
    let bytes = fs::read(&disk).unwrap();
    let at = |offset: u64, size: u64| &bytes[offset as usize..][..size as usize];
    let root = MIB + SIZES.esp;
    let image = fs::read(release.path("root")).unwrap();
    assert!(at(root, image.len() as u64) == image);
    let slot_b = root + SIZES.slot + SIZES.verity;
    assert!(at(slot_b, SIZES.slot + SIZES.verity).iter().all(|byte| *byte == 0));
    let hashes = release.cut(&disk, root + SIZES.slot, SIZES.verity);
    let data = release.path("root");
    let root_hash = release.verity.root_hash.to_string();
    let arguments = ["verify", data.to_str().unwrap(), hashes.to_str().unwrap()];
    run("veritysetup", &arguments, Path::new(&root_hash));
}

#[test]
fn the_state_partition_is_clean_and_roots() {
    let release = Release::new();
    let disk = release.write(SIZES, Format::Raw, "disk").unwrap();
    let var = MIB + SIZES.esp + 2 * (SIZES.slot + SIZES.verity);
    let var = release.cut(&disk, var, SIZES.var);
    run("e2fsck", &["-f", "-n"], &var);
    let said = run("debugfs", &["-R", "stat /lib/upright"], &var);
    assert!(said.contains("Mode:  0700") && said.contains("User:     0   Group:     0"), "{said}");
}

#[test]
fn other_formats_hold_the_same_disk() {
    let release = Release::new();
    let raw = release.write(SIZES, Format::Raw, "disk").unwrap();
    for format in [Format::Qcow2, Format::Vhd, Format::Vmdk] {
        let disk = release.write(SIZES, format, "converted").unwrap();
        run("qemu-img", &["compare", "-f", "raw", raw.to_str().unwrap()], &disk);
        assert_eq!(format.as_str().parse(), Ok(format));
    }
    let first = fs::read(release.write(SIZES, Format::Qcow2, "first").unwrap()).unwrap();
    assert!(first == fs::read(release.write(SIZES, Format::Qcow2, "second").unwrap()).unwrap());
}

#[test]
fn what_does_not_fit_is_refused_with_exact_figures() {
    let release = Release::new();
    let refuse = |sizes: Sizes| release.write(sizes, Format::Raw, "disk").unwrap_err().to_string();
    let text = refuse(Sizes { slot: 2 << 20, ..SIZES });
    assert!(text.starts_with("the root image has 2457600 bytes, 360448 more than the 2097152 of"), "{text}");
    assert!(text.contains("set `disk.slot` to 3MiB or more"), "{text}");
    assert!(check_fit(&SIZES, 8 << 20, 1 << 20, 24 << 20).is_ok());
    let text = check_fit(&SIZES, 8 << 20, (1 << 20) + 1, 1).unwrap_err().to_string();
    assert!(text.starts_with("the hash tree has 1048577 bytes, 1 more than the 1048576"), "{text}");
    let Err(DiskError::Esp { needed, room, .. }) = check_fit(&SIZES, 1, 1, 30 << 20) else {
        panic!("it fits")
    };
    assert_eq!(needed, (30 << 20) * 9 / 4);
    assert!(room < 62 << 20 && room > 58 << 20, "{room}");
    let text = refuse(Sizes { esp: 32 << 20, ..SIZES });
    assert!(text.contains("33MiB to 1TiB"), "{text}");
    assert!(!release.path("disk").exists());
}

#[test]
fn what_is_no_regular_file_is_not_replaced() {
    let release = Release::new();
    let kind = |name: &str| fs::symlink_metadata(release.path(name)).unwrap().file_type();
    run("mkfifo", &[], &release.path("pipe"));
    std::os::unix::fs::symlink("/dev/null", release.path("link")).unwrap();
    fs::create_dir(release.path("folder")).unwrap();
    for (name, what) in [("pipe", "a pipe"), ("link", "a symbolic link"), ("folder", "a folder")] {
        let before = kind(name);
        let text = release.write(SIZES, Format::Raw, name).unwrap_err().to_string();
        let path = release.path(name);
        let said = "not a regular file; write to a file and copy it there, as with dd";
        assert_eq!(text, format!("{} is {what}, {said}", path.display()));
        assert_eq!(kind(name), before);
    }
    let text = release.write(SIZES, Format::Qcow2, "/dev/null").unwrap_err().to_string();
    assert!(text.starts_with("/dev/null is a device, not a regular file"), "{text}");
    fs::write(release.path("disk"), "an older disk").unwrap();
    release.write(SIZES, Format::Raw, "disk").unwrap();
}

#[test]
fn an_image_that_changed_since_its_build_is_refused_and_leaves_nothing() {
    let release = Release::new();
    let mut root = fs::read(release.path("root")).unwrap();
    root[5000] ^= 1;
    fs::write(release.path("root"), root).unwrap();
    let text = release.write(SIZES, Format::Raw, "disk").unwrap_err().to_string();
    assert!(
        text.contains(&release.verity.root_hash.to_string()) && text.contains("build the release again"),
        "{text}"
    );
    assert_eq!(fs::read_dir(release.folder.path()).unwrap().count(), 3);
}

#[test]
fn every_esp_size_gives_a_clean_file_system() {
    let release = Release::new();
    for mib in [33, 34, 48, 66, 100, 128, 200, 257, 300, 512] {
        let esp = mib * MIB;
        let disk = release.write(Sizes { esp, ..SIZES }, Format::Raw, "disk").unwrap();
        let said = run("fsck.fat", &["-n", "-v"], &release.cut(&disk, MIB, esp));
        assert!(said.contains("32 bits per FAT") || said.contains("FATs, 32 bit entries"), "{mib}: {said}");
    }
}
