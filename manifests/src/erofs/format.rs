//! The on-disk structures, all little-endian, as values that encode to and decode from bytes.
//!
//! ```text
//! superblock, 128 bytes at 1024       compact inode, 32           extended inode, 64
//! 0   magic         u32               0   format        u16       0   format        u16
//! 4   checksum      u32               2   xattr count   u16       2   xattr count   u16
//! 8   compatible features   u32       4   mode          u16       4   mode          u16
//! 12  block size, log2      u8        6   links         u16       6   zero          u16
//! 13  extension slots       u8        8   size          u32       8   size          u64
//! 14  root inode    u16               12  zero          u32       16  block, device u32
//! 16  inodes        u64               16  block, device u32       20  ino           u32
//! 24  time          i64               20  ino           u32       24  uid           u32
//! 32  nanoseconds   u32               24  uid           u16       28  gid           u32
//! 36  blocks        u32               26  gid           u16       32  time          i64
//! 40  metadata starts at block  u32   28  zero          u32       40  nanoseconds   u32
//! 44  shared xattrs start at block u32                            44  links         u32
//! 48  UUID          16                dirent, 12                  48  zero          16
//! 64  volume name   16                0   inode         u64
//! 80  incompatible features u32       8   name offset   u16       xattr entry, 4
//! 84  zero          44                10  file type     u8        0   name length   u8
//!                                     11  zero          u8        1   name index    u8
//!                                                                 2   value length  u16
//! ```

use super::ErofsError;
use crate::BLOCK_SIZE;
use crate::uuid::Uuid;

/// [`BLOCK_SIZE`] as a length in memory.
pub const BLOCK: usize = BLOCK_SIZE as usize;
/// Where the superblock starts, in bytes.
pub const SUPER_OFFSET: usize = 1024;
/// What an inode is aligned to and its number counts, in bytes.
pub const SLOT: usize = 32;
/// Length of a compact inode.
pub const INODE_COMPACT: usize = 32;
/// Length of an extended inode.
pub const INODE_EXTENDED: usize = 64;
/// Length of a directory entry without its name.
pub const DIRENT_SIZE: usize = 12;
/// Length of what stands before an inode's extended attributes.
pub const INLINE_XATTR_HEADER: usize = 12;
/// Length of an extended attribute's head; name and value follow, and zeros up to a multiple of it.
pub const XATTR_ENTRY: usize = 4;
/// The longest file name, and the longest name of an extended attribute without its prefix.
pub const NAME_MAX: usize = 255;
/// The longest value of an extended attribute that the format can hold.
pub const XATTR_VALUE_MAX: usize = u16::MAX as usize;
/// The longest target of a symbolic link that Linux follows.
pub const SYMLINK_MAX: usize = 4095;

const MAGIC: u32 = 0xe0f5_e1e2;
const SUPER_SIZE: usize = 128;
const BLOCK_BITS: u8 = 12;
const COMPAT_CHECKSUM: u32 = 1;
const COMPAT_MTIME: u32 = 2;
/// Only says how compressed data is padded, of which there is none here; `mkfs.erofs` sets it at will.
const INCOMPAT_ZERO_PADDING: u32 = 1;

/// The superblock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// The root directory's inode number.
    pub root_nid: u16,
    /// How many inodes there are.
    pub inodes: u64,
    /// The time of every compact inode, in seconds since 1970.
    pub time: i64,
    /// The image's length in blocks.
    pub blocks: u32,
    /// The block that inode numbers count from.
    pub meta_block: u32,
    /// The block that shared extended attributes are counted from.
    pub xattr_block: u32,
    /// The file system's UUID.
    pub uuid: Uuid,
}

