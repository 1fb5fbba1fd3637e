//! UKIs of small trees: what is found, where it is put, and what is refused.

use std::collections::BTreeMap;

use upright_manifests::pe::{Headers, argument};
use upright_manifests::verity::{Geometry, salt};

use super::*;
use crate::tree::{Inode, Kind};

/// A tree and the content of its files.
#[derive(Default)]
struct Files {
    tree: Tree,
    bytes: BTreeMap<Digest, Vec<u8>>,
}

impl Files {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let mut all = Self::default();
        all.add("", Kind::Directory);
        for (path, bytes) in files {
            let content = all.content(bytes);
            all.add(path, Kind::File(content));
        }
        all
    }

    fn content(&mut self, bytes: &[u8]) -> Content {
        let sha256 = Digest::of(bytes);
        self.bytes.insert(sha256, bytes.to_vec());
        Content { size: bytes.len() as u64, sha256, object: sha256 }
    }

    fn add(&mut self, path: &str, kind: Kind) {
        for (at, _) in path.match_indices('/') {
            if !self.tree.paths.contains_key(&path.as_bytes()[..at]) {
                self.add(&path[..at], Kind::Directory);
            }
        }
        self.tree.paths.insert(path.into(), self.tree.inodes.len());
        self.tree.inodes.push(Inode { kind, mode: 0o644, uid: 0, gid: 0, xattrs: BTreeMap::new() });
    }
}

impl Contents for Files {
    fn open(&self, content: &Content) -> io::Result<Box<dyn Read>> {
        Ok(Box::new(io::Cursor::new(self.bytes[&content.sha256].clone())))
    }
}

const KERNEL: &[u8] = &kernel(0x8664);
const INITRD: &[u8] = &[7; 1300];

/// The headers of an EFI program without sections, and no more; of a length that is not aligned.
const fn kernel(machine: u16) -> [u8; 203] {
    let mut bytes = [7; 203];
    let fields: [(usize, [u8; 2]); 9] = [
        (0, *b"MZ"),
        (0x3c, [0x40, 0]),
        (0x3e, [0, 0]),
        (0x40, *b"PE"),
        (0x42, [0, 0]),
        (0x44, machine.to_le_bytes()),
        (0x46, [0, 0]),
        (0x54, [112, 0]),
        (0x58, [0x0b, 0x02]),
    ];
    let mut index = 0;
    while index < fields.len() {
        let (at, value) = fields[index];
        [bytes[at], bytes[at + 1]] = value;
        index += 1;
    }
    bytes
}

fn debian() -> Files {
    Files::new(&[
        ("boot/vmlinuz-6.1.0-9-amd64", b"old"),
        ("boot/vmlinuz-6.1.0-10-amd64", KERNEL),
        ("boot/initrd.img-6.1.0-9-amd64", b"old"),
        ("boot/initrd.img-6.1.0-10-amd64", INITRD),
        ("usr/lib/modules/6.1.0-10-amd64/modules.dep", b""),
        ("usr/lib/os-release", b"ID=debian\nPRETTY_NAME=\"Debian\"\n"),
    ])
}

fn build(files: &Files, kernel: Option<&str>, out: &Path) -> Result<Built, UkiError> {
    let (os, version): (OsName, Version) = ("acme".parse().unwrap(), "1.2.0".parse().unwrap());
    let verity = VerityParams::new(Digest::of(b"root"), salt(&os), &Geometry::new(10).unwrap());
    let image_uuid = Uuid::derive("image", b"x");
    let plan = Plan {
        os: &os,
        version: &version,
        arch: Arch::X86_64,
        image_uuid,
        verity: &verity,
        extra: "console=ttyS0",
        kernel,
    };
    write(&files.tree, files, &plan, out)
}

