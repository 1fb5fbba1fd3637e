//! Lays layers over each other (OCI image specification 1.1, "Image Layer Filesystem Changeset").
//!
//! A file is removed in either of the two styles there are: `.wh.NAME` and `.wh..wh..opq` beside it, as the
//! specification has it, or a character device 0:0 in its place and the attribute `overlay.opaque` of its directory,
//! as overlayfs has it. What AUFS leaves in layers (`.wh..wh.plnk` and the like) is gone when its layer is done.

use std::io::{self, Read};

use upright_manifests::digest::Digester;

use crate::input::InputError;
use crate::input::tar::{self, Entry, EntryKind, Reader, Rules};
use crate::tree::{Batch, Device, TreeBuilder, split};

/// What a name begins with that removes another.
const WHITEOUT: &[u8] = b".wh.";

/// What a name begins with that is AUFS's own.
const AUFS: &[u8] = b".wh..wh.";

/// The name that empties its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// The attributes that empty their directory.
const OPAQUE_XATTRS: [&[u8]; 2] = [b"trusted.overlay.opaque", b"user.overlay.opaque"];

/// Reads the layer `tar` into `builder`, over what is there; the newest time in it.
pub(super) fn apply(tar: impl Read, builder: &mut TreeBuilder, batch: &Batch<'_>) -> Result<u64, InputError> {
    builder.next_layer();
    let mut reader = Reader::new(tar, Rules { length: None, end_mark: false });
    let mut newest = 0;
    while let Some(mut entry) = reader.next()? {
        match removal(&mut entry)? {
            Removal::None => {
                newest = newest.max(entry.time);
                tar::add(entry, &mut reader, builder, batch)?;
            }
            Removal::Path(path) => builder.whiteout(&path)?,
            Removal::Inside(path) => builder.opaque(&path)?,
            Removal::InsideIt => {
                let path = entry.path.clone();
                newest = newest.max(entry.time);
                tar::add(entry, &mut reader, builder, batch)?;
                builder.opaque(&path)?;
            }
        }
    }
    builder.remove_named(AUFS);
    Ok(newest)
}

/// Whether `entry` removes something from the layers below; for the fuzz targets, whether or not it is a layer.
#[cfg(fuzzing)]
pub(in crate::input) fn removes(entry: &mut Entry, builder: &mut TreeBuilder) -> Result<bool, InputError> {
    match removal(entry)? {
        Removal::None | Removal::InsideIt => Ok(false),
        Removal::Path(path) => Ok(builder.whiteout(&path).is_ok()),
        Removal::Inside(path) => Ok(builder.opaque(&path).is_ok()),
    }
}

/// A layer without its compression, hashed as it is read.
pub(super) struct Hashed<R> {
    tar: R,
    digester: Digester,
}

impl<R: Read> Hashed<R> {
    pub(super) fn new(tar: R) -> Self {
        Self { tar, digester: Digester::new() }
    }

    /// Reads what is left, and refuses the layer `digest` unless all of it is what `expected` says, `sha256:` and a SHA-256.
    pub(super) fn expect(mut self, expected: &str, digest: &str) -> Result<(), InputError> {
        io::copy(&mut self, &mut io::sink())?;
        let found = format!("sha256:{}", self.digester.finish());
        match found == expected {
            true => Ok(()),
            false => {
                let expected = expected.chars().take(80).collect::<String>().escape_debug().to_string();
                Err(InputError::Format(format!(
                    "layer {digest} holds {found}, where the image's configuration says {expected}; copy the image again"
                )))
            }
        }
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.tar.read(buffer)?;
        self.digester.update(&buffer[..length]);
        Ok(length)
    }
}

/// What an entry removes from the layers below.
#[derive(Debug, PartialEq, Eq)]
enum Removal {
    /// Nothing.
    None,
    /// What is at this path.
    Path(Vec<u8>),
    /// What is in this directory.
    Inside(Vec<u8>),
    /// What is in the entry's own directory, which is there too.
    InsideIt,
}

/// What `entry` removes; its attribute that says so is taken off.
fn removal(entry: &mut Entry) -> Result<Removal, InputError> {
    let trimmed = entry.path.strip_suffix(b"/").unwrap_or(&entry.path);
    let (directory, name) = split(trimmed);
    if name == OPAQUE {
        return Ok(Removal::Inside(directory.to_vec()));
    }
    if let Some(target) = name.strip_prefix(WHITEOUT)
        && !trimmed.split(|byte| *byte == b'/').any(|part| part.starts_with(AUFS))
    {
        if matches!(target, b"" | b"." | b"..") {
            let path = crate::tree::display(trimmed);
            return Err(InputError::Format(format!("whiteout {path} names nothing that could be removed")));
        }
        let separator: &[u8] = if directory.is_empty() { b"" } else { b"/" };
        return Ok(Removal::Path([directory, separator, target].concat()));
    }
    if entry.kind == EntryKind::CharDevice(Device { major: 0, minor: 0 }) {
        return Ok(Removal::Path(trimmed.to_vec()));
    }
    let opaque = OPAQUE_XATTRS.map(|name| entry.attributes.xattrs.remove(name));
    let opaque = opaque.iter().flatten().any(|value| value == b"y");
    Ok(if opaque && entry.kind == EntryKind::Directory { Removal::InsideIt } else { Removal::None })
}
