//! A disk image or a simulated host of a build, for a first install.

use std::fs;
use std::path::Path;

use upright_manifests::bytes::human;
use upright_manifests::version::Version;

use super::build::{Build, IMAGE, UKI};
use super::error::{Error, Result, chain};
use super::progress::Progress;
use super::workspace::Workspace;
use crate::disk::{self, DiskError, Format};
use crate::tree::{Contents, Store, Tree};
use crate::uki;

/// What `upright.toml` of a simulated host says if the release has none: `upright-build serve` is the repository.
const CONFIGURATION: &[u8] = b"[repository]\nurl = \"http://127.0.0.1:8080\"\n\n[health]\nsettle = \"0s\"\n";

/// How large a host's configuration may be, in bytes.
const MAX_SETTING: u64 = 1 << 20;

/// What is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A disk image in this format.
    Disk(Format),
    /// A folder for `upright --root`.
    Simulated,
}

/// Writes a host that runs the build of `version` to `out`.
pub fn install(
    workspace: &Workspace,
    version: &Version,
    target: Target,
    out: &Path,
    progress: &dyn Progress,
) -> Result<()> {
    let build = Build::require(workspace, version)?;
    let folder = workspace.build(version);
    let store = Store::open(&workspace.trees()).map_err(|error| Error::Failed(chain(&error)))?;
    let tree = store.load(&build.commit.to_string()).map_err(|error| Error::Failed(chain(&error)))?.tree;
    let scratch = tempfile::tempdir_in(workspace.builds())
        .map_err(|error| Error::Failed(format!("cannot make a folder in builds/: {error}")))?;
    let loader = scratch.path().join("loader.efi");
    let format = match target {
        Target::Disk(format) => format,
        Target::Simulated => Format::Raw,
    };
    let plan = disk::Plan {
        os: &build.os,
        version: &build.version,
        arch: build.arch,
        time: build.time,
        root: &folder.join(IMAGE),
        verity: &build.root.verity,
        uki: &folder.join(UKI),
        loader: &loader,
        sizes: workspace.config.disk.sizes(),
        format,
    };
    progress.begin("disk image", Some(build.root.size));
    let reached = |bytes| progress.reached(bytes);
    let written = match target {
        Target::Disk(_) => {
            write_loader(workspace, &build, &tree, store.objects(), &loader)?;
            disk::write(&plan, out, &reached)
        }
        Target::Simulated => {
            let settings = settings(workspace, &tree, store.objects())?;
            disk::write_simulated(&plan, &settings, out, &reached)
        }
    };
    written.map_err(|error| match error {
        DiskError::Slot { .. } | DiskError::Esp { .. } | DiskError::Size { .. } => Error::refused(format!(
            "{version} does not fit the disk that upright.toml describes: {}",
            chain(&error)
        )),
        DiskError::Exists(_) | DiskError::NotAFile { .. } => Error::refused(chain(&error)),
        // It names the file already, and that may be another one than was asked for.
        other @ (DiskError::Read { .. } | DiskError::Write { .. }) => Error::Failed(chain(&other)),
        other => Error::Failed(format!("cannot write {}: {}", out.display(), chain(&other))),
    })?;
    let size = fs::metadata(out).map_or(0, |file| file.len());
    progress.end(&human(size));
    Ok(())
}

/// What the agent reads from a host's file system: the release's, or what works with this workspace.
fn settings(
    workspace: &Workspace,
    tree: &Tree,
    contents: &dyn Contents,
) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let root_json = workspace.trusted_root();
    let trusted = fs::read(&root_json).map_err(Error::file("read", &root_json))?;
    [("usr/share/upright/root.json", trusted), ("etc/upright/upright.toml", CONFIGURATION.to_vec())]
        .into_iter()
        .map(|(path, default)| {
            let found = uki::read_file(tree, contents, path, MAX_SETTING);
            Ok((path, found.map_err(|error| Error::Failed(chain(&error)))?.unwrap_or(default)))
        })
        .collect()
}

/// systemd-boot as it goes onto the ESP.
fn write_loader(
    workspace: &Workspace,
    build: &Build,
    tree: &Tree,
    contents: &dyn Contents,
    out: &Path,
) -> Result<()> {
    let bytes =
        uki::read_loader(Some((tree, contents)), build.arch).map_err(|error| Error::Failed(chain(&error)))?;
    fs::write(out, bytes).map_err(Error::file("write", out))?;
    match &workspace.config.secure_boot {
        Some(keys) => uki::sign(out, &workspace.resolve(&keys.key), &workspace.resolve(&keys.certificate))
            .map_err(|error| Error::Failed(chain(&error))),
        None => Ok(()),
    }
}
