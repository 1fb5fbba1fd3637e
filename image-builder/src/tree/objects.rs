//! Reads file contents out of a repository in bare-user mode, where each is a plain file.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use upright_manifests::digest::{Digest, Digester};

use super::{Content, Contents};

/// The content objects of a store. Unlike the store it can be used from many threads.
#[derive(Debug, Clone)]
pub struct Objects {
    root: PathBuf,
}

impl Objects {
    pub(super) fn new(repository: &Path) -> Self {
        Self { root: repository.join("objects") }
    }

    /// Where the object is kept (OSTree's layout: two digits of directory, the rest of name).
    fn path(&self, object: &Digest) -> PathBuf {
        let name = object.to_string();
        self.root.join(&name[..2]).join(format!("{}.file", &name[2..]))
    }
}

impl Contents for Objects {
    /// Reads to the end fail when the bytes are not those that were stored.
    fn open(&self, content: &Content) -> io::Result<Box<dyn Read>> {
        let path = self.path(&content.object);
        let file = File::open(&path).map_err(|source| {
            io::Error::new(source.kind(), format!("cannot open {}: {source}", path.display()))
        })?;
        Ok(Box::new(Verified {
            file,
            path,
            left: content.size,
            sha256: content.sha256,
            digester: Digester::new(),
        }))
    }
}

/// A file that ends with an error when it is not what it was.
struct Verified {
    file: File,
    path: PathBuf,
    left: u64,
    sha256: Digest,
    digester: Digester,
}

impl Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.digester.update(&buffer[..read]);
        let expected = self.left.checked_sub(read as u64);
        let ended = read == 0 && !buffer.is_empty();
        let same = !ended || (self.left == 0 && self.digester.clone().finish() == self.sha256);
        match expected {
            Some(left) if same => {
                self.left = left;
                Ok(read)
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} is damaged: ostree fsck names all such objects", self.path.display()),
            )),
        }
    }
}
