//! The bytes of superblock, records and directories, for a plan.

use std::collections::BTreeMap;

use upright_manifests::digest::Digester;
use upright_manifests::erofs::{BLOCK, SLOT, Superblock};
use upright_manifests::uuid::Uuid;

use super::directory;
use super::model::{Data, Model, Node};
use super::plan::Plan;

/// The metadata of an image.
pub(super) struct Encoded {
    /// Runs of whole blocks by their first block.
    pub(super) runs: BTreeMap<u64, Vec<u8>>,
    /// The UUID, derived from everything in the image.
    pub(super) uuid: Uuid,
}

/// Encodes all metadata.
pub(super) fn encode(model: &Model<'_>, plan: &Plan<'_>, time: i64, release: &str) -> Encoded {
    let region = plan.layout.records.region;
    let mut records = vec![0; region.blocks as usize * BLOCK];
    let mut put = |slot: u64, bytes: &[u8]| {
        let at = slot as usize * SLOT;
        records[at..at + bytes.len()].copy_from_slice(bytes);
    };
    let mut runs = BTreeMap::new();
    for (index, node) in model.nodes.iter().enumerate() {
        let mut record = inode(node, plan, index);
        let mut data = data(node, plan);
        if node.is_inline() {
            record.extend(data);
        } else if !data.is_empty() {
            data.resize(data.len().next_multiple_of(BLOCK), 0);
            runs.insert(plan.blocks[index], data);
        }
        put(plan.slots[index], &record);
    }
    model.pool.shared().zip(&plan.xattr_slots).for_each(|(entry, &slot)| put(slot, entry));
    runs.insert(region.start, records);

    let mut superblock = superblock(model, plan, time);
    superblock.uuid = identity(&superblock, &runs, plan, release);
    runs.insert(0, superblock.to_block().to_vec());
    Encoded { runs, uuid: superblock.uuid }
}

fn superblock(model: &Model<'_>, plan: &Plan<'_>, time: i64) -> Superblock {
    let region = plan.layout.records.region.start as u32;
    Superblock {
        root_nid: plan.slots[0] as u16,
        inodes: model.nodes.len() as u64,
        time,
        blocks: plan.layout.blocks as u32,
        meta_block: region,
        xattr_block: region,
        uuid: Uuid::from([0; 16]),
    }
}

/// A UUID from the release, the superblock without one, all metadata, and place and hash of each content: from everything that
/// the image holds, without the need to read it once more.
fn identity(superblock: &Superblock, runs: &BTreeMap<u64, Vec<u8>>, plan: &Plan<'_>, release: &str) -> Uuid {
    let mut digester = Digester::new();
    digester.update(release.as_bytes());
    digester.update(&superblock.to_block());
    for (start, bytes) in runs {
        digester.update(&start.to_le_bytes());
        digester.update(bytes);
    }
    for (start, content) in &plan.files {
        digester.update(&start.to_le_bytes());
        digester.update(&content.size.to_le_bytes());
        digester.update(content.sha256.as_bytes());
    }
    Uuid::derive("erofs", digester.finish().as_bytes())
}

/// The inode with its extended attributes.
fn inode(node: &Node<'_>, plan: &Plan<'_>, index: usize) -> Vec<u8> {
    let mut disk = node.disk.clone();
    disk.ino = plan.slots[index] as u32;
    if !disk.kind.is_device() {
        disk.block = plan.blocks[index] as u32;
    }
    let mut bytes = disk.to_bytes();
    let id = |shared: usize| (plan.xattr_slots[shared] * (SLOT as u64 / XATTR_UNIT)) as u32;
    bytes.extend(node.xattrs.to_bytes(id));
    bytes
}

/// What the number of a shared extended attribute counts, in bytes.
const XATTR_UNIT: u64 = 4;

/// The data of a node that counts as metadata.
fn data(node: &Node<'_>, plan: &Plan<'_>) -> Vec<u8> {
    match &node.data {
        Data::Target(target) => target.to_vec(),
        Data::Directory(children) => directory::to_bytes(children, |node| plan.slots[node]),
        Data::None | Data::File(_) => Vec::new(),
    }
}
