//! Finds out what an input is by looking at it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::tar::{Reader, Rules};
use super::{InputError, ReadError, Source, compress, oci};
use crate::tree::parse;

impl Source {
    /// The input that an operator names: a path, or `ostree:REPOSITORY:REF`.
    pub fn detect(text: &OsStr) -> Result<Self, ReadError> {
        if let Some(rest) = text.as_bytes().strip_prefix(b"ostree:") {
            return ostree(rest).map_err(|reason| ReadError { input: text.into(), reason });
        }
        let path = PathBuf::from(text);
        look(&path).map_err(|reason| ReadError { input: path, reason })
    }
}

fn ostree(rest: &[u8]) -> Result<Source, InputError> {
    let form = || InputError::Format("an OSTree tree is named as ostree:REPOSITORY:REF".into());
    let colon = rest.iter().position(|byte| *byte == b':').ok_or_else(form)?;
    let reference = std::str::from_utf8(&rest[colon + 1..]).map_err(|_| form())?;
    if colon == 0 || reference.is_empty() {
        return Err(form());
    }
    let repository = PathBuf::from(OsStr::from_bytes(&rest[..colon]));
    Ok(Source::Ostree { repository, reference: reference.to_owned(), keys: Vec::new() })
}

fn look(path: &Path) -> Result<Source, InputError> {
    let metadata = path.metadata()?;
    if metadata.is_file() {
        return look_inside(path);
    }
    if !metadata.is_dir() {
        // It is read twice, and a device may have no end.
        let expected = "it is neither a file nor a folder: write what comes from it to a file first";
        return Err(InputError::Format(expected.into()));
    }
    if oci::is_layout(path) {
        return Ok(Source::OciLayout(path.to_owned()));
    }
    if path.join("objects").is_dir() && path.join("refs").is_dir() && path.join("config").is_file() {
        let path = path.display();
        return Err(InputError::Format(format!(
            "it is an OSTree repository: name a tree as ostree:{path}:REF"
        )));
    }
    if is_unpacked_docker(path) {
        return Err(InputError::Format(
            "it is a docker archive that was unpacked: make an OCI archive of the archive itself with skopeo copy \
             docker-archive:FILE oci-archive:FILE"
                .into(),
        ));
    }
    Ok(Source::Directory(path.to_owned()))
}

/// A tar of a tree, unless it begins like one of a container image and then turns out to be that.
fn look_inside(path: &Path) -> Result<Source, InputError> {
    let (plain, length) = compress::open(path)?;
    let mut reader = Reader::new(plain, Rules { length, end_mark: true });
    let mut docker = false;
    while let Some(entry) = reader.next()? {
        let Ok(name) = parse(&entry.path) else { break };
        match name.split(|byte| *byte == b'/').next().unwrap_or_default() {
            b"oci-layout" => return Ok(Source::OciArchive(path.to_owned())),
            b"manifest.json" => docker = true,
            b"" | b"blobs" | b"index.json" | b"repositories" => {}
            first if is_layer_name(first) || (first.len() == name.len() && first.ends_with(b".json")) => {}
            _ => return Ok(Source::Tar(path.to_owned())),
        }
    }
    if docker {
        let path = path.display();
        return Err(InputError::Format(format!(
            "it is a docker archive: make an OCI archive of it with skopeo copy docker-archive:{path} oci-archive:FILE"
        )));
    }
    Ok(Source::Tar(path.to_owned()))
}

/// Whether the folder is a docker archive that was unpacked: no root file system has its manifest, and no `usr`.
fn is_unpacked_docker(path: &Path) -> bool {
    path.join("manifest.json").is_file() && !path.join("usr").is_dir()
}

/// A file or folder of a docker archive that is named by a digest.
fn is_layer_name(name: &[u8]) -> bool {
    name.get(..64).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}
