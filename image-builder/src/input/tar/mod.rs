//! Tar archives, read here rather than with a library: values of extended headers may hold newlines
//! (capabilities do), an end in the right place must not look like the end, and every way of writing sparse
//! files counts.

mod format;
mod pax;
mod reader;
mod sparse;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::io::{self, Read};

pub(crate) use reader::Reader;

use super::{InputError, MAX_FILE};
use crate::tree::{Attributes, Batch, Device, Kind, TreeBuilder};

/// An entry, as the archive has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its path as it is written.
    pub(crate) path: Vec<u8>,
    /// What it is.
    pub(crate) kind: EntryKind,
    /// Owner, mode, extended attributes.
    pub(crate) attributes: Attributes,
    /// Seconds since 1970.
    pub(crate) time: u64,
    /// The length of its content, holes included.
    pub(crate) size: u64,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A regular file, whose content follows.
    File,
    /// A directory.
    Directory,
    /// Another name for the file at this path.
    HardLink(Vec<u8>),
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
}

/// How strict to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// The archive's length, where it is known: no entry may claim more.
    pub(crate) length: Option<u64>,
    /// Whether there must be an end mark and nothing but zeros behind it. Layers of container images, whose
    /// digest says that they are whole, are known to lack it.
    pub(crate) end_mark: bool,
}

/// Why bytes are not an archive that can be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    /// The input failed.
    #[error(transparent)]
    Io(io::Error),
    /// It does not begin with an entry.
    #[error("it is not a tar archive: expected a folder, a tar (plain, gzip, zstd), or an OCI image")]
    NotTar,
    /// It ends before its end.
    #[error("it is truncated: it ends inside {name}; make or copy the archive again")]
    Truncated { name: String },
    /// It ends between entries, without an end mark.
    #[error("it is truncated: it has no end mark; make or copy the archive again")]
    NoEnd,
    /// It goes on behind its end.
    #[error(
        "it has data behind its end mark, at byte {offset}: archives that were joined are read in part only"
    )]
    Trailing { offset: u64 },
    /// A header's checksum is wrong.
    #[error(
        "it is damaged: the header at byte {offset} has a wrong checksum; make or copy the archive again"
    )]
    Checksum { offset: u64 },
    /// A header's field is no number, or one that is too big.
    #[error("{name} has a malformed {field}")]
    Field { name: String, field: &'static str },
    /// Extended headers that are not records.
    #[error("an extended header is malformed")]
    Records,
    /// A record that is no number.
    #[error("the value of its record {key} is malformed")]
    Record { key: &'static str },
    /// A name, a target or records without end.
    #[error("an extended header claims {size} bytes: at most 1048576 are read")]
    Extension { size: u64 },
    /// More data than there can be.
    #[error("{name} claims {size} bytes, more than the archive has left; make or copy the archive again")]
    Claim { name: String, size: u64 },
    /// A file beyond reason.
    #[error("{name} is {size} bytes long: at most {MAX_FILE} are taken")]
    TooBig { name: String, size: u64 },
    /// A sparse file's map does not fit.
    #[error("the map of a sparse file is malformed")]
    Sparse,
    /// A type of entry that is no file.
    #[error("{name} has the entry type {kind}, which is no kind of file")]
    Kind { name: String, kind: String },
}

/// Reads a whole archive of one tree into `builder`; the newest time in it.
pub(super) fn read(
    input: impl Read,
    rules: Rules,
    builder: &mut TreeBuilder,
    batch: &Batch<'_>,
) -> Result<u64, InputError> {
    let mut reader = Reader::new(input, rules);
    let mut newest = 0;
    while let Some(entry) = reader.next()? {
        newest = newest.max(entry.time);
        add(entry, &mut reader, builder, batch)?;
    }
    Ok(newest)
}

/// Adds one entry to `builder`, with its content if it is a file.
pub(super) fn add(
    entry: Entry,
    reader: &mut Reader<impl Read>,
    builder: &mut TreeBuilder,
    batch: &Batch<'_>,
) -> Result<(), InputError> {
    let Entry { path, kind, attributes, size, .. } = entry;
    let kind = match kind {
        EntryKind::HardLink(target) => return Ok(builder.link(&path, &target)?),
        EntryKind::File => {
            builder.check_file(&path)?;
            let content = batch.write_file(&attributes, size, &mut reader.content());
            Kind::File(content.map_err(|error| InputError::content(&path, error))?)
        }
        EntryKind::Directory => Kind::Directory,
        EntryKind::Symlink(target) => Kind::Symlink(target),
        EntryKind::CharDevice(device) => Kind::CharDevice(device),
        EntryKind::BlockDevice(device) => Kind::BlockDevice(device),
        EntryKind::Fifo => Kind::Fifo,
    };
    Ok(builder.add(&path, attributes.inode(kind))?)
}