impl Superblock {
    /// The first block of the image, with the checksum.
    pub fn to_block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let mut put = |at: usize, field: &[u8]| {
            block[SUPER_OFFSET + at..SUPER_OFFSET + at + field.len()].copy_from_slice(field);
        };
        put(0, &MAGIC.to_le_bytes());
        put(8, &(COMPAT_CHECKSUM | COMPAT_MTIME).to_le_bytes());
        put(12, &[BLOCK_BITS]);
        put(14, &self.root_nid.to_le_bytes());
        put(16, &self.inodes.to_le_bytes());
        put(24, &self.time.to_le_bytes());
        put(36, &self.blocks.to_le_bytes());
        put(40, &self.meta_block.to_le_bytes());
        put(44, &self.xattr_block.to_le_bytes());
        put(48, self.uuid.as_bytes());
        let checksum = checksum(&block);
        block[SUPER_OFFSET + 4..SUPER_OFFSET + 8].copy_from_slice(&checksum.to_le_bytes());
        block
    }

    /// Reads the superblock from the first block of an image.
    pub fn parse(block: &[u8; BLOCK]) -> Result<Self, ErofsError> {
        let fields = Fields(&block[SUPER_OFFSET..SUPER_OFFSET + SUPER_SIZE]);
        if fields.u32(0) != MAGIC {
            return Err(ErofsError::NotErofs("wrong magic number"));
        }
        if fields.u32(8) & COMPAT_CHECKSUM != 0 {
            let (found, expected) = (fields.u32(4), checksum(block));
            if found != expected {
                return Err(ErofsError::Checksum { found, expected });
            }
        }
        if fields.u8(12) != BLOCK_BITS {
            return Err(ErofsError::Unsupported("a block size other than 4096"));
        }
        if fields.u32(80) & !INCOMPAT_ZERO_PADDING != 0 {
            return Err(ErofsError::Unsupported("an incompatible feature"));
        }
        Ok(Self {
            root_nid: fields.u16(14),
            inodes: fields.u64(16),
            time: fields.u64(24).cast_signed(),
            blocks: fields.u32(36),
            meta_block: fields.u32(40),
            xattr_block: fields.u32(44),
            uuid: fields.array::<16>(48).into(),
        })
    }
}

/// CRC-32C over superblock and rest of its block with the checksum as zero, without the usual final inversion.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let skip = SUPER_OFFSET + 4..SUPER_OFFSET + 8;
    let bytes = (SUPER_OFFSET..BLOCK).map(|at| if skip.contains(&at) { 0 } else { block[at] });
    bytes.fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

/// What an inode is; the numbers are those of directory entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileType {
    /// A regular file.
    Regular = 1,
    /// A directory.
    Directory = 2,
    /// A character device.
    CharDevice = 3,
    /// A block device.
    BlockDevice = 4,
    /// A named pipe.
    Fifo = 5,
    /// A socket.
    Socket = 6,
    /// A symbolic link.
    Symlink = 7,
}

impl FileType {
    const ALL: [(Self, u16); 7] = [
        (Self::Regular, 0o10),
        (Self::Directory, 0o04),
        (Self::CharDevice, 0o02),
        (Self::BlockDevice, 0o06),
        (Self::Fifo, 0o01),
        (Self::Socket, 0o14),
        (Self::Symlink, 0o12),
    ];

    /// The file type bits of a mode, shifted to their place.
    pub fn mode_bits(self) -> u16 {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or(0, |(_, bits)| bits << 12)
    }

    /// The type that a mode names.
    pub fn of_mode(mode: u16) -> Option<Self> {
        Self::ALL.iter().find(|(_, bits)| *bits == mode >> 12).map(|(kind, _)| *kind)
    }

    /// Whether the inode holds a device number in place of a block address.
    pub fn is_device(self) -> bool {
        matches!(self, Self::CharDevice | Self::BlockDevice)
    }

    fn of_dirent(number: u8) -> Option<Self> {
        Self::ALL.iter().find(|(kind, _)| *kind as u8 == number).map(|(kind, _)| *kind)
    }
}

