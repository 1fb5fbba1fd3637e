//! How many bytes a host fetches.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Pair, Shell};

/// One file.
pub(super) fn of_delta(shell: &Shell, _: Pair) -> Result<u64> {
    size(&shell.at("scratch/delta"))
}

/// The new image's index, and the chunks that are in its store and not in that of the old image.
pub(super) fn of_chunks(shell: &Shell, pair: Pair) -> Result<u64> {
    let there = chunks(&shell.at(&pair.fill("scratch/{old}.castr")))?;
    let needed = chunks(&shell.at(&pair.fill("scratch/{new}.castr")))?;
    let missing: u64 =
        needed.iter().filter(|(name, _)| !there.contains_key(*name)).map(|(_, size)| size).sum();
    Ok(missing + size(&shell.at(&pair.fill("scratch/{new}.caibx")))?)
}

/// The chunks of a store, two folders deep, by their names.
fn chunks(store: &Path) -> Result<BTreeMap<OsString, u64>> {
    let mut found = BTreeMap::new();
    for folder in list(store)?.iter().filter(|path| path.is_dir()) {
        for file in list(folder)? {
            let name = file.file_name().context("a file without a name")?.to_owned();
            found.insert(name, size(&file)?);
        }
    }
    Ok(found)
}

fn list(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let listed = fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))?;
    listed.map(|entry| Ok(entry?.path())).collect()
}

fn size(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).with_context(|| format!("reading {}", path.display()))?.len())
}
