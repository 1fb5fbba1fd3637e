//! What an image will hold, from a tree: inodes in the order of their first path, with everything but their places.

use std::collections::BTreeMap;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::erofs::{
    BLOCK, DataLayout, FileType, Inode as DiskInode, NAME_MAX, SLOT, SYMLINK_MAX, encode_device,
};

use super::WriteError;
use super::directory::{self, Child};
use super::layout::path_text;
use super::xattr::{Pool, Xattrs};
use crate::tree::{Content, Device, Inode, Kind, Tree};

/// The longest path that Linux takes.
const PATH_MAX: usize = 4095;

/// Everything an image holds.
pub(super) struct Model<'a> {
    /// The inodes, ordered by path; the root is the first.
    pub(super) nodes: Vec<Node<'a>>,
    /// The extended attributes that inodes share.
    pub(super) pool: Pool,
}

/// An inode.
pub(super) struct Node<'a> {
    /// Its paths in order, at least one.
    pub(super) paths: Vec<&'a [u8]>,
    /// The inode as it goes to disk, but for its block and number.
    pub(super) disk: DiskInode,
    pub(super) xattrs: Xattrs,
    pub(super) data: Data<'a>,
}

/// What an inode's data is.
pub(super) enum Data<'a> {
    /// None, or a device's number that the inode holds.
    None,
    /// A symbolic link's target.
    Target(&'a [u8]),
    /// A directory's entries with `.` and `..`, in order.
    Directory(Vec<Child<'a>>),
    /// A regular file's content, not empty.
    File(&'a Content),
}

impl<'a> Model<'a> {
    /// Makes the model, and refuses a tree that an EROFS image cannot hold.
    pub(super) fn new(tree: &'a Tree, time: i64) -> Result<Self, WriteError> {
        let order = order(tree)?;
        let inodes = || order.iter().map(|(_, paths, inode)| (paths[0], *inode));
        let pool = Pool::new(inodes())?;
        let mut children = children(tree, &order)?;
        let mut nodes = Vec::with_capacity(order.len());
        for (number, (_, paths, inode)) in order.iter().enumerate() {
            let xattrs = pool.xattrs(paths[0], inode)?;
            let data = data(paths, inode, children.remove(&number))?;
            let disk = disk_inode(inode, &data, paths.len(), &xattrs, time);
            nodes.push(Node { paths: paths.clone(), disk, xattrs, data });
        }
        Ok(Self { nodes, pool })
    }
}

impl Node<'_> {
    /// The first path.
    pub(super) fn path(&self) -> &[u8] {
        self.paths[0]
    }

    /// Whether the data stands in the record, behind the inode.
    pub(super) fn is_inline(&self) -> bool {
        self.disk.layout == DataLayout::Inline
    }

    /// How many slots the inode's record takes.
    pub(super) fn slots(&self) -> u64 {
        let data = if self.is_inline() { self.disk.size as usize } else { 0 };
        (self.disk.header_size() + self.xattrs.size() + data).div_ceil(SLOT) as u64
    }

    /// How many blocks the data takes outside of the record.
    pub(super) fn blocks(&self) -> u64 {
        if self.is_inline() { 0 } else { self.disk.size.div_ceil(BLOCK_SIZE) }
    }
}

type Ordered<'a> = (usize, Vec<&'a [u8]>, &'a Inode);

/// The tree's inodes with their paths, ordered by first path.
fn order(tree: &Tree) -> Result<Vec<Ordered<'_>>, WriteError> {
    let mut paths: Vec<Vec<&[u8]>> = vec![Vec::new(); tree.inodes.len()];
    for (path, &index) in &tree.paths {
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let impossible = matches!(name, b"" | b"." | b"..") || name.contains(&0);
        if path.starts_with(b"/") || !path.is_empty() && impossible {
            return Err(refuse(path, "has an impossible name"));
        }
        if path.len() > PATH_MAX {
            return Err(refuse(path, "has a path of more than 4095 bytes"));
        }
        if name.len() > NAME_MAX {
            return Err(refuse(path, "has a name of more than 255 bytes"));
        }
        paths.get_mut(index).ok_or_else(|| refuse(path, "has no inode"))?.push(path);
    }
    let named = paths.into_iter().zip(&tree.inodes).enumerate();
    let mut order: Vec<Ordered<'_>> = named
        .filter(|(_, (paths, _))| !paths.is_empty())
        .map(|(index, (paths, inode))| (index, paths, inode))
        .collect();
    order.sort_by_key(|(_, paths, _)| paths[0]);
    match order.first() {
        Some((_, paths, inode)) if paths[0].is_empty() && inode.kind == Kind::Directory => Ok(order),
        _ => Err(refuse(b"", "is missing or not a directory")),
    }
}