#[test]
fn a_uki_holds_its_parts_where_it_says_and_is_reproducible() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("uki.efi");
    let mut files = debian();
    files.add("etc/os-release", Kind::Symlink(b"../usr/lib/os-release".to_vec()));
    let built = build(&files, None, &out).unwrap();
    let bytes = fs::read(&out).unwrap();
    assert_eq!(built.size, bytes.len() as u64);
    assert_eq!(built.kernel, "6.1.0-10-amd64");

    let headers = Headers::parse(&bytes).unwrap();
    let section = |name: &str| {
        let (offset, length) = headers.section(name).unwrap().content();
        &bytes[offset as usize..][..length as usize]
    };
    assert_eq!((section(".linux"), section(".initrd")), (KERNEL, INITRD));
    assert_eq!(section(".uname"), b"6.1.0-10-amd64");
    let os_release = "ID=debian\nPRETTY_NAME=\"Debian\"\nIMAGE_ID=acme\nIMAGE_VERSION=\"1.2.0\"\n";
    assert_eq!(std::str::from_utf8(section(".osrel")).unwrap(), os_release);
    let line = std::str::from_utf8(section(".cmdline")).unwrap();
    assert_eq!(line, built.command_line);
    assert_eq!(argument(line, "roothash"), Some(Digest::of(b"root").to_string().as_str()));
    assert_eq!(argument(line, "upright.version"), Some("1.2.0"));
    assert!(line.ends_with("panic=30 console=ttyS0"), "{line}");

    for (part, file) in built.parts.iter().zip([KERNEL, INITRD]) {
        assert_eq!(&bytes[part.at as usize..][..part.length as usize], file);
        assert_eq!(part.sha256, Digest::of(file));
    }
    assert_eq!(built.parts[0].path, b"boot/vmlinuz-6.1.0-10-amd64");
    build(&files, None, &out).unwrap();
    assert!(fs::read(&out).unwrap() == bytes);
}

#[test]
fn sections_neither_overlap_nor_leave_the_image() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("uki.efi");
    build(&debian(), None, &out).unwrap();
    let bytes = fs::read(&out).unwrap();
    let headers = Headers::parse(&bytes).unwrap();
    let mut end = (0, 0);
    for section in &headers.sections {
        assert!(section.virtual_address >= end.0, "{section:?}");
        assert!(section.raw_offset >= end.1, "{section:?}");
        end = (section.virtual_address + section.virtual_size, section.raw_offset + section.raw_size);
    }
    assert_eq!(end.1 as usize, bytes.len());
    let at = headers.optional_at + 56;
    let size_of_image = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert!(size_of_image >= end.0 && size_of_image.is_multiple_of(headers.section_alignment));
}

#[test]
fn the_ostree_convention_comes_before_debians_and_a_choice_before_the_newest() {
    let mut files = debian();
    let content = files.content(b"newer");
    files.add("usr/lib/modules/6.12.1/vmlinuz", Kind::File(content));
    files.add("usr/lib/modules/6.12.1/initramfs.img", Kind::File(content));
    assert_eq!(find_kernel(&files.tree, None).unwrap().version, "6.12.1");
    let chosen = find_kernel(&files.tree, Some("6.1.0-9-amd64")).unwrap();
    assert_eq!(chosen.image.0, b"boot/vmlinuz-6.1.0-9-amd64");
}

#[test]
fn what_is_missing_is_named_with_every_place_that_was_looked_at() {
    let error = |files: &[(&str, &[u8])], wanted| {
        find_kernel(&Files::new(files).tree, wanted).unwrap_err().to_string()
    };
    let text = error(&[("boot/grub.cfg", b"")], None);
    assert!(text.contains("usr/lib/modules/<version>/vmlinuz and boot/vmlinuz-<version>"), "{text}");
    let text = error(&[("boot/vmlinuz-6.1", b"k")], None);
    let places = "usr/lib/modules/6.1/initramfs.img and boot/initrd.img-6.1";
    assert!(text.contains(places) && text.contains("no initrd for kernel 6.1"), "{text}");
    let text = error(&[("boot/vmlinuz-6.1", b"k")], Some("7"));
    assert!(text.contains("no kernel 7") && text.contains("it has 6.1"), "{text}");
}

