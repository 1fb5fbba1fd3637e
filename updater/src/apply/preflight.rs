//! Whether a release fits, before anything is erased.

use std::collections::BTreeSet;

use upright_manifests::digest::Digest;
use upright_manifests::release::Release;

use super::error::ApplyError;

/// How much room there is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The slot's root partition.
    pub root: u64,
    /// The slot's verity partition.
    pub verity: u64,
    /// The ESP, once everything but the running release's entry is gone.
    pub esp: u64,
    /// The file system of the agent's state.
    pub state: u64,
    /// How much of it the agent's own files and the new slot's copy of the configuration take.
    pub state_needed: u64,
}

/// An error unless the firmware, which takes signatures with the certificates in `accepted`, would start the release. With
/// `any`, it is assumed to take the signer's whoever that is.
pub fn check_signer(release: &Release, accepted: &BTreeSet<Digest>, any: bool) -> Result<(), ApplyError> {
    let signers = &release.uki.certificates;
    let reason = match signers.iter().any(|signer| any || accepted.contains(signer)) {
        true => return Ok(()),
        false if signers.is_empty() => "its UKI is not signed",
        false => "its UKI is signed with a key whose certificate is not among the firmware's",
    };
    Err(ApplyError::Unsigned { version: release.version.clone(), reason })
}

/// An error if the UKI of `release`, and `more` bytes beside it, do not fit on an ESP with so much room.
pub fn require_room_for_entry(release: &Release, more: u64, available: u64) -> Result<(), ApplyError> {
    let (version, needed) = (release.version.clone(), release.uki.size.saturating_add(more));
    match needed.checked_sub(available) {
        None | Some(0) => Ok(()),
        Some(missing) => Err(ApplyError::NoRoomForEntry { version, needed, available, missing }),
    }
}

/// An error that names the first place where `release` does not fit.
pub fn preflight(release: &Release, room: Room, slot: &str) -> Result<(), ApplyError> {
    let needs = [
        (format!("partition root-{slot}"), release.root.size, room.root),
        (format!("partition root-{slot}-verity"), release.root.verity.hash_size, room.verity),
        ("the ESP".to_owned(), release.uki.size, room.esp),
        ("the file system of /var/lib/upright".to_owned(), room.state_needed, room.state),
    ];
    for (place, needed, available) in needs {
        if needed > available {
            let (version, missing) = (release.version.clone(), needed - available);
            return Err(ApplyError::NoRoom { version, place, needed, available, missing });
        }
    }
    Ok(())
}
