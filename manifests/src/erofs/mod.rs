//! EROFS images: the on-disk format and a reader.
//!
//! Source: Linux `Documentation/filesystems/erofs.rst` and `fs/erofs/erofs_fs.h`, of which the uncompressed part is
//! implemented that every kernel since 5.15 mounts: blocks of 4096 bytes, flat data with or without an inline
//! tail, compact and extended inodes, inline and shared extended attributes, superblock checksum.

mod format;
mod reader;

pub use format::{
    BLOCK, DIRENT_SIZE, DataLayout, Dirent, FileType, INLINE_XATTR_HEADER, INODE_COMPACT, INODE_EXTENDED,
    Inode, NAME_MAX, SLOT, SUPER_OFFSET, SYMLINK_MAX, Superblock, XATTR_ENTRY, XATTR_VALUE_MAX, XattrName,
    decode_device, encode_device,
};
pub use reader::{Entry, Node, ReadAt, Reader, Visit};

/// Why an image could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ErofsError {
    /// No superblock.
    #[error("not an EROFS image: {0}")]
    NotErofs(&'static str),
    /// The superblock's checksum is wrong.
    #[error("EROFS superblock is damaged: checksum is {found:08x}, the content's is {expected:08x}")]
    Checksum {
        /// What is written there.
        found: u32,
        /// What the content makes it.
        expected: u32,
    },
    /// Valid, but with a feature this reader does not have.
    #[error("EROFS image uses {0}, which is not supported")]
    Unsupported(&'static str),
    /// An inode or what belongs to it makes no sense.
    #[error("EROFS image is damaged: inode {nid} has {reason}")]
    Corrupt {
        /// The inode's number.
        nid: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something points past the end of the image.
    #[error("EROFS image is damaged: {length} bytes at {offset} are outside of its {size}")]
    Outside {
        /// First byte.
        offset: u64,
        /// How many bytes.
        length: u64,
        /// The image's size.
        size: u64,
    },
    /// The image could not be read.
    #[error("cannot read {length} bytes at {offset} of the EROFS image")]
    Read {
        /// First byte.
        offset: u64,
        /// How many bytes.
        length: u64,
        /// Why.
        source: std::io::Error,
    },
}
