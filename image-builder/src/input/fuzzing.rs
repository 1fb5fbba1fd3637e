//! What the fuzz targets need of the inside: the readers without a store, which keeps what they read.

use std::io;

use upright_manifests::digest::Digest;

use super::tar::{Entry, EntryKind, Reader, Rules};
use super::{InputError, oci};
use crate::tree::{Content, Kind, Repeat, TreeBuilder};

/// Reads an archive as that of one root file system and as a container image's layer, and makes trees of both.
pub fn tar(bytes: &[u8]) {
    let length = Some(bytes.len() as u64);
    for (repeat, rules) in [
        (Repeat::Refuse, Rules { length, end_mark: true }),
        (Repeat::Replace, Rules { length: None, end_mark: false }),
    ] {
        let mut builder = TreeBuilder::new(repeat);
        builder.next_layer();
        if read(bytes, rules, &mut builder).is_ok()
            && let Ok(tree) = builder.finish()
        {
            let _ = tree.check();
        }
    }
}

/// Reads the documents of a container image.
pub fn documents(bytes: &[u8]) {
    oci::parse_documents(bytes);
}

fn read(bytes: &[u8], rules: Rules, builder: &mut TreeBuilder) -> Result<(), InputError> {
    let mut reader = Reader::new(bytes, rules);
    while let Some(mut entry) = reader.next()? {
        if matches!(oci::removes(&mut entry, builder), Ok(true)) {
            continue;
        }
        let Entry { path, kind, attributes, size, .. } = entry;
        let kind = match kind {
            EntryKind::HardLink(target) => {
                builder.link(&path, &target)?;
                continue;
            }
            EntryKind::File => {
                builder.check_file(&path)?;
                // A hole costs an archive nothing, but time: files of a store are written out.
                if size > 1 << 20 {
                    continue;
                }
                io::copy(&mut reader.content(), &mut io::sink())?;
                Kind::File(Content { size, sha256: Digest::of(&path), object: Digest::of(&path) })
            }
            EntryKind::Directory => Kind::Directory,
            EntryKind::Symlink(target) => Kind::Symlink(target),
            EntryKind::CharDevice(device) => Kind::CharDevice(device),
            EntryKind::BlockDevice(device) => Kind::BlockDevice(device),
            EntryKind::Fifo => Kind::Fifo,
        };
        builder.add(&path, attributes.inode(kind))?;
    }
    Ok(())
}
