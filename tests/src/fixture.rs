//! A small OS with three releases, published; and simulated hosts that run its first one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;
use upright_manifests::name::Arch;

use crate::programs::build;
use crate::server::Server;
use crate::simulated::{Sizes, install};

/// The name of the small OS.
pub const OS: &str = "acme";

/// The port that `upright-build serve` takes.
const DEFAULT_PORT: u16 = 8080;

/// A workspace with builds of 1.0.0, 1.1.0 and 1.2.0, of which only the first is published, and a server of its repository.
///
/// 1.1.0 changes, adds and removes files; in 1.2.0 the program of the required service `app.service` is missing.
pub struct Fixture {
    folder: PathBuf,
    /// Goes away with the fixture, unless someone wants to look at what was made.
    _temporary: Option<TempDir>,
    /// Serves the repository.
    pub server: Server,
}

impl Fixture {
    /// Builds and publishes in a temporary folder.
    pub fn new() -> Result<Self> {
        let temporary = TempDir::new()?;
        let fixture = Self::in_folder(temporary.path())?;
        Ok(Self { _temporary: Some(temporary), ..fixture })
    }

    /// Builds and publishes in `folder`, which stays.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        let make = |tree: &Path, version: &str| make_tree(tree, version, DEFAULT_PORT);
        Self::of(folder, &["1.0.0", "1.1.0", "1.2.0"], make)
    }

    /// Like [`Self::in_folder`], with trees that `make` writes; the first of the versions is published.
    pub fn of(folder: &Path, versions: &[&str], make: impl Fn(&Path, &str) -> Result<()>) -> Result<Self> {
        let workspace = folder.join("workspace");
        let path = workspace.to_str().context("a path that is UTF-8")?;
        let made =
            crate::programs::run("upright-build", ["init", path, "--os", OS, "--arch", arch()?.as_str()])?;
        anyhow::ensure!(made.status == 0, "{made:?}");
        shrink(&workspace)?;
        for version in versions {
            let tree = folder.join(version);
            make(&tree, version)?;
            let tree = tree.to_str().context("a path that is UTF-8")?;
            build(&workspace, &["build", tree, "--version", version, "--time", "2026-01-01T00:00:00Z"])?;
        }
        build(&workspace, &["publish", versions.first().context("no version")?])?;
        let server = Server::start(&workspace.join("repository"))?;
        Ok(Self { folder: folder.to_owned(), _temporary: None, server })
    }

    /// The publisher's workspace.
    pub fn workspace(&self) -> PathBuf {
        self.folder.join("workspace")
    }

    /// Runs `upright-build` in the workspace; it must succeed.
    pub fn build(&self, arguments: &[&str]) -> Result<()> {
        build(&self.workspace(), arguments).map(drop)
    }

    /// The manifest of a release that is published.
    pub fn manifest(&self, version: &str) -> Result<Value> {
        let folder = self.workspace().join("repository/releases").join(OS).join(arch()?.as_str());
        let name = format!(".{version}.json");
        let listed = fs::read_dir(&folder)?.collect::<std::io::Result<Vec<_>>>()?;
        let manifest = listed.iter().find(|file| file.file_name().to_string_lossy().ends_with(&name));
        let manifest = manifest.with_context(|| format!("no manifest of {version}"))?;
        Ok(serde_json::from_slice(&fs::read(manifest.path())?)?)
    }

    /// A new host that runs 1.0.0, at a path that lasts as long as the fixture.
    pub fn host(&self, name: &str) -> Result<PathBuf> {
        self.host_with(name, "", Sizes::default())
    }

    /// A new host with more in its configuration and other partition sizes.
    pub fn host_with(&self, name: &str, more: &str, sizes: Sizes) -> Result<PathBuf> {
        let host = self.folder.join(name);
        let workspace = self.workspace();
        let config = format!("{}\n{more}", configuration(&self.server.url()));
        install(&host, &workspace, "1.0.0", &config, sizes)?;
        Ok(host)
    }
}

/// What hosts are made for: this machine, or the architecture that `UPRIGHT_ARCH` names. Its agent is then in the folder
/// `UPRIGHT_PROGRAMS`, and systemd-boot's programs for it in `UPRIGHT_BOOT_FILES`.
pub fn arch() -> Result<Arch> {
    match std::env::var("UPRIGHT_ARCH") {
        Ok(name) => name.parse().map_err(|error| anyhow::anyhow!("UPRIGHT_ARCH: {error}")),
        Err(_) => Ok(Arch::HERE),
    }
}

