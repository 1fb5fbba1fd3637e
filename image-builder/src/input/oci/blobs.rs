//! Where the blobs of an image layout are: in a folder, or inside a tar that was indexed once. No blob is used
//! before its length and digest have been found to be right.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use upright_manifests::digest::Digester;

use super::document::{Descriptor, MAX_DOCUMENT};
use crate::input::InputError;
use crate::input::tar::{EntryKind, Reader, Rules};
use crate::tree::parse;

/// The files of an image layout.
pub(super) enum Blobs {
    /// In a folder.
    Folder(PathBuf),
    /// In a tar: each file's place and length.
    Archive(Arc<File>, BTreeMap<Vec<u8>, (u64, u64)>),
}

impl Blobs {
    /// The layout inside the uncompressed tar `file`.
    pub(super) fn index(mut file: File) -> Result<Self, InputError> {
        file.rewind()?;
        let length = Some(file.metadata()?.len());
        let mut reader = Reader::new(BufReader::new(&file), Rules { length, end_mark: true });
        let mut members = BTreeMap::new();
        while let Some(entry) = reader.next()? {
            if entry.kind == EntryKind::File {
                let path = parse(&entry.path).map_err(|error| InputError::Format(error.to_string()))?;
                members.insert(path, (reader.offset(), entry.size));
            }
        }
        drop(reader);
        Ok(Self::Archive(Arc::new(file), members))
    }

    /// A JSON file of the layout itself.
    pub(super) fn document<T: DeserializeOwned>(&self, name: &str) -> Result<T, InputError> {
        let (file, size) = self.open(name)?;
        from_json(name, &read_document(name, file, size)?)
    }

    /// The JSON blob that `descriptor` names.
    pub(super) fn blob_document<T: DeserializeOwned>(
        &self,
        descriptor: &Descriptor,
    ) -> Result<T, InputError> {
        self.verify(descriptor)?;
        let (file, size) = self.open_blob(descriptor)?;
        from_json(&descriptor.digest, &read_document(&descriptor.digest, file, size)?)
    }

    /// The blob that `descriptor` names, verified.
    pub(super) fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read>, InputError> {
        self.verify(descriptor)?;
        Ok(self.open_blob(descriptor)?.0)
    }

    fn verify(&self, descriptor: &Descriptor) -> Result<(), InputError> {
        let Descriptor { digest, size, .. } = descriptor;
        let (mut file, length) = self.open_blob(descriptor)?;
        if length != *size {
            return Err(InputError::Format(format!(
                "blob {digest} has {length} bytes, its descriptor says {size}; copy the image again"
            )));
        }
        let mut digester = Digester::new();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => digester.update(&buffer[..read]),
            }
        }
        let found = digester.finish();
        if descriptor.sha256() == Some(found) {
            Ok(())
        } else {
            Err(InputError::Format(format!(
                "blob {digest} is damaged: its SHA-256 is {found}; copy the image again"
            )))
        }
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<(Box<dyn Read>, u64), InputError> {
        let digest = &descriptor.digest;
        let sha256 = descriptor.sha256();
        let sha256 =
            sha256.ok_or_else(|| InputError::Format(format!("digest {digest:?} is not a SHA-256")))?;
        self.open(&format!("blobs/sha256/{sha256}"))
    }

    fn open(&self, name: &str) -> Result<(Box<dyn Read>, u64), InputError> {
        let missing = |reason: String| InputError::Format(format!("it has no {name}{reason}"));
        match self {
            Self::Folder(folder) => {
                let file = File::open(folder.join(name)).map_err(|error| missing(format!(": {error}")))?;
                let size = file.metadata()?.len();
                Ok((Box::new(file), size))
            }
            Self::Archive(file, members) => {
                let (offset, size) = *members.get(name.as_bytes()).ok_or_else(|| missing(String::new()))?;
                Ok((Box::new(Member { file: Arc::clone(file), offset, left: size }), size))
            }
        }
    }
}

fn read_document(name: &str, file: impl Read, size: u64) -> Result<Vec<u8>, InputError> {
    if size > MAX_DOCUMENT {
        return Err(InputError::Format(format!("{name} has {size} bytes: at most {MAX_DOCUMENT} are read")));
    }
    let mut bytes = Vec::new();
    file.take(size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn from_json<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, InputError> {
    serde_json::from_slice(bytes).map_err(|error| InputError::Format(format!("{name} is malformed: {error}")))
}

/// A file inside a tar.
struct Member {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Read for Member {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// Whether the folder is an image layout.
pub(crate) fn is_layout(folder: &Path) -> bool {
    folder.join("oci-layout").is_file()
}
