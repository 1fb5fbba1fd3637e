//! Directory blocks: sorted entries packed into blocks of 4096 bytes, names behind them.

use std::ops::Range;

use upright_manifests::erofs::{BLOCK, DIRENT_SIZE, Dirent, FileType};

/// An entry of a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Child<'a> {
    pub(super) name: &'a [u8],
    /// The index of the node it names.
    pub(super) node: usize,
    pub(super) kind: FileType,
}

/// The length of a directory's data in bytes.
pub(super) fn size(children: &[Child<'_>]) -> usize {
    let blocks = pack(children);
    let last = blocks.last().map_or(0, |last| children[last.clone()].iter().map(entry_size).sum());
    blocks.len().saturating_sub(1) * BLOCK + last
}

/// A directory's data; `nid` gives a node's number.
pub(super) fn to_bytes(children: &[Child<'_>], nid: impl Fn(usize) -> u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for block in pack(children) {
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        let children = &children[block];
        let mut name_offset = children.len() * DIRENT_SIZE;
        for child in children {
            let dirent = Dirent { nid: nid(child.node), name_offset: name_offset as u16, kind: child.kind };
            bytes.extend(dirent.to_bytes());
            name_offset += child.name.len();
        }
        children.iter().for_each(|child| bytes.extend(child.name));
    }
    bytes
}

fn entry_size(child: &Child<'_>) -> usize {
    DIRENT_SIZE + child.name.len()
}

/// Which children go into which block: as many as fit, in order.
fn pack(children: &[Child<'_>]) -> Vec<Range<usize>> {
    let (mut blocks, mut start, mut filled) = (Vec::new(), 0, 0);
    for (index, child) in children.iter().enumerate() {
        let size = entry_size(child);
        if filled + size > BLOCK {
            blocks.push(start..index);
            (start, filled) = (index, 0);
        }
        filled += size;
    }
    if start < children.len() {
        blocks.push(start..children.len());
    }
    blocks
}
