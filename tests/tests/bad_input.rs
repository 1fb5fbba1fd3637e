//! What a publisher is given by mistake or malice: refused in one line, and what is served stays as it was.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;
use upright_manifests::digest::Digest;
use upright_tests::fixture::{Fixture, kernel, noise};
use upright_tests::programs::build;
use upright_tests::refusal::{line_of, publisher_refuses};

/// An archive in the making, with whatever names and sizes.
#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    /// A regular file whose header claims `claimed` bytes.
    fn claiming(mut self, name: &str, claimed: u64, content: &[u8]) -> Self {
        self.header(name, tar::EntryType::Regular, claimed, "");
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        self.claiming(name, content.len() as u64, content)
    }

    fn link(mut self, kind: tar::EntryType, name: &str, target: &str) -> Self {
        self.header(name, kind, 0, target);
        self
    }

    fn header(&mut self, name: &str, kind: tar::EntryType, size: u64, target: &str) {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// A root file system with everything that a release needs.
fn whole() -> Archive {
    Archive::default()
        .file("usr/lib/os-release", b"ID=acme\nNAME=Acme\n")
        .file("usr/lib/modules/6.1.0/vmlinuz", &kernel(1, 90_000))
        .file("usr/lib/modules/6.1.0/initramfs.img", &noise(2, 90_000))
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// Writes an input and has it refused.
fn refused(fixture: &Fixture, name: &str, content: &[u8], says: &[&str]) -> Result<()> {
    let path = fixture.workspace().with_file_name(name);
    fs::write(&path, content)?;
    let path = path.display().to_string();
    let says = [&[path.as_str()], says].concat();
    publisher_refuses(&fixture.workspace(), &["build", &path, "--version", "2.0.0"], 3, &says)
        .map_err(|error| error.context(name.to_owned()))
        .map(drop)
}

#[test]
fn archives_that_are_truncated_oversized_or_lead_out_of_the_tree() -> Result<()> {
    let fixture = Fixture::new()?;
    let good = whole().end();
    let packed = gzip(&good)?;
    let sparse = Archive::default().claiming("usr/big", 70 << 30, b"x").end();
    let symlink = || whole().link(tar::EntryType::Symlink, "usr/way", "/etc");
    let cases: [(&str, Vec<u8>, &[&str]); 15] = [
        (
            "half.tar",
            good[..good.len() / 2 + 5000].to_vec(),
            &["claims 90000 bytes, more than the archive has left", "copy the archive again"],
        ),
        ("endless.tar", good[..good.len() - 1024].to_vec(), &["it is truncated: it has no end mark"]),
        (
            "half.tar.gz",
            packed[..packed.len() / 2].to_vec(),
            &["cannot be decompressed", "copy the archive again"],
        ),
        (
            "claims.tar",
            whole().claiming("usr/big", 1 << 40, b"x").end(),
            &["usr/big claims 1099511627776 bytes"],
        ),
        (
            "huge.tar.gz",
            gzip(&sparse)?,
            &["usr/big is 75161927680 bytes long: at most 68719476736 are taken"],
        ),
        (
            "dots.tar",
            whole().file("usr/../../etc/passwd", b"x").end(),
            &["usr/../../etc/passwd has a .. part"],
        ),
        (
            "absolute.tar",
            whole().file("/etc/passwd", b"x").end(),
            &["/etc/passwd is absolute", "relative paths"],
        ),
        (
            "symlink.tar",
            symlink().file("usr/way/passwd", b"x").end(),
            &["goes through the symbolic link", "usr/way"],
        ),
        (
            "hardlink.tar",
            whole().link(tar::EntryType::Link, "usr/shadow", "../../etc/shadow").end(),
            &["../../etc/shadow has a .. part"],
        ),
        (
            "nowhere.tar",
            whole().link(tar::EntryType::Link, "usr/shadow", "etc/shadow").end(),
            &["hard link", "etc/shadow", "not there before it"],
        ),
        ("twice.tar", whole().file("etc/a", b"1").file("./etc/a", b"2").end(), &["etc/a is there twice"]),
        ("empty.tar", Vec::new(), &["not a tar archive: expected a folder, a tar"]),
        ("noise.tar", noise(9, 5000), &["not a tar archive: expected a folder, a tar"]),
        ("root.tar.xz", b"\xfd7zXZ\0rest".to_vec(), &["compressed with xz", "run xz --decompress"]),
        ("root.zip", b"PK\x03\x04rest".to_vec(), &["compressed with zip", "run unzip"]),
    ];
    for (name, content, says) in cases {
        refused(&fixture, name, &content, says)?;
    }
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    refused(
        &fixture,
        "header.tar",
        &flipped(512 * 2 + 3),
        &["damaged: the header at byte 1024", "copy the archive"],
    )?;
    build(&fixture.workspace(), &["check"])?;
    Ok(())
}

#[test]
fn what_is_no_input_at_all() -> Result<()> {
    let fixture = Fixture::new()?;
    let workspace = &fixture.workspace();
    let empty = tempfile::tempdir()?;
    let empty = &empty.path().display().to_string();
    let pipe = fixture.workspace().with_file_name("pipe").display().to_string();
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status()?.success());
    let cases: [(&str, &[&str]); 6] = [
        ("/none/such", &["cannot take /none/such", "No such file"]),
        ("/dev/zero", &["/dev/zero", "neither a file nor a folder"]),
        (&pipe, &["neither a file nor a folder", "write what comes from it to a file"]),
        (empty, &["no kernel: looked for usr/lib/modules/", "and boot/vmlinuz-", "install a kernel package"]),
        ("ostree:/none/such:ref", &["/none/such", "No such file"]),
        ("ostree:", &["ostree:REPOSITORY:REF"]),
    ];
    for (source, says) in cases {
        publisher_refuses(workspace, &["build", source, "--version", "2.0.0"], 3, says)?;
    }
    let no_initrd = Archive::default().file("usr/lib/modules/6.1.0/vmlinuz", b"kernel").end();
    let path = workspace.with_file_name("no-initrd.tar");
    fs::write(&path, no_initrd)?;
    let path = path.display().to_string();
    let says = ["no initrd for kernel 6.1.0: looked for usr/lib/modules/6.1.0/initramfs.img", "dracut"];
    publisher_refuses(workspace, &["build", &path, "--version", "2.0.0"], 3, &says)?;
    Ok(())
}

#[test]
fn what_would_not_boot() -> Result<()> {
    let fixture = Fixture::new()?;
    let folder = "usr/lib/modules/6.2.0";
    let (image, initrd) = (format!("{folder}/vmlinuz"), format!("{folder}/initramfs.img"));
    let mut arm = kernel(3, 90_000);
    arm[0x44..0x46].copy_from_slice(b"\x64\xaa");
    let good = kernel(3, 90_000);
    let cases: [(&str, &[u8], &[u8], &str); 4] = [
        ("noise.tar", &noise(3, 90_000), b"x", "vmlinuz is not an EFI kernel: not an EFI program: no MZ"),
        ("arm.tar", &arm, b"x", "vmlinuz is for arm64, this workspace is for x86-64"),
        (
            "none.tar",
            b"",
            b"x",
            "the kernel usr/lib/modules/6.2.0/vmlinuz is empty; install a kernel package",
        ),
        ("initrd.tar", &good, b"", "initramfs.img is empty; make one with dracut or update-initramfs"),
    ];
    for (name, kernel, ram, says) in cases {
        let path = fixture.workspace().with_file_name(name);
        fs::write(&path, whole().file(&image, kernel).file(&initrd, ram).end())?;
        let path = path.display().to_string();
        publisher_refuses(&fixture.workspace(), &["build", &path, "--version", "2.0.0"], 3, &[says])?;
    }
    let path = fixture.workspace().with_file_name("other.tar");
    fs::write(&path, whole().file("etc/os-release", b"IMAGE_ID=\"other\"\n").end())?;
    let path = path.display().to_string();
    let says = ["etc/os-release says IMAGE_ID=other, this workspace makes releases of acme"];
    publisher_refuses(&fixture.workspace(), &["build", &path, "--version", "2.0.0"], 3, &says)?;
    Ok(())
}

/// An OCI image layout with one layer.
struct Layout(PathBuf);

impl Layout {
    fn new(folder: &Path, architecture: &str) -> Result<Self> {
        let layout = Self(folder.to_owned());
        fs::create_dir_all(folder.join("blobs/sha256"))?;
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let layer = layout.blob("layer.v1.tar", &whole().end())?;
        let config = json!({ "architecture": architecture, "os": "linux", "rootfs": { "type": "layers" } });
        let config = layout.blob("config.v1+json", config.to_string().as_bytes())?;
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
        let manifest = layout.blob("manifest.v1+json", manifest.to_string().as_bytes())?;
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        fs::write(folder.join("index.json"), index.to_string())?;
        Ok(layout)
    }

    fn blob(&self, kind: &str, bytes: &[u8]) -> Result<serde_json::Value> {
        let digest = Digest::of(bytes);
        fs::write(self.0.join(format!("blobs/sha256/{digest}")), bytes)?;
        let kind = format!("application/vnd.oci.image.{kind}");
        Ok(json!({ "mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len() }))
    }

    fn layer(&self) -> PathBuf {
        self.0.join(format!("blobs/sha256/{}", Digest::of(&whole().end())))
    }
}

#[test]
fn oci_images_that_are_not_what_their_digests_say() -> Result<()> {
    let fixture = Fixture::new()?;
    let workspace = &fixture.workspace();
    let folder = workspace.with_file_name("image");
    let path = &folder.display().to_string();
    let refused = |says: &[&str]| {
        let says = [&[path.as_str()], says].concat();
        publisher_refuses(workspace, &["build", path, "--version", "2.0.0"], 3, &says)
    };
    let layout = Layout::new(&folder, "amd64")?;
    let good = fs::read(layout.layer())?;
    let mut flipped = good.clone();
    flipped[600] ^= 1;
    fs::write(layout.layer(), flipped)?;
    refused(&["blob", "is damaged: its SHA-256 is", "copy the image again"])?;
    fs::write(layout.layer(), &good[..good.len() - 1])?;
    refused(&["blob", "its descriptor says", "copy the image again"])?;
    fs::remove_file(layout.layer())?;
    refused(&["it has no blobs/sha256/"])?;
    fs::remove_dir_all(&folder)?;
    Layout::new(&folder, "arm64")?;
    refused(&["arm64", "x86-64"])?;
    Ok(())
}

/// Changes a line of the workspace's configuration.
fn configure(workspace: &Path, from: &str, to: &str) -> Result<()> {
    let path = workspace.join("upright.toml");
    let text = fs::read_to_string(&path)?;
    assert!(text.contains(from), "{from:?} is not in {text}");
    Ok(fs::write(&path, text.replacen(from, to, 1))?)
}

#[test]
fn releases_that_no_host_could_or_should_take() -> Result<()> {
    let fixture = Fixture::new()?;
    let workspace = &fixture.workspace();
    let settings = fs::read_to_string(workspace.join("upright.toml"))?;
    let cases: [(&str, &str, &[&str]); 3] = [
        ("slot = \"64MiB\"", "slot = \"1MiB\"", &["root image has", "set `disk.slot` to 6MiB or more"]),
        (
            "arch = \"x86-64\"",
            "arch = \"arm64\"",
            &["is of acme for x86-64, this workspace is of acme for arm64"],
        ),
        ("os = \"acme\"", "os = \"other\"", &["is of acme for x86-64, this workspace is of other"]),
    ];
    for (from, to, says) in cases {
        configure(workspace, from, to)?;
        publisher_refuses(workspace, &["publish", "1.1.0"], 3, says)?;
        fs::write(workspace.join("upright.toml"), &settings)?;
    }
    let large = workspace.with_file_name("large.tar");
    let modules = "usr/lib/modules/6.2.0";
    let archive = whole().file(&format!("{modules}/vmlinuz"), &kernel(3, 20 << 20));
    fs::write(&large, archive.file(&format!("{modules}/initramfs.img"), b"x").end())?;
    fixture.build(&["build", &large.display().to_string(), "--version", "3.0.0"])?;
    configure(workspace, "esp = \"512MiB\"", "esp = \"40MiB\"")?;
    let says = ["3.0.0 does not fit the smallest hosts of acme: the ESP has", "set `disk.esp` to"];
    publisher_refuses(workspace, &["publish", "3.0.0"], 3, &says)?;
    fs::write(workspace.join("upright.toml"), &settings)?;
    publisher_refuses(workspace, &["publish", "1.1.0", "--channel", "beta"], 3, &["beta is not a channel"])?;
    fixture.build(&["publish", "1.1.0"])?;
    publisher_refuses(
        workspace,
        &["publish", "1.0.0"],
        3,
        &["1.0.0 is not newer than 1.1.0, which stable points at", "--allow-downgrade"],
    )?;
    Ok(())
}

#[test]
fn an_unreadable_configuration_is_named_with_its_line_and_what_was_expected() -> Result<()> {
    let fixture = Fixture::new()?;
    let workspace = &fixture.workspace();
    let file = workspace.join("upright.toml");
    let good = fs::read_to_string(&file)?;
    let cases: [(&str, &str, &[&str]); 5] = [
        ("edges = 3", "edge = 3", &["upright.toml:11: unknown field `edge`, expected one of"]),
        ("arch = \"x86-64\"", "arch = \"pdp11\"", &["upright.toml:", "expected `x86-64` or `arm64`"]),
        ("edges = 3", "edges = \"3", &["upright.toml:11:"]),
        (
            "channels = [\"stable\"]",
            "channels = []",
            &["upright.toml:7: `channels` is empty; expected at least one"],
        ),
        (
            "slot = \"64MiB\"",
            "slot = 1000",
            &["upright.toml:", "`disk.slot` is 1000; expected a multiple of 1MiB"],
        ),
    ];
    for (from, to, says) in cases {
        configure(workspace, from, to)?;
        publisher_refuses(workspace, &["publish", "1.1.0"], 3, says)?;
        fs::write(&file, &good)?;
    }
    fs::write(&file, [b"os = \"acme\"\narch = \"", b"\xff\xfe".as_slice(), b"\"\n"].concat())?;
    publisher_refuses(workspace, &["list"], 3, &["upright.toml:2: a byte that is not UTF-8"])?;
    fs::write(&file, vec![b'#'; 2 << 20])?;
    publisher_refuses(workspace, &["list"], 3, &["upright.toml", "more than 1048576 bytes"])?;
    fs::remove_file(&file)?;
    publisher_refuses(workspace, &["list"], 3, &["is not a workspace", "upright-build init"])?;
    fs::create_dir(&file)?;
    publisher_refuses(workspace, &["list"], 3, &["upright.toml", "Is a directory", "expected a text file"])?;
    let ran = upright_tests::programs::run("upright-build", ["init", "/dev/null", "--os", "acme"])?;
    line_of("upright-build", &ran, 3)?;
    Ok(())
}
