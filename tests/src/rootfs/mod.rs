//! Root file systems of real Debian releases, as tars for `upright-build build`.
//!
//! `tests/rootfs/build` makes the two bases with mmdebstrap, once for each version of its inputs; a release is a base with
//! files added, changed and removed.

mod compose;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use upright_manifests::digest::Digest;

pub use compose::{Changes, compose};

/// Debian as it was published, and the same with a package from the security archive.
#[derive(Debug, Clone)]
pub struct Bases {
    /// Without the security update.
    pub original: PathBuf,
    /// With it.
    pub updated: PathBuf,
}

/// The bases, made if there are none yet for what they are made from: below `target`, by the hash of the inputs.
pub fn bases(project: &Path, target: &Path) -> Result<Bases> {
    let folder = target.join("rootfs").join(&inputs(project)?.to_string()[..16]);
    let bases = Bases { original: folder.join("1.0.tar"), updated: folder.join("1.1.tar") };
    make(project, target, &folder, &[], || bases.original.exists() && bases.updated.exists())?;
    Ok(bases)
}

/// Debian with the kernel for real machines, made like [`bases`].
pub fn watched(project: &Path, target: &Path) -> Result<PathBuf> {
    let folder = target.join("rootfs").join(&inputs(project)?.to_string()[..16]);
    let base = folder.join("watched.tar");
    make(project, target, &folder, &["watched"], || base.exists())?;
    Ok(base)
}

/// Runs `tests/rootfs/build`, unless what it makes is there.
fn make(
    project: &Path,
    target: &Path,
    folder: &Path,
    kind: &[&str],
    is_there: impl Fn() -> bool,
) -> Result<()> {
    let all = target.join("rootfs");
    // Stories that are told side by side want the same ones. The kernel drops the lock with the file.
    fs::create_dir_all(&all).with_context(|| format!("making {}", all.display()))?;
    let lock = all.join("lock");
    let lock = File::create(&lock).with_context(|| format!("opening {}", lock.display()))?;
    lock.lock().context("locking the root file systems")?;
    if is_there() {
        return Ok(());
    }
    let script = project.join("tests/rootfs/build");
    let made = Command::new(&script).arg(folder).args(kind).status();
    let made = made.with_context(|| format!("cannot run {}", script.display()))?;
    ensure!(made.success(), "{} ended with {made}", script.display());
    Ok(())
}

/// The hash of everything that decides what the bases hold, but for Debian's archive.
fn inputs(project: &Path) -> Result<Digest> {
    let mut all = Vec::new();
    for folder in ["tests/rootfs", "dist/dracut/90upright", "dist/systemd/system.conf.d"] {
        let folder = project.join(folder);
        let listed = fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))?;
        let mut files: Vec<PathBuf> = listed.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.sort();
        for file in files {
            all.extend(fs::read(&file).with_context(|| format!("reading {}", file.display()))?);
            all.push(0);
        }
    }
    Ok(Digest::of(&all))
}
