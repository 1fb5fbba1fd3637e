//! Salt and size of the tree in a slot.

use std::io;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::digest::Digest;
use upright_manifests::erofs::Reader;
use upright_manifests::verity::{BLOCK, BlockHasher, Geometry, Superblock, VerityParams, uuid};

use crate::host::BlockDevice;
use crate::slot::Image;

/// What a verity partition says of itself.
pub fn superblock_of(verity: &dyn BlockDevice) -> io::Result<Superblock> {
    let mut block = [0; BLOCK];
    verity.read_at(&mut block, 0)?;
    Superblock::parse_block(&block).map_err(io::Error::other)
}

/// The tree with root hash `root_hash` that belongs to a slot's image: as its superblock says, or, where that is damaged, as the
/// image's own superblock and the OS's `salt` have it. None if neither tells. That it is the right one shows when the root hash
/// comes out of it.
pub fn layout(
    root: &dyn BlockDevice,
    verity: &dyn BlockDevice,
    root_hash: Digest,
    salt: Digest,
) -> Option<VerityParams> {
    let told = superblock_of(verity).ok().filter(|told| told.uuid == uuid(&root_hash));
    // It has a checksum.
    let image = Reader::open(Image(root)).ok().map(|image| u64::from(image.superblock().blocks));
    let top = top_block(verity);
    let proves =
        |salt: &Digest| top.as_ref().is_some_and(|top| BlockHasher::new(salt).hash(top) == root_hash);
    let told_salt = told.as_ref().map(|told| told.salt);
    let salts = [told_salt, Some(salt)].into_iter().flatten();
    let salt = salts.clone().find(proves).or(told_salt).unwrap_or(salt);
    let fits = |blocks: &u64| {
        let room = blocks.checked_mul(BLOCK_SIZE).is_some_and(|bytes| bytes <= root.size());
        room && Geometry::new(*blocks).is_ok_and(|geometry| geometry.hash_size() <= verity.size())
    };
    let blocks = image.into_iter().chain(told.map(|told| told.data_blocks)).find(fits)?;
    Some(VerityParams::new(root_hash, salt, &Geometry::new(blocks).ok()?))
}

/// The top of the tree.
fn top_block(verity: &dyn BlockDevice) -> Option<Box<[u8; BLOCK]>> {
    let mut block = Box::new([0; BLOCK]);
    verity.read_at(&mut block[..], BLOCK_SIZE).ok().map(|()| block)
}
