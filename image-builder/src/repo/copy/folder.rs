//! A copy in a folder: objects first, then documents, then metadata, the timestamp last. Whoever reads the folder finds the last
//! state, or the new one, whole.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use upright_manifests::bytes::human;

use super::catalogue::{Catalogue, Object};
use super::download::{digest_of, download};
use super::stored::stored;
use super::{Copied, Copy, PARTIAL, fat, prune, read_own, require_good};
use crate::repo::check::Source;
use crate::repo::error::{Error, Result};
use crate::repo::files::{make_folder, place, replace};

pub(super) fn copy(copy: &Copy<'_>, folder: &Path) -> Result<Copied> {
    let partial = folder.join(PARTIAL);
    make_folder(copy.files, &partial)?;
    let _lock = lock(folder, &partial)?;
    let stored = stored(folder, copy.root.clone())?;
    let local = Source::Folder(folder.to_owned());
    let mut catalogue = Catalogue::gather(copy.source, Some(&local), &stored, copy.pick, copy.now)?;
    require_good(copy, &mut catalogue)?;
    same_publisher(folder, &catalogue)?;
    let objects = catalogue.objects.iter().map(|(path, object)| (path.as_str(), object.size));
    fat::check(folder, objects.chain(catalogue.documents.keys().map(|path| (path.as_str(), 0))))?;
    // Before the new state is visible: what hosts are reading now is what the last one refers to.
    let kept = if copy.prune {
        prune::referred_to(&local, &stored, copy.pick, copy.now)
    } else {
        Default::default()
    };
    let mut copied = Copied::of(folder, &catalogue);
    copied.copied = objects_into(copy, folder, &catalogue)?;
    for (path, bytes) in &catalogue.documents {
        put(copy, &partial, &folder.join(path), bytes)?;
    }
    for (name, bytes) in &catalogue.metadata {
        put(copy, &partial, &folder.join("metadata").join(name), bytes)?;
    }
    if copy.prune {
        copied.pruned = prune::prune(copy.files, folder, &catalogue, &kept)?;
    }
    copy.files.remove(&partial).map_err(Error::file("remove", &partial))?;
    Ok(copied)
}

/// Two that write the same files would spoil them.
fn lock(folder: &Path, partial: &Path) -> Result<File> {
    let file = File::open(partial).map_err(Error::file("open", partial))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        // Who held it before may have removed it in the end.
        Ok(()) if !is_at(&file, partial) => Err(Error::Busy(folder.to_owned())),
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Busy(folder.to_owned())),
        Err(error) => Err(Error::file("lock", partial)(error.into())),
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let inode = |meta: fs::Metadata| (meta.dev(), meta.ino());
    let held = file.metadata().map(inode).ok();
    held.is_some() && held == fs::metadata(path).map(inode).ok()
}

/// Hosts that read a folder of another publisher must not find two in it.
fn same_publisher(folder: &Path, catalogue: &Catalogue) -> Result<()> {
    for (name, bytes) in catalogue.metadata.iter().filter(|(name, _)| name.ends_with(".root.json")) {
        let there = read_own(&folder.join("metadata").join(name))?;
        if there.is_some_and(|there| there != *bytes) {
            return Err(Error::refused(format!(
                "{} holds another repository, whose {name} differs; name another folder, or empty this one",
                folder.display()
            )));
        }
    }
    Ok(())
}

/// Brings all objects; how many bytes that took.
fn objects_into(copy: &Copy<'_>, folder: &Path, catalogue: &Catalogue) -> Result<u64> {
    let total = catalogue.objects.values().map(|object| object.size).sum();
    copy.progress.begin("objects", Some(total));
    let (mut done, mut copied) = (0, 0);
    for (path, object) in &catalogue.objects {
        copied += bring(copy, folder, path, *object, done)?;
        done += object.size;
        copy.progress.reached(done);
    }
    copy.progress.end(&human(copied));
    Ok(copied)
}

fn bring(copy: &Copy<'_>, folder: &Path, path: &str, object: Object, done: u64) -> Result<u64> {
    let to = folder.join(path);
    let same_length = fs::metadata(&to).is_ok_and(|there| there.is_file() && there.len() == object.size);
    if same_length && digest_of(&to)?.0 == object.sha256 {
        return Ok(0);
    }
    let partial: PathBuf = folder.join(PARTIAL).join(object.sha256.to_string());
    let copied = download(copy.source, path, object, &partial, copy.progress, done)?;
    place(copy.files, &partial, &to)?;
    Ok(copied)
}

/// Writes a small file, if it is not there as it should be.
fn put(copy: &Copy<'_>, partial: &Path, to: &Path, bytes: &[u8]) -> Result<()> {
    match read_own(to)?.is_some_and(|there| there == bytes) {
        true => Ok(()),
        false => replace(copy.files, partial, to, bytes),
    }
}
