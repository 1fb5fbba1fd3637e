//! Whether what a host has of its publisher's metadata is what its root of trust vouches for.

use std::path::Path;

use upright_manifests::tuf::schema::{Root, Timestamp};
use upright_manifests::tuf::{Document, limits};

use super::Vouched;
use crate::store;

/// What the root that counts, the newer one of `shipped` and of what is stored in `folder`, says of what is stored. What cannot be read
/// is told elsewhere.
pub(super) fn vouched(folder: &Path, shipped: &Path) -> Vouched {
    let root = |bytes: Option<Vec<u8>>| Document::<Root>::sound_root(&bytes?).ok();
    let shipped = root(store::read(shipped, limits::ROOT).ok().flatten());
    let stored = root(store::read_own(&folder.join("root.json"), limits::ROOT).ok().flatten());
    if let (Some(shipped), Some(stored)) = (&shipped, &stored)
        && !is_before(shipped, stored)
    {
        return Vouched::OtherRoot;
    }
    let newest = [shipped, stored].into_iter().flatten().max_by_key(|root| root.version());
    let timestamp = store::read_own(&folder.join("timestamp.json"), limits::TIMESTAMP).ok().flatten();
    match (newest, timestamp.map(|bytes| Document::<Timestamp>::parse(&bytes))) {
        (_, None) => Vouched::Nothing,
        (Some(root), Some(Ok(timestamp))) => match root.signed.roles.get("timestamp") {
            Some(role) if timestamp.verify(&root.signed.keys, role).is_ok() => Vouched::Signed,
            _ => Vouched::NotSigned,
        },
        (_, Some(_)) => Vouched::NotSigned,
    }
}

/// Whether the one can be from the same publisher as the other, as far as these two tell.
fn is_before(shipped: &Document<Root>, stored: &Document<Root>) -> bool {
    match (shipped.version(), stored.version()) {
        (own, other) if own == other => shipped.says_the_same_as(stored),
        (own, other) if own.saturating_add(1) == other => shipped.leads_to(stored).is_ok(),
        (own, other) if other.saturating_add(1) == own => stored.leads_to(shipped).is_ok(),
        _ => true,
    }
}
