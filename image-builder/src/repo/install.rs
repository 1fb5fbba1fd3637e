//! A disk image of a build, for a first install.

use std::fs;
use std::path::Path;

use upright_manifests::version::Version;

use super::build::{Build, IMAGE, UKI};
use super::error::{Error, Result, chain};
use super::workspace::Workspace;
use crate::disk::{self, DiskError, Format};
use crate::tree::Store;
use crate::uki;

/// Writes the disk image of the build of `version` to `out`.
pub fn install(workspace: &Workspace, version: &Version, format: Format, out: &Path) -> Result<()> {
    let build = Build::require(workspace, version)?;
    let folder = workspace.build(version);
    let scratch = tempfile::tempdir_in(workspace.builds())
        .map_err(|error| Error::Failed(format!("cannot make a folder in builds/: {error}")))?;
    let loader = scratch.path().join("loader.efi");
    write_loader(workspace, &build, &loader)?;
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
    disk::write(&plan, out).map_err(|error| match error {
        DiskError::Slot { .. } | DiskError::Esp { .. } | DiskError::Size { .. } => Error::refused(format!(
            "{version} does not fit the disk that upright.toml describes: {}",
            chain(&error)
        )),
        other => Error::Failed(format!("cannot write the disk image {}: {}", out.display(), chain(&other))),
    })
}

/// systemd-boot as it goes onto the ESP.
fn write_loader(workspace: &Workspace, build: &Build, out: &Path) -> Result<()> {
    let store = Store::open(&workspace.trees()).map_err(|error| Error::Failed(chain(&error)))?;
    let loaded = store.load(&build.commit.to_string()).map_err(|error| Error::Failed(chain(&error)))?;
    let bytes = uki::read_loader(Some((&loaded.tree, store.objects())), build.arch)
        .map_err(|error| Error::Failed(chain(&error)))?;
    fs::write(out, bytes).map_err(Error::file("write", out))?;
    match &workspace.config.secure_boot {
        Some(keys) => uki::sign(out, &workspace.resolve(&keys.key), &workspace.resolve(&keys.certificate))
            .map_err(|error| Error::Failed(chain(&error))),
        None => Ok(()),
    }
}
