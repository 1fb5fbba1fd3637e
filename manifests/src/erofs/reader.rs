//! Reads images from anything with an offset. No input makes it panic, loop or allocate more than its own size warrants.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::ErofsError;
use super::format::{
    BLOCK, DIRENT_SIZE, DataLayout, Dirent, Fields, FileType, INLINE_XATTR_HEADER, INODE_EXTENDED, Inode,
    NAME_MAX, SLOT, SYMLINK_MAX, Superblock, XATTR_ENTRY, XattrName,
};
use crate::BLOCK_SIZE;

/// Bytes with an offset: a file, a block device, memory.
pub trait ReadAt {
    /// How many bytes there are.
    fn size(&self) -> u64;
    /// Fills `buffer` from `offset`. The reader asks only for what lies within [`ReadAt::size`], and only for
    /// whole blocks of 4096 bytes unless the size is not a multiple of that.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let bytes = self.get(start..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_at(buffer, offset)
    }
}

/// An open image.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    superblock: Superblock,
    size: u64,
}

/// An inode and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The inode's number, which is also its place.
    pub nid: u64,
    /// The inode.
    pub inode: Inode,
}

/// A directory entry with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name: neither empty nor with a `/` or NUL in it.
    pub name: Vec<u8>,
    /// The inode's number.
    pub nid: u64,
    /// What it says the inode is.
    pub kind: FileType,
}

/// What a walk calls for each path and its node; its error ends the walk.
pub type Visit<'a> = dyn FnMut(&[u8], &Node) -> Result<(), ErofsError> + 'a;

impl<R: ReadAt> Reader<R> {
    /// Opens an image and checks its superblock.
    pub fn open(source: R) -> Result<Self, ErofsError> {
        if source.size() < BLOCK_SIZE {
            return Err(ErofsError::NotErofs("shorter than one block"));
        }
        let mut block = [0; BLOCK];
        source.read_at(&mut block, 0).map_err(|source| ErofsError::Read {
            offset: 0,
            length: BLOCK_SIZE,
            source,
        })?;
        let superblock = Superblock::parse(&block)?;
        let size = u64::from(superblock.blocks) * BLOCK_SIZE;
        if size > source.size() {
            return Err(ErofsError::Outside { offset: 0, length: size, size: source.size() });
        }
        Ok(Self { source, superblock, size })
    }

    /// The superblock.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The root directory.
    pub fn root(&self) -> Result<Node, ErofsError> {
        self.node(self.superblock.root_nid.into())
    }

    /// The inode of a number.
    pub fn node(&self, nid: u64) -> Result<Node, ErofsError> {
        let offset = self.place(nid)?;
        let length = self.size.saturating_sub(offset).min(INODE_EXTENDED as u64);
        let bytes = self.bytes(offset, length)?;
        Ok(Node { nid, inode: Inode::parse(nid, &bytes)? })
    }