/// How an inode's data is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataLayout {
    /// All of it in consecutive blocks.
    Plain = 0,
    /// Whole blocks in consecutive blocks, the rest right behind the inode and its extended attributes.
    Inline = 2,
}

/// An inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// How its data is stored.
    pub layout: DataLayout,
    /// What it is.
    pub kind: FileType,
    /// Permission bits with setuid, setgid and sticky.
    pub permissions: u16,
    /// How many names it has; for a directory 2 and its sub-directories.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length of its data in bytes.
    pub size: u64,
    /// The first block of its data, or the device's number as [`encode_device`] makes it.
    pub block: u32,
    /// Its number for programs with 32-bit inode numbers.
    pub ino: u32,
    /// Length of its extended attributes in the unit of the format: 0, or 1 and the words after the header.
    pub xattr_count: u16,
    /// Its time if it has one of its own, which only an extended inode can.
    pub time: Option<i64>,
}

impl Inode {
    /// Whether the inode takes 64 bytes; a time of its own alone makes it so.
    pub fn is_extended(&self) -> bool {
        let wide = |value: u32| value > u32::from(u16::MAX);
        self.time.is_some()
            || Self::needs_extended(self.size)
            || [self.links, self.uid, self.gid].into_iter().any(wide)
    }

    /// Whether data of this size alone takes an extended inode.
    pub fn needs_extended(size: u64) -> bool {
        size > u64::from(u32::MAX)
    }

    /// Length of the inode in bytes, without extended attributes and inline data.
    pub fn header_size(&self) -> usize {
        if self.is_extended() { INODE_EXTENDED } else { INODE_COMPACT }
    }

    /// Length of the extended attributes behind the inode, in bytes.
    pub fn xattr_size(&self) -> usize {
        match self.xattr_count {
            0 => 0,
            count => INLINE_XATTR_HEADER + (usize::from(count) - 1) * XATTR_ENTRY,
        }
    }

    /// The inode's bytes, [`Inode::header_size`] of them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let extended = self.is_extended();
        let mut bytes = Vec::with_capacity(INODE_EXTENDED);
        let format = (self.layout as u16) << 1 | u16::from(extended);
        bytes.extend(format.to_le_bytes());
        bytes.extend(self.xattr_count.to_le_bytes());
        bytes.extend((self.kind.mode_bits() | self.permissions).to_le_bytes());
        let tail = [self.block.to_le_bytes(), self.ino.to_le_bytes()];
        if extended {
            bytes.extend([0; 2]);
            bytes.extend(self.size.to_le_bytes());
            bytes.extend(tail.as_flattened());
            bytes.extend([self.uid.to_le_bytes(), self.gid.to_le_bytes()].as_flattened());
            bytes.extend(self.time.unwrap_or(0).to_le_bytes());
            bytes.extend([0; 4]);
            bytes.extend(self.links.to_le_bytes());
        } else {
            bytes.extend(&self.links.to_le_bytes()[..2]);
            bytes.extend(&self.size.to_le_bytes()[..4]);
            bytes.extend([0; 4]);
            bytes.extend(tail.as_flattened());
            bytes.extend(&self.uid.to_le_bytes()[..2]);
            bytes.extend(&self.gid.to_le_bytes()[..2]);
        }
        bytes.resize(self.header_size(), 0);
        bytes
    }

    /// Reads inode `nid` from the bytes at its place; `bytes` holds 64, or less at the end of the image.
    pub fn parse(nid: u64, bytes: &[u8]) -> Result<Self, ErofsError> {
        let corrupt = |reason| ErofsError::Corrupt { nid, reason };
        let extended = bytes.first().is_some_and(|byte| byte & 1 == 1);
        if bytes.len() < if extended { INODE_EXTENDED } else { INODE_COMPACT } {
            return Err(corrupt("no room before the end of the image"));
        }
        let fields = Fields(bytes);
        let layout = match fields.u16(0) >> 1 {
            0 => DataLayout::Plain,
            2 => DataLayout::Inline,
            1 | 3 => return Err(ErofsError::Unsupported("compression")),
            4 => return Err(ErofsError::Unsupported("chunk-based files")),
            _ => return Err(corrupt("an unknown format")),
        };
        let mode = fields.u16(4);
        let kind = FileType::of_mode(mode).ok_or_else(|| corrupt("an unknown file type"))?;
        let wide = |narrow: usize, wide: usize| match extended {
            true => fields.u32(wide),
            false => u32::from(fields.u16(narrow)),
        };
        Ok(Self {
            layout,
            kind,
            permissions: mode & 0o7777,
            links: wide(6, 44),
            uid: wide(24, 24),
            gid: wide(26, 28),
            size: if extended { fields.u64(8) } else { fields.u32(8).into() },
            block: fields.u32(16),
            ino: fields.u32(20),
            xattr_count: fields.u16(2),
            time: extended.then(|| fields.u64(32).cast_signed()),
        })
    }
}

