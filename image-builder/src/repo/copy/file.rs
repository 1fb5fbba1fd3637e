//! A copy in a single file (`manifests::archive`), for carrying to hosts.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use upright_manifests::archive::{self, ArchiveError};
use upright_manifests::bytes::human;
use upright_manifests::digest::Digester;
use upright_manifests::partial;
use upright_manifests::tuf::Stored;

use super::catalogue::{Catalogue, Object};
use super::{Copied, Copy, Form, fat, first, require_good, room};
use crate::repo::error::{Error, Result};
use crate::repo::files::{folder_of, place};

/// What a member holds.
enum Content<'a> {
    Bytes(&'a [u8]),
    Object(Object),
}

impl Content<'_> {
    fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Object(object) => object.size,
        }
    }
}

pub(super) fn copy(copy: &Copy<'_>, path: &Path) -> Result<Copied> {
    is_ours(path)?;
    require_folder(path)?;
    let root = copy.root.clone().ok_or_else(|| Error::refused("name a root.json to trust with --root"))?;
    let stored = Stored { root, files: BTreeMap::new() };
    let mut catalogue = Catalogue::gather(copy.source, None, &stored, copy.pick, copy.now)?;
    require_good(copy, &mut catalogue)?;
    if !catalogue.missing.is_empty() {
        let missing: Vec<String> = catalogue.missing.iter().cloned().collect();
        return Err(Error::Unverified(format!(
            "{} does not have all of what was asked for: {}; let its operator run `upright-build check`",
            copy.source.place(),
            first(&missing)
        )));
    }
    let part = catalogue.part_bytes()?;
    let members = members(&catalogue, part.as_deref());
    if members.len() > archive::MAX_MEMBERS {
        return Err(Error::refused(format!(
            "{} files are more than an export may have, {}; export a channel, or into a folder",
            members.len(),
            archive::MAX_MEMBERS
        )));
    }
    let folder = folder_of(path);
    let total = members.values().map(|content| content.size() + 2048).sum::<u64>();
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("export");
    fat::check(folder, [(name, total)].into_iter())?;
    room::require(copy.files, folder, total)?;
    let staged = staged(path);
    let written = write(copy, &staged, &members, &catalogue);
    let copied = written.and_then(|copied| place(copy.files, &staged, path).map(|()| copied));
    if copied.is_err() {
        // Nobody can be told that this failed beside the reason that led here.
        let _ = copy.files.remove(&staged);
    }
    let copied = copied.map_err(|error| room::advise(error, total))?;
    Ok(Copied { copied, ..Copied::of(path, Form::File, &catalogue) })
}

/// An export takes the place of an export, and of nothing else.
fn is_ours(path: &Path) -> Result<()> {
    let Ok(there) = fs::metadata(path) else { return Ok(()) };
    let shown = path.display();
    if !there.is_file() {
        return Err(Error::refused(format!(
            "{shown} is not a regular file; write to a file and copy it there"
        )));
    }
    let file = File::open(path).map_err(Error::file("read", path))?;
    match archive::read(there.len(), &mut |buffer, at| file.read_exact_at(buffer, at)) {
        Err(ArchiveError::Magic) if there.len() > 0 => Err(Error::refused(format!(
            "{shown} is there and is no export, which it would take the place of; name another file or remove it"
        ))),
        _ => Ok(()),
    }
}

/// The system would say it of the file that is written first, which nobody has named, and after all has been looked at.
fn require_folder(path: &Path) -> Result<()> {
    let folder = folder_of(path);
    let (what, advice) = match fs::metadata(folder) {
        Ok(there) if !there.is_dir() => ("is no folder", "name another path"),
        Err(error) if error.kind() == ErrorKind::NotADirectory => ("is no folder", "name another path"),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            ("is not there", "mount it or make it, or name another path")
        }
        _ => return Ok(()),
    };
    Err(Error::refused(format!(
        "the folder {} {what}, in which {} is to be written; {advice}",
        folder.display(),
        path.display()
    )))
}

fn staged(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}

/// All files, by path.
fn members<'a>(catalogue: &'a Catalogue, part: Option<&'a [u8]>) -> BTreeMap<String, Content<'a>> {
    let metadata = catalogue.metadata.iter();
    let metadata = metadata.map(|(name, bytes)| (format!("metadata/{name}"), Content::Bytes(bytes)));
    let documents = catalogue.documents.iter().map(|(path, bytes)| (path.clone(), Content::Bytes(bytes)));
    let objects = catalogue.objects.iter().map(|(path, object)| (path.clone(), Content::Object(*object)));
    let part = part.map(|bytes| (partial::PATH.to_owned(), Content::Bytes(bytes)));
    metadata.chain(documents).chain(objects).chain(part).collect()
}

fn write(
    copy: &Copy<'_>,
    staged: &Path,
    members: &BTreeMap<String, Content<'_>>,
    catalogue: &Catalogue,
) -> Result<u64> {
    let failed = || Error::file("write", staged);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(staged).map_err(failed())?);
    let time = catalogue.time.map_or(0, |time| u64::try_from(time.as_second()).unwrap_or(0));
    let total = members.values().map(Content::size).sum();
    copy.progress.begin("export", Some(total));
    let mut done = 0;
    for (path, content) in members {
        let head = archive::head(path, content.size(), time);
        let head =
            head.ok_or_else(|| Error::refused(format!("{path} is not a path that an export can hold")))?;
        out.write_all(&head).map_err(failed())?;
        match content {
            Content::Bytes(bytes) => out.write_all(bytes).map_err(failed())?,
            Content::Object(object) => object_into(copy, path, *object, &mut out, staged, done)?,
        }
        out.write_all(&[0; archive::RECORD][..archive::padding(content.size())]).map_err(failed())?;
        done += content.size();
        copy.progress.reached(done);
    }
    out.write_all(&archive::END).and_then(|()| out.flush()).map_err(failed())?;
    copy.progress.end(&human(total));
    Ok(catalogue.objects.values().map(|object| object.size).sum())
}

/// An object's bytes, which must be what was signed.
fn object_into(
    copy: &Copy<'_>,
    path: &str,
    object: Object,
    out: &mut dyn Write,
    staged: &Path,
    done: u64,
) -> Result<()> {
    let place = copy.source.place();
    let wrong = |what: String| {
        Error::Unverified(format!("{path} of {place} {what}; `upright-build check` tells what else is wrong"))
    };
    let opened = copy.source.open_from(path, 0)?.ok_or_else(|| wrong("is not there".to_owned()))?;
    let mut bytes = opened.bytes.take(object.size.saturating_add(1));
    let (mut digester, mut length) = (Digester::new(), 0);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = bytes
            .read(&mut buffer)
            .map_err(|error| Error::Failed(format!("cannot read {path} of {place}: {error}")))?;
        length += read as u64;
        if length > object.size {
            return Err(wrong(format!("has more than the {} bytes that were signed", object.size)));
        }
        if read == 0 {
            break;
        }
        digester.update(&buffer[..read]);
        out.write_all(&buffer[..read]).map_err(Error::file("write", staged))?;
        copy.progress.reached(done + length);
    }
    match (length, digester.finish()) == (object.size, object.sha256) {
        true => Ok(()),
        false => Err(wrong(format!("is not the {} bytes that were signed", object.size))),
    }
}
