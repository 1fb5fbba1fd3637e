//! What follows the host from slot to slot: a password that was changed is changed, whichever slot runs.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use upright_manifests::name::Slot;
use upright_manifests::state::{Declarations, Kind, insert, matches};

use super::accounts;
use super::copy::{Copier, dress};
use super::declared::Image;
use super::hands::Hands;
use super::layout::{Layout, is_absent};

/// What came of bringing what follows the host.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// What did not go as it should, a line each.
    pub(super) complaints: Vec<String>,
    /// The paths that did not follow, and would on a disk that is well and has room.
    pub(super) missed: Vec<String>,
}

/// Makes what `declared` says follows the host, and is `wanted`, in `to` what it is in `from`, path by path.
pub(super) fn follow(
    layout: &Layout,
    hands: &Hands<'_>,
    declared: &Declarations,
    (from, to): (Slot, Slot),
    wanted: &dyn Fn(&str) -> bool,
) -> Followed {
    let (source, target) = (layout.upper(from), layout.upper(to));
    let mut followed = Followed::default();
    let kinds = [Kind::Sticky, Kind::Identity, Kind::Accounts];
    let paths = paths(declared, &kinds, &[&source, &target], &mut followed.complaints);
    for path in paths.into_iter().filter(|path| wanted(path)) {
        let new = layout.etc(to).join("new");
        if let Err(error) = bring(hands, &source, &target, &new, &path) {
            // Half a copy would keep the room that the next one wants.
            let _ = hands.remove(&new);
            let line = format!("/etc/{path} does not follow from slot {from} to slot {to}: {error}");
            followed.complaints.push(line);
            // What is in the way is an operator's to move, and no reason to wait.
            if !matches!(error.kind(), io::ErrorKind::Other | io::ErrorKind::NotADirectory) {
                followed.missed.push(path);
            }
        }
    }
    followed
}

/// The paths that patterns of these kinds stand for, as far as one of the folders has them. Where that cannot be seen, it is added to
/// `complaints`.
pub(super) fn paths(
    declared: &Declarations,
    kinds: &[Kind],
    folders: &[&Path],
    complaints: &mut Vec<String>,
) -> Vec<String> {
    let mut paths = Vec::new();
    for kind in kinds {
        for pattern in declared.of(*kind) {
            let (folder, last) =
                pattern.rsplit_once('/').map_or(("", pattern), |(folder, last)| (folder, last));
            for top in folders {
                for name in names(&top.join(folder), complaints) {
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

fn names(folder: &Path, complaints: &mut Vec<String>) -> Vec<String> {
    let list = || -> io::Result<Vec<String>> {
        let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    };
    match list() {
        Ok(names) => names,
        Err(error) if is_absent(&error) => Vec::new(),
        Err(error) => {
            let line = format!("cannot see what follows in {}: {error}", folder.display());
            if !complaints.contains(&line) {
                complaints.push(line);
            }
            Vec::new()
        }
    }
}

/// Makes `path` in `target` what it is in `source`: the same, or not there, so that the image's counts.
fn bring(hands: &Hands<'_>, source: &Path, target: &Path, new: &Path, path: &str) -> io::Result<()> {
    let (from, to) = (source.join(path), target.join(path));
    // What cannot be looked at is no reason to remove what is there.
    if !lead_to(source, path)? || !Layout::is_there(&from)? {
        return if lead_to(target, path)? { hands.remove(&to) } else { Ok(()) };
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
pub(super) fn lead_to(top: &Path, path: &str) -> io::Result<bool> {
    for folder in path.match_indices('/').filter_map(|(end, _)| path.get(..end)) {
        if !Layout::look(&top.join(folder))?.is_some_and(|meta| meta.is_dir()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes the folders that lead to `path` as they are in `source`. Those that hide the image's there do not do so here.
pub(super) fn make_folders(hands: &Hands<'_>, source: &Path, target: &Path, path: &str) -> io::Result<()> {
    hands.make_folder(target)?;
    for (end, _) in path.match_indices('/') {
        let Some(folder) = path.get(..end) else { continue };
        let at = target.join(folder);
        match Layout::look(&at)? {
            Some(meta) if meta.is_dir() => continue,
            Some(_) => return Err(io::Error::other(format!("/etc/{folder} is no folder there"))),
            None => {}
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
        match add(layout, hands, image, slot, path) {
            Ok(left_out) => complaints.extend(left_out.iter().map(|name| {
                format!("/etc/{path} lacks {name} of the image: its number, or its group's, is another's on this host")
            })),
            Err(error) => complaints.push(format!("/etc/{path} lacks what the image has: {error}")),
        }
    }
    complaints
}

/// Gives the names that are left out.
fn add(
    layout: &Layout,
    hands: &Hands<'_>,
    image: &dyn Image,
    slot: Slot,
    path: &str,
) -> io::Result<Vec<String>> {
    let upper = layout.upper(slot);
    let of_image = |path: &str| image.file(&format!("etc/{path}"), accounts::MAX);
    let Some((meta, of_host)) = own_file(&upper, path)? else { return Ok(Vec::new()) };
    let Some(new_ones) = of_image(path)? else { return Ok(Vec::new()) };
    let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
    // A user's group is known by its number only.
    let beside = if folder.is_empty() { "group".to_owned() } else { format!("{folder}/group") };
    let groups = match name {
        "passwd" => own_file(&upper, &beside)?.map(|(_, host)| host).zip(of_image(&beside)?),
        _ => None,
    };
    let groups = groups.as_ref().map(|(host, image)| (host.as_slice(), image.as_slice()));
    let (merged, left_out) = accounts::merge(name, &of_host, &new_ones, groups);
    let (Some(merged), at) = (merged, upper.join(path)) else { return Ok(left_out) };
    let new = layout.etc(slot).join("new");
    hands.remove(&new)?;
    hands.make(&new)?;
    fs::write(&new, merged)?;
    dress(&at, &new, &meta)?;
    put(hands, &new, &at, &upper)?;
    Ok(left_out)
}

/// What the slot has at `path` instead of the image's file, if it is a plain file.
fn own_file(upper: &Path, path: &str) -> io::Result<Option<(Metadata, Vec<u8>)>> {
    let at = upper.join(path);
    if !lead_to(upper, path)? {
        return Ok(None);
    }
    let Some(meta) = Layout::look(&at)?.filter(Metadata::is_file) else { return Ok(None) };
    if meta.len() > accounts::MAX as u64 {
        return Err(io::Error::other("it is too large"));
    }
    Ok(Some((meta, fs::read(&at)?)))
}