/// A directory entry without its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dirent {
    /// The inode's number.
    pub nid: u64,
    /// Where the name starts in the directory block.
    pub name_offset: u16,
    /// What the inode is.
    pub kind: FileType,
}

impl Dirent {
    /// The entry's bytes.
    pub fn to_bytes(self) -> [u8; DIRENT_SIZE] {
        let mut bytes = [0; DIRENT_SIZE];
        bytes[..8].copy_from_slice(&self.nid.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.name_offset.to_le_bytes());
        bytes[10] = self.kind as u8;
        bytes
    }

    /// Reads an entry; none if its file type is unknown.
    pub fn parse(bytes: &[u8; DIRENT_SIZE]) -> Option<Self> {
        let fields = Fields(bytes);
        Some(Self {
            nid: fields.u64(0),
            name_offset: fields.u16(8),
            kind: FileType::of_dirent(fields.u8(10))?,
        })
    }
}

/// The name of an extended attribute as it is stored: a number for the prefix, and the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct XattrName<'a> {
    /// Which prefix.
    pub index: u8,
    /// What follows the prefix, without a NUL.
    pub suffix: &'a [u8],
}

const XATTR_PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

impl<'a> XattrName<'a> {
    /// Splits a full name; none if the kernel could not give it back: an unknown name space, a longer name than 255
    /// bytes after the prefix, or nothing after it.
    pub fn split(name: &'a [u8]) -> Option<Self> {
        let split = |(index, prefix): &(u8, &[u8])| Some((*index, name.strip_prefix(*prefix)?));
        let (index, suffix) = XATTR_PREFIXES.iter().find_map(split)?;
        let whole = matches!(index, 2 | 3);
        let fits = suffix.is_empty() == whole && suffix.len() <= NAME_MAX && !suffix.contains(&0);
        fits.then_some(Self { index, suffix })
    }

    /// The full name; none for a prefix this format does not know.
    pub fn join(&self) -> Option<Vec<u8>> {
        let (_, prefix) = XATTR_PREFIXES.iter().find(|(index, _)| *index == self.index)?;
        Some([prefix, self.suffix].concat())
    }
}

/// A device's number as an inode holds it (the kernel's `new_encode_dev`): minor of 20 bits around a major of 12.
pub fn encode_device(major: u32, minor: u32) -> u32 {
    minor & 0xff | (major & 0xfff) << 8 | (minor & 0xf_ff00) << 12
}

/// Major and minor number of a device.
pub fn decode_device(device: u32) -> (u32, u32) {
    (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00)
}

/// Little-endian fields at fixed offsets of a structure whose length was checked.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    pub(super) fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut field = [0; N];
        if let Some(bytes) = self.0.get(at..at + N) {
            field.copy_from_slice(bytes);
        }
        field
    }

    pub(super) fn u8(&self, at: usize) -> u8 {
        self.array::<1>(at)[0]
    }

    pub(super) fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    pub(super) fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    pub(super) fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
