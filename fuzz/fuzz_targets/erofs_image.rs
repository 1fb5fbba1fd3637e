//! EROFS images and verity superblocks, as a disk that went bad might hold them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upright_fuzz::in_proportion;
use upright_manifests::erofs::{FileType, Reader, SUPER_OFFSET};
use upright_manifests::verity::{SUPERBLOCK_SIZE, Superblock};

fuzz_target!(|bytes: &[u8]| {
    if let Some(superblock) = bytes.first_chunk::<SUPERBLOCK_SIZE>()
        && let Ok(parsed) = Superblock::parse(superblock)
    {
        assert_eq!(Superblock::parse(&parsed.to_bytes()), Ok(parsed));
    }
    // As long as any superblock that is reached by chance claims.
    let mut image = bytes.to_vec();
    image.resize(IMAGE.max(bytes.len()), 0);
    if let Some(features) = image.get_mut(SUPER_OFFSET + 8) {
        // Without its checksum, what the superblock leads to is reached by chance.
        *features &= !1;
    }
    in_proportion(&image, 20, || walk(&image));
});

/// The length of an image, in bytes; what the input lacks is zero.
const IMAGE: usize = 64 << 10;

fn walk(image: &[u8]) {
    let Ok(reader) = Reader::open(image) else { return };
    let _ = reader.walk(&mut |_, node| {
        let _ = reader.xattrs(node);
        let _ = match node.inode.kind {
            FileType::Symlink => reader.target(node).map(drop),
            FileType::Regular => reader.read(node, node.inode.size / 2, &mut [0; 5000]).map(drop),
            _ => Ok(()),
        };
        Ok(())
    });
}
