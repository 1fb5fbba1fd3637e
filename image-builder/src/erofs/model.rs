//! What an image will hold, from a tree: inodes in the order of their first path, with everything but their places.

use std::collections::BTreeMap;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::erofs::{BLOCK, DataLayout, FileType, Inode as DiskInode, SLOT, encode_device};

use super::WriteError;
use super::directory::{self, Child};
use super::xattr::{Pool, Xattrs};
use crate::tree::{Content, Device, Inode, Kind, Tree, split};

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
        let pool = Pool::new(order.iter().map(|named| (named.paths[0], named.inode)))?;
        let mut children = children(tree, &order);
        let mut nodes = Vec::with_capacity(order.len());
        for (number, Named { paths, inode, .. }) in order.into_iter().enumerate() {
            let xattrs = pool.xattrs(paths[0], inode)?;
            let data = data(inode, children.remove(&number));
            let disk = disk_inode(inode, &data, paths.len(), &xattrs, time);
            nodes.push(Node { paths, disk, xattrs, data });
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

/// An inode with its index in the tree and its paths.
struct Named<'a> {
    index: usize,
    paths: Vec<&'a [u8]>,
    inode: &'a Inode,
}

/// The tree's inodes, ordered by first path.
fn order(tree: &Tree) -> Result<Vec<Named<'_>>, WriteError> {
    tree.check()?;
    let named = tree.paths_by_inode().into_iter().zip(&tree.inodes).enumerate();
    let named = named.map(|(index, (paths, inode))| {
        let paths = paths.into_iter().map(Vec::as_slice).collect();
        Named { index, paths, inode }
    });
    let mut order: Vec<Named<'_>> = named.collect();
    order.sort_by(|one, other| one.paths.cmp(&other.paths));
    Ok(order)
}

/// The entries of each directory of a checked tree, by its node.
fn children<'a>(tree: &'a Tree, order: &[Named<'a>]) -> BTreeMap<usize, Vec<Child<'a>>> {
    let mut numbers = vec![0; tree.inodes.len()];
    order.iter().enumerate().for_each(|(number, named)| numbers[named.index] = number);
    let mut children: BTreeMap<usize, Vec<Child<'a>>> = BTreeMap::new();
    for (path, &index) in &tree.paths {
        let (above, name) = split(path);
        let parent = tree.paths.get(above).map_or(0, |&index| numbers[index]);
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
    children
}

fn data<'a>(inode: &'a Inode, children: Option<Vec<Child<'a>>>) -> Data<'a> {
    match &inode.kind {
        Kind::Directory => Data::Directory(children.unwrap_or_default()),
        Kind::File(content) if content.size > 0 => Data::File(content),
        Kind::Symlink(target) => Data::Target(target),
        _ => Data::None,
    }
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
