//! Fills a slot: the image, and the verity tree that is made from it on the way.

use std::path::Path;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::verity::{TreeBuilder, TreeError, VerityParams};

use super::DiskError;
use super::sparse::Target;

/// Where a partition begins, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// What it is in.
    pub(super) target: Target<'a>,
    /// Its offset there.
    pub(super) offset: u64,
}

/// Copies `image` to `root` and writes its tree to `hashes`; an error unless the tree is the one of the release.
/// `reached` hears how many bytes were copied.
pub(super) fn write(
    image: &Path,
    verity: &VerityParams,
    root: Place<'_>,
    hashes: Place<'_>,
    reached: &dyn Fn(u64),
) -> Result<(), DiskError> {
    let sink =
        |offset: u64, block: &[u8; BLOCK_SIZE as usize]| hashes.target.write(hashes.offset + offset, block);
    let mut tree = TreeBuilder::new(verity.salt, verity.data_blocks, sink)?;
    let mut done = 0;
    root.target.copy(image, root.offset, |bytes| {
        done += bytes.len() as u64;
        reached(done);
        tree.update(bytes).map_err(tree_error)
    })?;
    let (found, _) = tree.finish().map_err(tree_error)?;
    if found.root_hash != verity.root_hash {
        return Err(DiskError::RootHash {
            path: image.to_owned(),
            found: found.root_hash.to_string(),
            expected: verity.root_hash.to_string(),
        });
    }
    hashes.target.write(hashes.offset, &verity.superblock()?.to_bytes())
}

fn tree_error(error: TreeError<DiskError>) -> DiskError {
    match error {
        TreeError::Sink(error) => error,
        other => DiskError::Verity(other.to_string()),
    }
}
