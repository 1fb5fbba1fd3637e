//! What follows the host from slot to slot: a password that was changed is changed, whichever slot runs.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use upright_manifests::name::Slot;
use upright_manifests::state::{Declarations, Kind, insert, matches};

use super::accounts;
use super::copy::{Copier, dress};
use super::declared::Image;
use super::hands::Hands;
use super::layout::Layout;

/// Makes what `declared` says follows the host in `to` what it is in `from`, path by path; gives what could not be done.
pub(super) fn follow(
    layout: &Layout,
    hands: &Hands<'_>,
    declared: &Declarations,
    from: Slot,
    to: Slot,
) -> Vec<String> {
    let (source, target) = (layout.upper(from), layout.upper(to));
    let mut complaints = Vec::new();
    for path in paths(declared, &[&source, &target]) {
        if let Err(error) = bring(hands, &source, &target, &layout.etc(to).join("new"), &path) {
            complaints.push(format!("/etc/{path} does not follow from slot {from} to slot {to}: {error}"));
        }
    }
    complaints
}

/// The paths that patterns stand for, as far as one of the folders has them.
pub(super) fn paths(declared: &Declarations, folders: &[&Path]) -> Vec<String> {
    let mut paths = Vec::new();
    for kind in [Kind::Sticky, Kind::Identity, Kind::Accounts] {
        for pattern in declared.of(kind) {
            let (folder, last) =
                pattern.rsplit_once('/').map_or(("", pattern), |(folder, last)| (folder, last));
            for top in folders {
                for entry in fs::read_dir(top.join(folder)).into_iter().flatten().flatten() {
                    let Ok(name) = entry.file_name().into_string() else { continue };
                    if matches(last.as_bytes(), name.as_bytes()) {
                        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                        insert(&mut paths, path);
                    }
                }
            }
        }
    }
    paths
}

/// Makes `path` in `target` what it is in `source`: the same, or not there, so that the image's counts.
fn bring(hands: &Hands<'_>, source: &Path, target: &Path, new: &Path, path: &str) -> io::Result<()> {
    let (from, to) = (source.join(path), target.join(path));
    if !lead_to(source, path) || !Layout::is_there(&from) {
        return if lead_to(target, path) { hands.remove(&to) } else { Ok(()) };
    }
    make_folders(hands, source, target, path)?;
    hands.remove(new)?;
    Copier::new(hands).copy(&from, new)?;
    put(hands, new, &to, target)
}

/// Puts what was made aside in its place, durably.
fn put(hands: &Hands<'_>, new: &Path, to: &Path, target: &Path) -> io::Result<()> {
    hands.sync(target)?;
    // A folder takes nothing's place; what is missing after a power cut is brought by the next boot.
    if to.is_dir() || new.is_dir() {
        hands.remove(to)?;
    }
    hands.rename(new, to)
}

/// Whether folders, and no links, lead to `path` below `top`.
pub(super) fn lead_to(top: &Path, path: &str) -> bool {
    let folders = path.match_indices('/').filter_map(|(end, _)| path.get(..end));
    folders.into_iter().all(|folder| fs::symlink_metadata(top.join(folder)).is_ok_and(|meta| meta.is_dir()))
}

/// Makes the folders that lead to `path` as they are in `source`. Those that hide the image's there do not do so here.
pub(super) fn make_folders(hands: &Hands<'_>, source: &Path, target: &Path, path: &str) -> io::Result<()> {
    hands.make_folder(target)?;
    for (end, _) in path.match_indices('/') {
        let Some(folder) = path.get(..end) else { continue };
        let at = target.join(folder);
        match fs::symlink_metadata(&at) {
            Ok(meta) if meta.is_dir() => continue,
            Ok(_) => return Err(io::Error::other(format!("/etc/{folder} is no folder there"))),
            Err(_) => {}
        }
        hands.make(&at)?;
        let meta = fs::symlink_metadata(source.join(folder))?;
        fs::create_dir(&at)?;
        chown(&at, Some(meta.uid()), Some(meta.gid()))?;
        fs::set_permissions(&at, fs::Permissions::from_mode(meta.mode() & 0o7777))?;
    }
    Ok(())
}

/// Adds to the slot's own files of users what the image knows besides; gives what could not be done.
pub(super) fn add_accounts(
    layout: &Layout,
    hands: &Hands<'_>,
    image: &dyn Image,
    declared: &Declarations,
    slot: Slot,
) -> Vec<String> {
    let mut complaints = Vec::new();
    for path in declared.of(Kind::Accounts) {
        if let Err(error) = add(layout, hands, image, slot, path) {
            complaints.push(format!("/etc/{path} lacks what the image has: {error}"));
        }
    }
    complaints
}

fn add(layout: &Layout, hands: &Hands<'_>, image: &dyn Image, slot: Slot, path: &str) -> io::Result<()> {
    let upper = layout.upper(slot);
    let at = upper.join(path);
    if !lead_to(&upper, path) || !fs::symlink_metadata(&at).is_ok_and(|meta| meta.is_file()) {
        return Ok(());
    }
    let meta = fs::metadata(&at)?;
    if meta.len() > accounts::MAX as u64 {
        return Err(io::Error::other("it is too large"));
    }
    let Some(of_image) = image.file(&format!("etc/{path}"), accounts::MAX)? else { return Ok(()) };
    let name = path.rsplit('/').next().unwrap_or(path);
    let Some(merged) = accounts::merge(name, &fs::read(&at)?, &of_image) else { return Ok(()) };
    let new = layout.etc(slot).join("new");
    hands.remove(&new)?;
    hands.make(&new)?;
    fs::write(&new, merged)?;
    dress(&at, &new, &meta)?;
    put(hands, &new, &at, &upper)
}