/// A host's configuration.
pub fn configuration(url: &str) -> String {
    format!(
        "[repository]\nurl = \"{url}\"\n\n[health]\nsettle = \"0s\"\n\n[[health.check]]\nname = \"app\"\n\
         unit = \"app.service\"\nretries = 0\n"
    )
}

/// Makes the partitions in the workspace's configuration small.
fn shrink(workspace: &Path) -> Result<()> {
    let path = workspace.join("upright.toml");
    let text = fs::read_to_string(&path)?;
    let text = text
        .replace("slot = \"4GiB\"", "slot = \"64MiB\"")
        .replace("verity = \"40MiB\"", "verity = \"2MiB\"")
        .replace("payload = 19", "payload = 1");
    Ok(fs::write(&path, text)?)
}

/// Writes the root file system of a version, whose repository is on this port of the machine it runs on.
pub fn make_tree(tree: &Path, version: &str, port: u16) -> Result<()> {
    let url = format!("http://127.0.0.1:{port}");
    file(tree, "etc/upright/upright.toml", configuration(&url).as_bytes())?;
    let newer = version != "1.0.0";
    system(tree, &kernel(1, 900_000), &noise(2, 1_500_000))?;
    for number in 0..300_u64 {
        // One file in twenty changes a little from 1.0.0 to 1.1.0; one in a hundred goes away.
        let mut content = noise(100 + number, 2_000 + 37 * number as usize);
        if newer && number.is_multiple_of(20) {
            content[500] ^= 0xff;
            content.extend_from_slice(b"a new line\n");
        }
        if !(newer && number % 100 == 7) {
            file(tree, &format!("usr/share/acme/{number:03}"), &content)?;
        }
    }
    if newer {
        file(tree, "usr/share/acme/added", &noise(7, 20_000))?;
    }
    file(tree, "usr/lib/systemd/system/app.service", b"[Service]\nExecStart=/usr/bin/app --serve\n")?;
    if version != "1.2.0" {
        file(tree, "usr/bin/app", format!("#!/bin/sh\necho {version}\n").as_bytes())?;
    }
    Ok(())
}

/// Writes what makes a tree an OS: its name, a kernel, an initrd, and the folders that it is mounted over.
pub fn system(tree: &Path, kernel: &[u8], initrd: &[u8]) -> Result<()> {
    file(tree, "usr/lib/os-release", b"ID=acme\nNAME=\"Acme OS\"\n")?;
    file(tree, "usr/lib/modules/6.1.0/vmlinuz", kernel)?;
    file(tree, "usr/lib/modules/6.1.0/initramfs.img", initrd)?;
    if let Some(folder) = std::env::var_os("UPRIGHT_BOOT_FILES") {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let path = format!("usr/lib/systemd/boot/efi/{}", entry.file_name().to_string_lossy());
            file(tree, &path, &fs::read(entry.path())?)?;
        }
    }
    for folder in ["etc", "var", "proc", "sys", "dev", "run", "tmp", "root"] {
        fs::create_dir_all(tree.join(folder))?;
    }
    Ok(())
}

/// Writes a file of a tree, and its folders.
pub fn file(tree: &Path, path: &str, content: &[u8]) -> Result<()> {
    let path = tree.join(path);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&path, content)?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?)
}

/// Such bytes behind the headers of an EFI program for what hosts are made for, which is all that is looked at of a kernel.
pub fn kernel(seed: u64, length: usize) -> Vec<u8> {
    let machine: &[u8] = if arch().is_ok_and(|arch| arch == Arch::Arm64) { b"\x64\xaa" } else { b"\x64\x86" };
    let file_header = [b"PE\0\0", machine, &[0; 18]].concat();
    // The magic of PE32+, and no sections.
    let headers = [b"MZ", &[0; 58][..], &[0x40, 0, 0, 0], &file_header, &[0x0b, 0x02], &[0; 110]].concat();
    let content = noise(seed, length - headers.len());
    [headers, content].concat()
}

/// Bytes that do not compress, the same each time (xorshift64, Marsaglia 2003).
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}
