//! TUF documents of all four kinds, as a mirror might serve them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upright_manifests::tuf::schema::{Root, Snapshot, Targets, Timestamp};
use upright_manifests::tuf::{Document, Summary};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(root) = Document::<Root>::parse(bytes) {
        // The initial root and every next one are verified against keys that they bring themselves.
        for role in root.signed.roles.values() {
            let _ = root.verify(&root.signed.keys, role);
        }
    }
    let _ = Document::<Timestamp>::parse(bytes);
    let _ = Document::<Snapshot>::parse(bytes);
    let _ = Document::<Targets>::parse(bytes);
    let _ = Summary::of(bytes);
});
