//! A folder that holds a root file system, taken as it stands there, owners and all.
//!
//! One file system alone is taken: where another is mounted on a directory, that directory is empty in the
//! tree, and a warning says so.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{Imported, InputError, MAX_FILE};
use crate::tree::{Attributes, Batch, Device, Kind, Repeat, TreeBuilder, TreePath, display};

/// Most bytes of an extended attribute, and of a list of their names (Linux `XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const MAX_XATTR: usize = 65536;

/// Reads the folder at `root` and stores its files in `batch`.
pub(super) fn read(root: &Path, batch: &Batch<'_>) -> Result<Imported, InputError> {
    let device = fs::metadata(root)?.dev();
    let mut walk = Walk::new(device, batch);
    let mut waiting = vec![(TreePath::new(), root.to_owned())];
    while let Some((path, place)) = waiting.pop() {
        let failed = |source| InputError::Content { path: display(&path), source };
        let metadata = if path.is_empty() { fs::metadata(&place) } else { fs::symlink_metadata(&place) };
        let metadata = metadata.map_err(failed)?;
        if walk.add(&path, &place, &metadata)? {
            waiting.extend(children(&path, &place).map_err(failed)?);
        }
    }
    Ok(Imported { tree: walk.builder.finish()?, newest: walk.newest })
}

/// What is in a directory, with its path in the tree and its place on this machine.
fn children(path: &[u8], place: &Path) -> io::Result<Vec<(TreePath, PathBuf)>> {
    fs::read_dir(place)?
        .map(|entry| {
            let name = entry?.file_name();
            let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
            Ok(([path, separator, name.as_bytes()].concat(), place.join(&name)))
        })
        .collect()
}

struct Walk<'a> {
    device: u64,
    builder: TreeBuilder,
    /// The first path of each file that has several.
    linked: HashMap<(u64, u64), TreePath>,
    buffer: Vec<u8>,
    newest: u64,
    batch: &'a Batch<'a>,
}

impl<'a> Walk<'a> {
    fn new(device: u64, batch: &'a Batch<'a>) -> Self {
        Self {
            device,
            builder: TreeBuilder::new(Repeat::Refuse),
            linked: HashMap::new(),
            buffer: vec![0; MAX_XATTR],
            newest: 0,
            batch,
        }
    }

    /// Adds what is at `place`; whether it is a directory to go into.
    fn add(&mut self, path: &[u8], place: &Path, metadata: &Metadata) -> Result<bool, InputError> {
        self.newest = self.newest.max(u64::try_from(metadata.mtime()).unwrap_or_default());
        let directory = metadata.is_dir();
        if !directory && metadata.nlink() > 1 {
            let identity = (metadata.dev(), metadata.ino());
            if let Some(first) = self.linked.get(&identity) {
                self.builder.link(path, first)?;
                return Ok(false);
            }
            self.linked.insert(identity, path.to_vec());
        }
        let attributes = self.attributes(place, metadata).map_err(|source| failed(path, source))?;
        let kind = self.kind(path, place, metadata, &attributes)?;
        self.builder.add(path, attributes.inode(kind))?;
        let other = directory && metadata.dev() != self.device;
        if other {
            let path = display(path);
            tracing::warn!("{path} is another file system: it is left empty");
        }
        Ok(directory && !other)
    }

    fn kind(
        &self,
        path: &[u8],
        place: &Path,
        metadata: &Metadata,
        attributes: &Attributes,
    ) -> Result<Kind, InputError> {
        let kind = metadata.file_type();
        let number = metadata.rdev();
        let device = Device { major: rustix::fs::major(number), minor: rustix::fs::minor(number) };
        Ok(if kind.is_dir() {
            Kind::Directory
        } else if kind.is_symlink() {
            let target = fs::read_link(place).map_err(|source| failed(path, source))?;
            Kind::Symlink(target.into_os_string().into_encoded_bytes())
        } else if kind.is_char_device() {
            Kind::CharDevice(device)
        } else if kind.is_block_device() {
            Kind::BlockDevice(device)
        } else if kind.is_fifo() {
            Kind::Fifo
        } else if kind.is_socket() {
            Kind::Socket
        } else if metadata.size() > MAX_FILE {
            return Err(InputError::TooBig { path: display(path), size: metadata.size() });
        } else {
            let mut file = open(place, metadata).map_err(|source| failed(path, source))?;
            let content = self.batch.write_file(attributes, metadata.size(), &mut file);
            let content = content.map_err(|error| InputError::content(path, error))?;
            match file.read(&mut [0]) {
                Ok(0) => Kind::File(content),
                Ok(_) => return Err(failed(path, changed())),
                Err(source) => return Err(failed(path, source)),
            }
        })
    }

    fn attributes(&mut self, place: &Path, metadata: &Metadata) -> io::Result<Attributes> {
        let mut attributes = Attributes {
            // masked to 12 bits
            mode: (metadata.mode() & 0o7777) as u16,
            uid: metadata.uid(),
            gid: metadata.gid(),
            ..Attributes::default()
        };
        let length = match rustix::fs::llistxattr(place, &mut self.buffer[..]) {
            Ok(length) => length,
            Err(rustix::io::Errno::NOTSUP) => 0,
            Err(error) => return Err(error.into()),
        };
        let names: Vec<Vec<u8>> = self.buffer[..length]
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(<[u8]>::to_vec)
            .collect();
        for name in names {
            let length = rustix::fs::lgetxattr(place, OsStr::from_bytes(&name), &mut self.buffer[..])?;
            attributes.xattrs.insert(name, self.buffer[..length].to_vec());
        }
        Ok(attributes)
    }
}

/// Opens the regular file that `metadata` is of.
fn open(place: &Path, metadata: &Metadata) -> io::Result<File> {
    // the bits of open(2) are not many
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(place)?;
    let opened = file.metadata()?;
    let same =
        (opened.dev(), opened.ino(), opened.size()) == (metadata.dev(), metadata.ino(), metadata.size());
    if same { Ok(file) } else { Err(changed()) }
}

fn changed() -> io::Error {
    io::Error::other("it changed while it was read")
}

fn failed(path: &[u8], source: io::Error) -> InputError {
    InputError::Content { path: display(path), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::testing::Scratch;

    #[test]
    fn what_is_mounted_in_the_folder_is_left_out() {
        let scratch = Scratch::new();
        let store = scratch.store();
        let batch = store.begin().expect("a batch");
        let metadata = fs::metadata(scratch.path()).expect("metadata");
        let goes_in = |device| {
            let mut walk = Walk::new(device, &batch);
            let goes_in = walk.add(b"mnt", scratch.path(), &metadata).expect("added");
            assert_eq!(walk.builder.kind(b"mnt"), Some(&Kind::Directory));
            goes_in
        };
        assert!(goes_in(metadata.dev()));
        assert!(!goes_in(metadata.dev() + 1));
    }

    #[test]
    fn a_file_that_changes_is_refused() {
        let scratch = Scratch::new();
        let path = scratch.path().join("file");
        fs::write(&path, "1").expect("written");
        let before = fs::metadata(&path).expect("metadata");
        assert!(open(&path, &before).is_ok());
        fs::write(&path, "12").expect("written");
        assert_eq!(open(&path, &before).expect_err("refused").to_string(), "it changed while it was read");
    }
}
