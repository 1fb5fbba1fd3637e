//! A copy in a folder: objects first, then documents, then metadata, the timestamp last. Whoever reads the folder finds the last
//! state, or the new one, whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use upright_manifests::bytes::human;
use upright_manifests::name::ChannelName;
use upright_manifests::partial::{self, Partial};

use super::catalogue::{Catalogue, Object, Pointed};
use super::download::{digest_of, download};
use super::stored::stored;
use super::{Copied, Copy, Form, PARTIAL, fat, first, prune, read_own, require_good, room, roots};
use crate::repo::check::Source;
use crate::repo::error::{Error, Result};
use crate::repo::files::{make_folder, place, replace};

/// What came of the objects.
#[derive(Default)]
struct Brought {
    /// How many bytes were copied.
    copied: u64,
    /// Those that the source does not have as they were signed: by path, in words.
    gone: BTreeMap<String, String>,
}

pub(super) fn copy(copy: &Copy<'_>, folder: &Path) -> Result<Copied> {
    not_onto_itself(copy.source, folder)?;
    not_onto_file(folder)?;
    let partial = folder.join(PARTIAL);
    make_folder(copy.files, &partial)?;
    let _lock = lock(folder, &partial)?;
    let stored = stored(folder, copy.source, copy.root.as_deref())?;
    let local = Source::Folder(folder.to_owned());
    let mut catalogue = Catalogue::gather(copy.source, Some(&local), &stored, copy.pick, copy.now)?;
    require_good(copy, &mut catalogue)?;
    not_less(copy, folder, &local, &catalogue)?;
    roots::require_ours(folder, copy.source, &catalogue)?;
    let objects = catalogue.objects.iter().map(|(path, object)| (path.as_str(), object.size));
    fat::check(folder, objects.chain(catalogue.documents.keys().map(|path| (path.as_str(), 0))))?;
    room::require(copy.files, folder, to_come(folder, &catalogue))?;
    // Before the new state is visible: what hosts are reading now is what the last one refers to.
    let kept = if copy.prune {
        prune::referred_to(&local, &stored, copy.pick, copy.now)
    } else {
        Default::default()
    };
    let brought = objects_into(copy, folder, &catalogue)
        .map_err(|error| room::advise(error, to_come(folder, &catalogue)))?;
    let missing: BTreeSet<String> = catalogue.missing.iter().chain(brought.gone.values()).cloned().collect();
    let mut copied = Copied::of(folder, Form::Folder, &catalogue);
    (copied.copied, copied.missing) = (brought.copied, missing.into_iter().collect());
    require_takeable(copy, &catalogue, &brought.gone, &copied.missing)?;
    copied.notes.extend(narrowed(folder, &local, &catalogue));
    publish(copy, folder, &catalogue)?;
    if copy.prune {
        let stale = prune::stale(folder, &catalogue, &kept)?;
        // What was in a folder before the first copy is somebody's, and names such as `payloads` are not ours alone.
        match stored.files.contains_key("timestamp.json") {
            true => {
                prune::remove(copy.files, folder, &stale)?;
                copied.pruned = stale.len();
            }
            false if stale.is_empty() => {}
            false => copied.notes.push(stay(folder, &stale)),
        }
    }
    copy.files.remove(&partial).map_err(Error::file("remove", &partial))?;
    Ok(copied)
}

/// Says that nothing was removed from a folder that held no copy before.
fn stay(folder: &Path, stale: &[String]) -> String {
    format!(
        "{} held no copy before, so --prune removed nothing: what is in it besides stays: {}; move away what is wanted, the next --prune \
         removes it",
        folder.display(),
        first(stale)
    )
}

/// A source says itself, unsigned, that it holds a part: that is no reason to make less of a mirror than it is.
fn not_less(copy: &Copy<'_>, folder: &Path, local: &Source, catalogue: &Catalogue) -> Result<()> {
    let Some(part) = catalogue.part.as_ref().filter(|_| copy.pick.is_all()) else { return Ok(()) };
    let has_more = match local.part() {
        Ok(Some(own)) => lacked(&own, part).next().is_some(),
        Ok(None) => folder.join("metadata/timestamp.json").exists(),
        // Damaged, so that it was a part: it is written anew where no file of another channel says that it held more.
        Err(_) if has_channels_of(part, folder)? => false,
        Err(error) => return Err(error),
    };
    match has_more {
        true => Err(Error::refused(format!(
            "{} says that it holds {part} of its repository, and {} holds more; name with --channel what is to be there from now on, or copy \
             to another folder",
            copy.source.place(),
            folder.display()
        ))),
        false => Ok(()),
    }
}

/// What there is to say of channels that the folder held and holds no more, since others were named.
fn narrowed(folder: &Path, local: &Source, catalogue: &Catalogue) -> Option<String> {
    let (part, own) = (catalogue.part.as_ref()?, local.part().ok()??);
    let gone: Vec<&str> = lacked(&own, part).map(ChannelName::as_str).collect();
    (!gone.is_empty()).then(|| {
        format!(
            "{} held {} before, whose hosts can take nothing from it any more: name all of its channels with --channel to keep them",
            folder.display(),
            gone.join(", ")
        )
    })
}

