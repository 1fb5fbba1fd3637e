//! Where kernel, initrd and the parts of systemd-boot are.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use upright_manifests::name::Arch;
use upright_manifests::version::Version;

use super::UkiError;
use crate::tree::{Content, Contents, Kind, Tree, TreePath};

/// Where systemd-boot's EFI programs are, in a tree and on this machine.
const BOOT_FILES: &str = "usr/lib/systemd/boot/efi";

/// The largest EFI program of systemd-boot that is read, in bytes.
const MAX_BOOT_FILE: u64 = 16 << 20;

/// The most symbolic links that are followed, as the kernel has it (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// A kernel of a tree and its initrd, each a path and its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The kernel's version: the name of its modules' folder.
    pub version: String,
    /// The kernel image.
    pub image: (TreePath, Content),
    /// The initrd.
    pub initrd: (TreePath, Content),
}

/// Finds the kernel to boot: the one named `wanted`, or the newest (UAPI.10).
///
/// Kernels are in `usr/lib/modules/<version>/` (the OSTree convention) or in `boot/` (Debian's).
pub fn find_kernel(tree: &Tree, wanted: Option<&str>) -> Result<Kernel, UkiError> {
    let mut kernels = kernels(tree);
    let newest = kernels.keys().max_by(|a, b| age(a, b)).cloned().ok_or(UkiError::NoKernel)?;
    let version = wanted.map_or(newest, str::to_owned);
    let Some(image) = kernels.remove(&version) else {
        return Err(UkiError::NotThisKernel {
            looked_at: kernel_paths(&version).join(" and "),
            wanted: version,
            found: kernels.into_keys().collect::<Vec<_>>().join(", "),
        });
    };
    let paths = initrd_paths(&version);
    match paths.iter().find_map(|path| lookup(tree, path.as_bytes())) {
        Some(initrd) => Ok(Kernel { version, image, initrd }),
        None => Err(UkiError::NoInitrd { kernel: version, looked_at: paths.join(" and ") }),
    }
}

/// systemd's UKI stub: the tree's, or else this machine's.
pub(super) fn read_stub(tree: &Tree, contents: &dyn Contents, arch: Arch) -> Result<Vec<u8>, UkiError> {
    let file = match arch {
        Arch::X86_64 => "linuxx64.efi.stub",
        Arch::Arm64 => "linuxaa64.efi.stub",
    };
    read_boot_file(Some((tree, contents)), file)
}

/// systemd-boot itself: the tree's, or else this machine's.
pub fn read_loader(tree: Option<(&Tree, &dyn Contents)>, arch: Arch) -> Result<Vec<u8>, UkiError> {
    let file = match arch {
        Arch::X86_64 => "systemd-bootx64.efi",
        Arch::Arm64 => "systemd-bootaa64.efi",
    };
    read_boot_file(tree, file)
}

/// The content of a file of the tree, of at most `limit` bytes; none if there is no such file.
pub fn read_file(
    tree: &Tree,
    contents: &dyn Contents,
    path: &str,
    limit: u64,
) -> Result<Option<Vec<u8>>, UkiError> {
    let Some((path, content)) = lookup(tree, path.as_bytes()) else { return Ok(None) };
    let reading = |source| UkiError::Content { path: shown(&path), source };
    let mut bytes = Vec::new();
    contents.open(&content).map_err(reading)?.take(limit).read_to_end(&mut bytes).map_err(reading)?;
    Ok(Some(bytes))
}

fn read_boot_file(tree: Option<(&Tree, &dyn Contents)>, file: &'static str) -> Result<Vec<u8>, UkiError> {
    let path = format!("{BOOT_FILES}/{file}");
    if let Some((tree, contents)) = tree
        && let Some(bytes) = read_file(tree, contents, &path, MAX_BOOT_FILE)?
    {
        return Ok(bytes);
    }
    let mut bytes = Vec::new();
    let here = Path::new("/").join(&path);
    if !here.exists() {
        let looked_at = format!("{path} in the tree and {}", here.display());
        return Err(UkiError::NoBootFile { file, looked_at });
    }
    let read = fs::File::open(&here).and_then(|file| file.take(MAX_BOOT_FILE).read_to_end(&mut bytes));
    read.map_err(|source| UkiError::Read { path: here, source })?;
    Ok(bytes)
}

/// All kernels of a tree by version.
fn kernels(tree: &Tree) -> BTreeMap<String, (TreePath, Content)> {
    let versions = tree.paths.keys().filter_map(|path| {
        let path = std::str::from_utf8(path).ok()?;
        let version = match path.strip_prefix("usr/lib/modules/") {
            Some(rest) => rest.strip_suffix("/vmlinuz")?,
            None => path.strip_prefix("boot/vmlinuz-")?,
        };
        (!version.is_empty() && !version.contains('/')).then_some(version)
    });
    let image = |version: &str| {
        let paths = kernel_paths(version);
        let found = paths.iter().find_map(|path| lookup(tree, path.as_bytes()))?;
        Some((version.to_owned(), found))
    };
    versions.filter_map(image).collect()
}

fn kernel_paths(version: &str) -> [String; 2] {
    [format!("usr/lib/modules/{version}/vmlinuz"), format!("boot/vmlinuz-{version}")]
}

fn initrd_paths(version: &str) -> [String; 2] {
    [format!("usr/lib/modules/{version}/initramfs.img"), format!("boot/initrd.img-{version}")]
}

/// UAPI.10, which skips what is outside of its alphabet; the text decides between equals.
fn age(a: &str, b: &str) -> Ordering {
    let version = |text: &str| -> Option<Version> {
        let known = text.chars().filter(|c| c.is_ascii_alphanumeric() || ".-~^".contains(*c));
        known.collect::<String>().parse().ok()
    };
    let order = match (version(a), version(b)) {
        (Some(a), Some(b)) => a.age(&b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    };
    order.then_with(|| a.cmp(b))
}

/// The regular file at `path`, symbolic links followed; with the path it is found at.
pub(super) fn lookup(tree: &Tree, path: &[u8]) -> Option<(TreePath, Content)> {
    let mut left: Vec<Vec<u8>> = path.split(|b| *b == b'/').rev().map(<[u8]>::to_vec).collect();
    let mut at = TreePath::new();
    let mut links = 0;
    while let Some(part) = left.pop() {
        match part.as_slice() {
            b"" | b"." => continue,
            b".." => {
                at.truncate(at.iter().rposition(|b| *b == b'/').unwrap_or(0));
                continue;
            }
            _ => {}
        }
        let parent = at.clone();
        if !at.is_empty() {
            at.push(b'/');
        }
        at.extend_from_slice(&part);
        match &tree.inodes.get(*tree.paths.get(&at)?)?.kind {
            Kind::File(content) if left.is_empty() => return Some((at, *content)),
            Kind::Directory => {}
            Kind::Symlink(target) if links < MAX_LINKS => {
                links += 1;
                left.extend(target.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
                at = if target.starts_with(b"/") { TreePath::new() } else { parent };
            }
            _ => return None,
        }
    }
    None
}

/// A tree's path for messages.
pub(super) fn shown(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}