    /// The node of a path of names with `/` between them; none if there is no such path. Symbolic links are not followed.
    pub fn lookup(&self, path: &[u8]) -> Result<Option<Node>, ErofsError> {
        let mut node = self.root()?;
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            if node.inode.kind != FileType::Directory {
                return Ok(None);
            }
            match self.entries(&node)?.into_iter().find(|entry| entry.name == name) {
                Some(entry) => node = self.node(entry.nid)?,
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }

    /// The entries of a directory with `.` and `..`, in the order of their names.
    pub fn entries(&self, node: &Node) -> Result<Vec<Entry>, ErofsError> {
        if node.inode.kind != FileType::Directory {
            return Err(corrupt(node, "entries, but is no directory"));
        }
        let mut entries: Vec<Entry> = Vec::new();
        let mut offset = 0;
        while offset < node.inode.size {
            let length = (node.inode.size - offset).min(BLOCK_SIZE);
            let block = self.data(node, offset, length)?;
            for entry in directory_block(node, &block)? {
                if entries.last().is_some_and(|last| last.name >= entry.name) {
                    return Err(corrupt(node, "entries out of order"));
                }
                entries.push(entry);
            }
            offset += length;
        }
        Ok(entries)
    }

    /// The target of a symbolic link.
    pub fn target(&self, node: &Node) -> Result<Vec<u8>, ErofsError> {
        if node.inode.kind != FileType::Symlink || node.inode.size > SYMLINK_MAX as u64 {
            return Err(corrupt(node, "an impossible symbolic link"));
        }
        self.data(node, 0, node.inode.size)
    }

    /// Reads a regular file's bytes from `offset`; fewer than `buffer` holds only at its end. Returns how many.
    pub fn read(&self, node: &Node, offset: u64, buffer: &mut [u8]) -> Result<usize, ErofsError> {
        let length = node.inode.size.saturating_sub(offset).min(buffer.len() as u64);
        let bytes = self.data(node, offset, length)?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    /// The extended attributes by full name.
    pub fn xattrs(&self, node: &Node) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ErofsError> {
        let mut xattrs = BTreeMap::new();
        if node.inode.xattr_count == 0 {
            return Ok(xattrs);
        }
        let size = node.inode.xattr_size();
        let body = self.bytes(self.behind(node, node.inode.header_size())?, size as u64)?;
        let shared = usize::from(body[4]);
        let inline = INLINE_XATTR_HEADER + shared * 4;
        if inline > size {
            return Err(corrupt(node, "more shared attributes than it has room for"));
        }
        for id in body[INLINE_XATTR_HEADER..inline].chunks_exact(4) {
            let (name, value) = self.shared_xattr(node, Fields(id).u32(0))?;
            xattrs.insert(name, value);
        }
        let mut rest = &body[inline..];
        while !rest.is_empty() {
            let (name, value, length) = xattr_entry(node, rest)?;
            xattrs.insert(name, value);
            rest = &rest[length.min(rest.len())..];
        }
        Ok(xattrs)
    }

    /// Visits every path with its node, each directory before what it holds, names in order; the root is the empty path.
    ///
    /// A directory that is reached twice, or directories that together claim more bytes than the image has, are errors: so a
    /// hostile image ends the walk after work in proportion to its size.
    pub fn walk(&self, visit: &mut Visit<'_>) -> Result<(), ErofsError> {
        let (mut seen, mut claimed) = (BTreeSet::new(), 0u64);
        let (mut path, mut open) = (Vec::new(), Vec::new());
        let mut next = Some((u64::from(self.superblock.root_nid), FileType::Directory));
        while let Some((nid, kind)) = next {
            let node = self.node(nid)?;
            if node.inode.kind != kind {
                return Err(corrupt(&node, "another file type than its directory entry"));
            }
            visit(&path, &node)?;
            if kind == FileType::Directory {
                claimed = claimed.saturating_add(node.inode.size);
                if !seen.insert(nid) || claimed > self.size || path.len() > PATH_MAX {
                    return Err(corrupt(&node, "directories that are nested in a circle or too deeply"));
                }
                open.push((path.len(), self.entries(&node)?.into_iter()));
            }
            next = advance(&mut path, &mut open);
        }
        Ok(())
    }

    /// The byte offset of an inode.
    fn place(&self, nid: u64) -> Result<u64, ErofsError> {
        let start = u64::from(self.superblock.meta_block) * BLOCK_SIZE;
        let offset = nid.checked_mul(SLOT as u64).and_then(|offset| offset.checked_add(start));
        offset.ok_or(ErofsError::Corrupt { nid, reason: "an impossible number" })
    }

    /// The byte offset of what is `length` bytes behind the start of a node.
    fn behind(&self, node: &Node, length: usize) -> Result<u64, ErofsError> {
        let offset = self.place(node.nid)?.checked_add(length as u64);
        offset.ok_or_else(|| corrupt(node, "an impossible number"))
    }

    /// Part of a node's data; `length` is what the caller has bounded.
    fn data(&self, node: &Node, offset: u64, length: u64) -> Result<Vec<u8>, ErofsError> {
        let inode = &node.inode;
        if !matches!(inode.kind, FileType::Regular | FileType::Directory | FileType::Symlink) {
            return Err(corrupt(node, "data, which its file type does not allow"));
        }
        let whole = inode.size / BLOCK_SIZE * BLOCK_SIZE;
        let in_blocks = match inode.layout {
            DataLayout::Plain => length,
            DataLayout::Inline => whole.saturating_sub(offset).min(length),
        };
        let mut bytes = Vec::new();
        if in_blocks > 0 {
            let start = (u64::from(inode.block) * BLOCK_SIZE).checked_add(offset);
            bytes = self.bytes(start.ok_or_else(|| corrupt(node, "an impossible offset"))?, in_blocks)?;
        }
        if in_blocks < length {
            let tail = self.behind(node, inode.header_size() + inode.xattr_size())?;
            if tail % BLOCK_SIZE + inode.size % BLOCK_SIZE > BLOCK_SIZE {
                return Err(corrupt(node, "inline data that crosses a block"));
            }
            bytes.extend(self.bytes(tail + (offset + in_blocks - whole), length - in_blocks)?);
        }
        Ok(bytes)
    }

    fn shared_xattr(&self, node: &Node, id: u32) -> Result<(Vec<u8>, Vec<u8>), ErofsError> {
        let offset = u64::from(self.superblock.xattr_block) * BLOCK_SIZE + u64::from(id) * 4;
        let head = self.bytes(offset, XATTR_ENTRY as u64)?;
        let entry = self.bytes(offset, xattr_length(&head) as u64)?;
        xattr_entry(node, &entry).map(|(name, value, _)| (name, value))
    }

    /// Bytes of the image, from whole blocks.
    fn bytes(&self, offset: u64, length: u64) -> Result<Vec<u8>, ErofsError> {
        let outside = ErofsError::Outside { offset, length, size: self.size };
        let Some(end) = offset.checked_add(length).filter(|&end| end <= self.size) else {
            return Err(outside);
        };
        let start = offset / BLOCK_SIZE * BLOCK_SIZE;
        let covered = end.next_multiple_of(BLOCK_SIZE) - start;
        let mut bytes = vec![0; usize::try_from(covered).map_err(|_| outside)?];
        let read = |source| ErofsError::Read { offset: start, length: covered, source };
        self.source.read_at(&mut bytes, start).map_err(read)?;
        bytes.truncate((end - start) as usize);
        bytes.drain(..(offset - start) as usize);
        Ok(bytes)
    }
}

/// The longest path that a walk follows.
const PATH_MAX: usize = 4096;

fn corrupt(node: &Node, reason: &'static str) -> ErofsError {
    ErofsError::Corrupt { nid: node.nid, reason }
}

/// Moves a walk on: to the next entry of the innermost open directory that has one left, making its path.
fn advance(
    path: &mut Vec<u8>,
    open: &mut Vec<(usize, std::vec::IntoIter<Entry>)>,
) -> Option<(u64, FileType)> {
    while let Some((length, entries)) = open.last_mut() {
        path.truncate(*length);
        let Some(entry) = entries.find(|entry| entry.name != b"." && entry.name != b"..") else {
            open.pop();
            continue;
        };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(entry.name);
        return Some((entry.nid, entry.kind));
    }
    None
}

/// The entries of one directory block: entries first, their names after them, the last name up to a NUL or the end.
fn directory_block(node: &Node, block: &[u8]) -> Result<Vec<Entry>, ErofsError> {
    let malformed = || corrupt(node, "a malformed directory block");
    let (dirents, _) = block.as_chunks::<DIRENT_SIZE>();
    let first = dirents.first().and_then(Dirent::parse).ok_or_else(malformed)?;
    let names = usize::from(first.name_offset);
    let dirents = dirents.get(..names / DIRENT_SIZE).ok_or_else(malformed)?;
    if names == 0 || !names.is_multiple_of(DIRENT_SIZE) {
        return Err(malformed());
    }
    let mut entries = Vec::with_capacity(dirents.len());
    for (index, dirent) in dirents.iter().enumerate() {
        let dirent = Dirent::parse(dirent).ok_or_else(malformed)?;
        let end = dirents.get(index + 1).map_or(block.len(), |next| Fields(next).u16(8).into());
        let name = block.get(dirent.name_offset.into()..end).ok_or_else(malformed)?;
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        if usize::from(dirent.name_offset) < names || !is_name(name) {
            return Err(malformed());
        }
        entries.push(Entry { name: name.to_vec(), nid: dirent.nid, kind: dirent.kind });
    }
    Ok(entries)
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.len() <= NAME_MAX && !name.contains(&b'/')
}

/// Length of an extended attribute's entry without padding, from its head.
fn xattr_length(head: &[u8]) -> usize {
    let fields = Fields(head);
    XATTR_ENTRY + usize::from(fields.u8(0)) + usize::from(fields.u16(2))
}

/// Full name, value and padded length of the entry that `bytes` start with.
fn xattr_entry(node: &Node, bytes: &[u8]) -> Result<(Vec<u8>, Vec<u8>, usize), ErofsError> {
    let malformed = || corrupt(node, "a malformed extended attribute");
    let head = bytes.get(..XATTR_ENTRY).ok_or_else(malformed)?;
    let length = xattr_length(head);
    let entry = bytes.get(XATTR_ENTRY..length).ok_or_else(malformed)?;
    let (suffix, value) = entry.split_at(usize::from(head[0]));
    let name = XattrName { index: head[1], suffix }.join().ok_or_else(malformed)?;
    Ok((name, value.to_vec(), length.next_multiple_of(XATTR_ENTRY)))
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
