//! A simulated host (`upright --root DIR`): the partitions as files in a folder, for trying a release out without a machine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use upright_manifests::bls::EntryName;

use super::slot::{self, Place};
use super::sparse::Target;
use super::{DiskError, Plan, beside, check_fit, disk_uuid, length};

/// Writes a host that runs the release in slot a to the folder `out`, which must not exist and appears when it is complete.
/// `files` are what the host has in its file system besides, by path.
pub fn write_simulated(
    plan: &Plan<'_>,
    files: &[(&str, Vec<u8>)],
    out: &Path,
    reached: &dyn Fn(u64),
) -> Result<(), DiskError> {
    check_fit(&plan.sizes, length(plan.root)?, plan.verity.hash_size, length(plan.uki)?)?;
    let part = beside(out, "simulated");
    if fs::symlink_metadata(out).is_ok() {
        return Err(DiskError::Exists(out.to_owned()));
    }
    let done = write_folder(plan, files, &part, reached).and_then(|()| {
        fs::rename(&part, out).map_err(|source| DiskError::Write { path: out.to_owned(), source })
    });
    if done.is_err() {
        // What failed is what counts.
        let _ = fs::remove_dir_all(&part);
    }
    done
}

fn write_folder(
    plan: &Plan<'_>,
    files: &[(&str, Vec<u8>)],
    folder: &Path,
    reached: &dyn Fn(u64),
) -> Result<(), DiskError> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(writing(folder))?;
    }
    for name in ["dev", "esp/EFI/Linux", "var/lib/upright"] {
        let path = folder.join(name);
        fs::create_dir_all(&path).map_err(writing(&path))?;
    }
    let partition = |name: &str, size: u64| -> Result<(PathBuf, File), DiskError> {
        let path = folder.join("dev").join(name);
        let file = File::create(&path).and_then(|file| file.set_len(size).map(|()| file));
        file.map(|file| (path.clone(), file)).map_err(writing(&path))
    };
    let root = partition("root-a", plan.sizes.slot)?;
    let hashes = partition("root-a-verity", plan.sizes.verity)?;
    partition("root-b", plan.sizes.slot)?;
    partition("root-b-verity", plan.sizes.verity)?;
    let place = |(path, file)| Place { target: Target { file, path }, offset: 0 };
    let (to, tree) = (place((&root.0, &root.1)), place((&hashes.0, &hashes.1)));
    slot::write(plan.root, plan.verity, to, tree, reached)?;

    let entry = EntryName { os: plan.os.clone(), version: plan.version.clone(), counter: None };
    let uki = folder.join("esp/EFI/Linux").join(entry.to_string());
    fs::copy(plan.uki, &uki).map_err(writing(&uki))?;
    let id = disk_uuid(plan, "machine").to_string().replace('-', "") + "\n";
    write_file(folder, "etc/machine-id", id.as_bytes())?;
    files.iter().try_for_each(|(path, content)| write_file(folder, path, content))
}

fn write_file(folder: &Path, path: &str, content: &[u8]) -> Result<(), DiskError> {
    let path = folder.join(path);
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::write(&path, content)).map_err(writing(&path))
}

fn writing(path: &Path) -> impl Fn(std::io::Error) -> DiskError + '_ {
    |source| DiskError::Write { path: path.to_owned(), source }
}
