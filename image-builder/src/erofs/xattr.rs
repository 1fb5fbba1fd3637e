//! Extended attributes as records hold them: shared where several inodes have an equal one, else inline.

use std::collections::BTreeMap;

use upright_manifests::erofs::{INLINE_XATTR_HEADER, XATTR_ENTRY, XATTR_VALUE_MAX, XattrName};

use super::WriteError;
use crate::tree::{Inode, display};

/// How many shared attributes an inode can name.
const SHARED_MAX: usize = u8::MAX as usize;

/// The extended attributes of one inode, as entries in their order.
#[derive(Debug, Default)]
pub(super) struct Xattrs {
    /// Which of the pool's shared entries, by index.
    shared: Vec<usize>,
    inline: Vec<u8>,
}

/// The entries that several inodes share, in the order of their bytes.
#[derive(Debug, Default)]
pub(super) struct Pool {
    entries: BTreeMap<Vec<u8>, usize>,
}

impl Pool {
    /// Finds the entries that more than one of `inodes` has; each comes with a path of it.
    pub(super) fn new<'a>(inodes: impl Iterator<Item = (&'a [u8], &'a Inode)>) -> Result<Self, WriteError> {
        let mut uses: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for (path, inode) in inodes {
            for entry in entries(path, inode) {
                *uses.entry(entry?).or_default() += 1;
            }
        }
        let shared = uses.into_iter().filter(|(_, uses)| *uses > 1).enumerate();
        Ok(Self { entries: shared.map(|(index, (entry, _))| (entry, index)).collect() })
    }

    /// The bytes of the shared entries, by index.
    pub(super) fn shared(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.keys().map(Vec::as_slice)
    }

    /// The extended attributes of an inode.
    pub(super) fn xattrs(&self, path: &[u8], inode: &Inode) -> Result<Xattrs, WriteError> {
        let mut xattrs = Xattrs::default();
        for entry in entries(path, inode) {
            let entry = entry?;
            match self.entries.get(&entry) {
                Some(&index) if xattrs.shared.len() < SHARED_MAX => xattrs.shared.push(index),
                _ => xattrs.inline.extend(entry),
            }
        }
        match u16::try_from(xattrs.words()) {
            Ok(_) => Ok(xattrs),
            Err(_) => Err(WriteError::XattrsTooLarge { path: display(path) }),
        }
    }
}

impl Xattrs {
    /// The length as an inode holds it.
    pub(super) fn count(&self) -> u16 {
        u16::try_from(self.words()).unwrap_or(u16::MAX)
    }

    /// Length in bytes.
    pub(super) fn size(&self) -> usize {
        match self.words() {
            0 => 0,
            words => INLINE_XATTR_HEADER + (words - 1) * XATTR_ENTRY,
        }
    }

    /// The bytes behind the inode; `id` gives the number by which a shared entry is found.
    pub(super) fn to_bytes(&self, id: impl Fn(usize) -> u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size());
        if self.words() > 0 {
            bytes.resize(INLINE_XATTR_HEADER, 0);
            bytes[4] = self.shared.len() as u8;
            self.shared.iter().for_each(|&index| bytes.extend(id(index).to_le_bytes()));
            bytes.extend(&self.inline);
        }
        bytes
    }

    /// One for the header and one for every four bytes behind it.
    fn words(&self) -> usize {
        let behind = self.shared.len() + self.inline.len() / XATTR_ENTRY;
        if behind == 0 { 0 } else { behind + 1 }
    }
}

/// The entries of an inode, padded.
fn entries<'a>(path: &'a [u8], inode: &'a Inode) -> impl Iterator<Item = Result<Vec<u8>, WriteError>> + 'a {
    inode.xattrs.iter().map(move |(name, value)| {
        let refuse =
            |reason| WriteError::Xattr { path: display(path), name: name.escape_ascii().to_string(), reason };
        let name = XattrName::split(name).ok_or_else(|| refuse("this name"))?;
        if value.len() > XATTR_VALUE_MAX {
            return Err(refuse("a value of more than 65535 bytes"));
        }
        let mut entry = vec![name.suffix.len() as u8, name.index];
        entry.extend((value.len() as u16).to_le_bytes());
        entry.extend(name.suffix);
        entry.extend(value);
        entry.resize(entry.len().next_multiple_of(XATTR_ENTRY), 0);
        Ok(entry)
    })
}
