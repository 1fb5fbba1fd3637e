//! What can be built, and is still not likely to be what the publisher wants.

use super::trust::SHIPPED_CONFIGURATION;
use crate::input::Source;
use crate::tree::Tree;

/// A line about each such thing; hosts look for the root of trust at `root`.
pub(super) fn notes(source: &Source, tree: &Tree, root: &str) -> Vec<String> {
    let mut notes = Vec::new();
    if tree.inode(root.as_bytes()).is_none() {
        notes.push(format!(
            "the tree has no {root}, so hosts made from it will trust no update; copy the workspace's root.json there"
        ));
    }
    if tree.inode(SHIPPED_CONFIGURATION.as_bytes()).is_none() {
        notes.push(
            "the tree has no etc/upright/upright.toml, so upright.service and upright-health.service do not start on hosts whose own \
             /etc has none: nobody asks for updates, and a release on trial is not judged; put one there"
                .to_owned(),
        );
    }
    if let (Source::Directory(_), Some(owner)) = (source, sole_owner(tree)) {
        notes.push(format!(
            "every file belongs to user {owner} here, and will on hosts, where most should be root's; build from a tar \
             that was made as root or under fakeroot, or run this as root on a folder that root has unpacked"
        ));
    }
    notes
}

/// The user to whom everything belongs, if that is not root: whoever unpacks a tree without being root owns all of it.
fn sole_owner(tree: &Tree) -> Option<u32> {
    let owner = tree.inodes.first()?.uid;
    (owner != 0 && tree.inodes.iter().all(|inode| inode.uid == owner)).then_some(owner)
}