/// The channels of the one part that the other has not.
fn lacked<'a>(own: &'a Partial, part: &'a Partial) -> impl Iterator<Item = &'a ChannelName> {
    own.channels.iter().filter(|channel| !part.channels.contains(channel))
}

/// Whether all files of channels in the folder are of those of `part`.
fn has_channels_of(part: &Partial, folder: &Path) -> Result<bool> {
    let mut found = Vec::new();
    prune::list(folder, "channels", &mut found)?;
    let ours = |path: &String| {
        // `channels/OS/ARCH/SHA256.NAME.json`.
        part.channels.iter().any(|channel| path.ends_with(&format!(".{channel}.json")))
    };
    Ok(found.iter().all(ours))
}

/// Makes the new state visible.
fn publish(copy: &Copy<'_>, folder: &Path, catalogue: &Catalogue) -> Result<()> {
    let partial = folder.join(PARTIAL);
    for (path, bytes) in &catalogue.documents {
        put(copy, &partial, &folder.join(path), bytes)?;
    }
    // Hosts do not ask for it. In between it may say that less is there than there is, and never more.
    let says = folder.join(partial::PATH);
    if let Some(bytes) = catalogue.part_bytes()? {
        put(copy, &partial, &says, &bytes)?;
    }
    for (name, bytes) in &catalogue.metadata {
        put(copy, &partial, &folder.join("metadata").join(name), bytes)?;
    }
    match &catalogue.part {
        Some(_) => Ok(()),
        None => copy.files.remove(&says).map_err(Error::file("remove", &says)),
    }
}

/// Fails where hosts had better stay with the last state, which is whole. What a team broke is in nobody else's way: without a new
/// timestamp, what all others took would expire. Its own hosts find that they cannot take the new release, and keep what they run.
fn require_takeable(
    copy: &Copy<'_>,
    catalogue: &Catalogue,
    gone: &BTreeMap<String, String>,
    missing: &[String],
) -> Result<()> {
    let broken = catalogue.broken(gone);
    let is_publishers = |pointed: &&Pointed| pointed.role == "targets";
    let nothing_left = !broken.is_empty() && broken.len() == catalogue.pointed.len();
    let (place, lines) = (copy.source.place(), first(missing));
    if nothing_left || broken.iter().any(is_publishers) {
        let mut names: Vec<&str> = broken.iter().map(|pointed| pointed.channel.as_str()).collect();
        names.dedup();
        return Err(Error::Unverified(format!(
            "hosts of {} could not take what {place} offers: {lines}; what is there was copied, and hosts find the last state; let its \
             operator run `upright-build check`",
            names.join(", ")
        )));
    }
    match copy.pick.versions.is_empty() || missing.is_empty() {
        true => Ok(()),
        // Who names a release wants all of it.
        false => Err(Error::Unverified(format!(
            "{place} does not have all of what was asked for: {lines}; let its operator run `upright-build check`"
        ))),
    }
}

/// How many bytes of objects are not there yet.
fn to_come(folder: &Path, catalogue: &Catalogue) -> u64 {
    let length = |path: PathBuf| fs::metadata(path).map_or(0, |there| there.len());
    let rest = catalogue.objects.iter().map(|(path, Object { size, sha256 })| {
        match length(folder.join(path)) == *size {
            true => 0,
            false => size.saturating_sub(length(folder.join(PARTIAL).join(sha256.to_string()))),
        }
    });
    rest.sum()
}

/// What a publisher's repository has would be marked as a part of itself.
fn not_onto_itself(source: &Source, folder: &Path) -> Result<()> {
    let Source::Folder(from) = source else { return Ok(()) };
    let same = from.canonicalize().is_ok_and(|from| folder.canonicalize().is_ok_and(|to| from == to));
    match same {
        true => {
            Err(Error::refused(format!("{} is what would be copied; name another folder", folder.display())))
        }
        false => Ok(()),
    }
}

/// The system would say it of the first file below, which nobody has named.
fn not_onto_file(folder: &Path) -> Result<()> {
    // Without the slash at its end, by which the system looks for a folder alone.
    let path: PathBuf = folder.components().collect();
    match fs::metadata(&path) {
        Ok(there) if !there.is_dir() => Err(Error::refused(format!(
            "{} is there and is no folder, which is to be written; name another path, or remove it",
            path.display()
        ))),
        _ => Ok(()),
    }
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

/// Brings all objects that the source has.
fn objects_into(copy: &Copy<'_>, folder: &Path, catalogue: &Catalogue) -> Result<Brought> {
    let total = catalogue.objects.values().map(|object| object.size).sum();
    copy.progress.begin("objects", Some(total));
    let (mut done, mut brought) = (0, Brought::default());
    for (path, object) in &catalogue.objects {
        match bring(copy, folder, path, *object, done) {
            Ok(copied) => brought.copied += copied,
            // The rest is worth having all the same.
            Err(Error::Unverified(line)) => drop(brought.gone.insert(path.clone(), line)),
            Err(error) => return Err(error),
        }
        done += object.size;
        copy.progress.reached(done);
    }
    copy.progress.end(&human(brought.copied));
    Ok(brought)
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