#[test]
fn what_would_not_boot_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |kernel: &[u8], initrd: &[u8], release: &[u8]| {
        let at = "usr/lib/modules/6.1.0";
        let (image, ram) = (format!("{at}/vmlinuz"), format!("{at}/initramfs.img"));
        let files: [(&str, &[u8]); 3] = [(&image, kernel), (&ram, initrd), ("usr/lib/os-release", release)];
        build(&Files::new(&files), None, &folder.path().join("uki.efi")).unwrap_err().to_string()
    };
    let at = "usr/lib/modules/6.1.0";
    let text = refused(b"", INITRD, b"");
    assert_eq!(
        text,
        format!("the kernel {at}/vmlinuz is empty; install a kernel package in the root file system")
    );
    let text = refused(KERNEL, b"", b"");
    assert!(
        text.starts_with(&format!("the initrd {at}/initramfs.img is empty; make one with dracut or ")),
        "{text}"
    );
    for noise in [INITRD, &KERNEL[..80], b"MZ", b"\x1f\x8b\x08 compressed"] {
        let text = refused(noise, INITRD, b"");
        assert!(text.starts_with(&format!("{at}/vmlinuz is not an EFI kernel: ")), "{text}");
    }
    let text = refused(&kernel(0xaa64), INITRD, b"");
    assert!(
        text.starts_with(&format!("{at}/vmlinuz is for arm64, this workspace is for x86-64; ")),
        "{text}"
    );
    let text = refused(&kernel(0x5064), INITRD, b"");
    assert!(text.starts_with(&format!("{at}/vmlinuz is for machine 0x5064, this workspace")), "{text}");
    let text = refused(KERNEL, INITRD, b"ID=acme\nIMAGE_ID=other\n");
    assert!(
        text.starts_with("usr/lib/os-release says IMAGE_ID=other, this workspace makes releases of acme; "),
        "{text}"
    );
}

#[test]
fn links_are_followed_inside_of_the_tree_and_loops_end() {
    let mut files = Files::new(&[("data/real", b"x")]);
    files.add("a", Kind::Symlink(b"/data/../data/./real".to_vec()));
    files.add("b", Kind::Symlink(b"../../a".to_vec()));
    files.add("loop", Kind::Symlink(b"loop".to_vec()));
    files.add("out", Kind::Symlink(b"/elsewhere".to_vec()));
    for path in ["a", "b"] {
        assert_eq!(find::lookup(&files.tree, path.as_bytes()).unwrap().0, b"data/real");
    }
    for path in ["loop", "out", "data", "data/real/x"] {
        assert_eq!(find::lookup(&files.tree, path.as_bytes()), None, "{path}");
    }
}

#[test]
fn a_stub_without_room_or_of_another_machine_is_refused() {
    let stub = fs::read("/usr/lib/systemd/boot/efi/linuxx64.efi.stub").unwrap();
    let names: Vec<String> = (0..8).map(|n| format!(".s{n}")).collect();
    let many: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let error = sections::lay_out(&stub, Arch::X86_64, &many).unwrap_err().to_string();
    assert!(error.contains("have room for 1024 bytes, 8 more sections need 1032"), "{error}");
    assert!(matches!(sections::lay_out(&stub, Arch::Arm64, &[]), Err(UkiError::Machine { .. })));
    let error = sections::lay_out(&stub, Arch::X86_64, &[(".linux", 5 << 30)]).unwrap_err();
    assert!(matches!(error, UkiError::TooLarge(_)), "{error}");
    for length in 0..0x400 {
        assert!(sections::lay_out(&stub[..length], Arch::X86_64, &[(".linux", 1)]).is_err(), "{length}");
    }
}

#[test]
fn a_signed_uki_verifies_and_keeps_its_parts_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-keyout"])
        .args([path("key.pem"), "-out".into(), path("cert.pem")])
        .output()
        .unwrap();
    assert!(made.status.success());
    let built = build(&debian(), None, &path("uki.efi")).unwrap();
    sign(&path("uki.efi"), &path("key.pem"), &path("cert.pem")).unwrap();
    let bytes = fs::read(path("uki.efi")).unwrap();
    for (part, file) in built.parts.iter().zip([KERNEL, INITRD]) {
        assert_eq!(&bytes[part.at as usize..][..part.length as usize], file);
    }
    let verified = std::process::Command::new("sbverify")
        .args(["--cert".into(), path("cert.pem"), path("uki.efi")])
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}
