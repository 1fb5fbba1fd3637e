//! TUF documents of all four kinds, as a mirror might serve them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upright_fuzz::in_proportion;
use upright_manifests::tuf::schema::{Root, Snapshot, Targets, Timestamp};
use upright_manifests::tuf::{Document, Summary};

fuzz_target!(|bytes: &[u8]| {
    in_proportion(bytes, 200, || {
        if let Ok(root) = Document::<Root>::parse(bytes) {
            // The initial root and every next one are verified against keys that they bring themselves.
            for role in root.signed.roles.values() {
                let _ = root.verify(&root.signed.keys, role);
            }
        }
        let _ = Document::<Timestamp>::parse(bytes);
        let _ = Document::<Snapshot>::parse(bytes);
        if let Ok(targets) = Document::<Targets>::parse(bytes)
            && let Some(delegations) = &targets.signed.delegations
        {
            for role in &delegations.roles {
                let _ = targets.verify(&delegations.keys, &role.keys);
            }
        }
        let _ = Summary::of(bytes);
    });
});
