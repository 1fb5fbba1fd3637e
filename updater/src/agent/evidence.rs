//! Why a release that left no verdict did not come up.

use super::service::Logged;
use super::{Agent, EntryState, SlotAudit};
use crate::apply::Unreadable;
use crate::machine::{Evidence, State, counted};

impl Agent<'_> {
    /// Whether a release was switched to, and something else runs in another boot.
    pub(super) fn came_back(&self, boot_id: &str) -> bool {
        match &self.record.state {
            State::Switched { target, boot_id: switched_in, .. } => {
                target.root_hash != self.booted.root_hash && switched_in != boot_id
            }
            State::Trial { target, .. } => target.root_hash != self.booted.root_hash,
            _ => false,
        }
    }

    /// What is damaged in the slot of a release that did not come up, or its boot entry. Reads all of it.
    pub(super) fn look_for_damage(&self, evidence: &mut Evidence) {
        let slot = self.booted.slot.other();
        tracing::warn!(%slot, "the release that was switched to did not come up; looking whether its slot is whole");
        // The watchdog waits for this, and for nothing that a disk takes minutes for.
        let seen = Agent::audit(self.host, &self.record, slot, Unreadable::Ends, &mut Logged);
        evidence.damage = match seen {
            Ok(Some(audit)) if !audit.holds() => Some(damage(&audit)),
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
    }
}

/// What is damaged, in one line. Of a boot entry that never got as far as its slot, the slot is not what is to blame.
fn damage(audit: &SlotAudit) -> String {
    let slot = audit.slot;
    let entry = match audit.entry {
        EntryState::Missing => Some("gone"),
        EntryState::Damaged => Some("damaged"),
        EntryState::Whole | EntryState::Named => None,
    };
    let of_entry = entry.map(|entry| format!("its boot entry is {entry}"));
    let count = format!("{}{}", audit.least(), counted(audit.damaged_blocks));
    let of_slot = (!audit.is_whole()).then(|| match (audit.damaged_blocks, audit.files.first()) {
        (0, _) => format!("slot {slot} no longer holds it as it was signed"),
        (_, None) => format!("slot {slot} is damaged: {count}"),
        (_, Some(file)) => {
            let others = if audit.files.len() > 1 { " and others" } else { "" };
            format!("slot {slot} is damaged: {count}, of {file}{others}")
        }
    });
    of_entry.into_iter().chain(of_slot).collect::<Vec<_>>().join("; ")
}