/// The entries of each directory, by its node.
fn children<'a>(
    tree: &'a Tree,
    order: &[Ordered<'a>],
) -> Result<BTreeMap<usize, Vec<Child<'a>>>, WriteError> {
    let mut numbers = vec![0; tree.inodes.len()];
    order.iter().enumerate().for_each(|(number, (index, ..))| numbers[*index] = number);
    let mut children: BTreeMap<usize, Vec<Child<'a>>> = BTreeMap::new();
    for (path, &index) in &tree.paths {
        let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (b"".as_slice(), path.as_slice()),
        };
        let parent = tree.paths.get(parent).filter(|&&index| tree.inodes[index].kind == Kind::Directory);
        let parent = numbers[*parent.ok_or_else(|| refuse(path, "is not in a directory of the tree"))?];
        let (number, kind) = (numbers[index], file_type(&tree.inodes[index].kind));
        if kind == FileType::Directory {
            let own = [(b".".as_slice(), number), (b"..", parent)];
            let own = own.map(|(name, node)| Child { name, node, kind: FileType::Directory });
            children.entry(number).or_default().extend(own);
        }
        if !path.is_empty() {
            children.entry(parent).or_default().push(Child { name, node: number, kind });
        }
    }
    children.values_mut().for_each(|children| children.sort_by_key(|child| child.name));
    Ok(children)
}

fn data<'a>(
    paths: &[&[u8]],
    inode: &'a Inode,
    children: Option<Vec<Child<'a>>>,
) -> Result<Data<'a>, WriteError> {
    if inode.mode > 0o7777 {
        return Err(refuse(paths[0], "has impossible permissions"));
    }
    Ok(match &inode.kind {
        Kind::Directory if paths.len() > 1 => {
            return Err(refuse(paths[1], "is a second name of a directory"));
        }
        Kind::Directory => Data::Directory(children.unwrap_or_default()),
        Kind::File(content) if content.size > 0 => Data::File(content),
        Kind::Symlink(target) if target.is_empty() || target.contains(&0) || target.len() > SYMLINK_MAX => {
            return Err(refuse(paths[0], "is a symbolic link with an impossible target"));
        }
        Kind::Symlink(target) => Data::Target(target),
        Kind::CharDevice(device) | Kind::BlockDevice(device)
            if device.major >> 12 > 0 || device.minor >> 20 > 0 =>
        {
            return Err(refuse(paths[0], "is a device with an impossible number"));
        }
        _ => Data::None,
    })
}

fn disk_inode(inode: &Inode, data: &Data<'_>, paths: usize, xattrs: &Xattrs, time: i64) -> DiskInode {
    let is_directory = |child: &&Child<'_>| child.kind == FileType::Directory;
    let (size, links) = match data {
        Data::None => (0, paths),
        Data::Target(target) => (target.len() as u64, paths),
        Data::Directory(children) => {
            (directory::size(children) as u64, children.iter().filter(is_directory).count())
        }
        Data::File(content) => (content.size, paths),
    };
    let block = match inode.kind {
        Kind::CharDevice(Device { major, minor }) | Kind::BlockDevice(Device { major, minor }) => {
            encode_device(major, minor)
        }
        _ => 0,
    };
    let mut disk = DiskInode {
        layout: DataLayout::Plain,
        kind: file_type(&inode.kind),
        permissions: inode.mode,
        links: u32::try_from(links).unwrap_or(u32::MAX),
        uid: inode.uid,
        gid: inode.gid,
        size,
        block,
        ino: 0,
        xattr_count: xattrs.count(),
        time: None,
    };
    if disk.is_extended() {
        disk.time = Some(time);
    }
    let may_be_inline = matches!(data, Data::Target(_) | Data::Directory(_));
    if may_be_inline && disk.header_size() + xattrs.size() + size as usize <= BLOCK {
        disk.layout = DataLayout::Inline;
    }
    disk
}

fn file_type(kind: &Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::File(_) => FileType::Regular,
        Kind::Symlink(_) => FileType::Symlink,
        Kind::CharDevice(_) => FileType::CharDevice,
        Kind::BlockDevice(_) => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
    }
}

fn refuse(path: &[u8], reason: &'static str) -> WriteError {
    WriteError::Tree { path: path_text(path), reason }
}
