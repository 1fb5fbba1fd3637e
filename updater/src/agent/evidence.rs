//! Why a release that left no verdict did not come up.

use super::service::Watched;
use super::{Agent, SlotAudit};
use crate::machine::{Evidence, State};

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

    /// What is damaged in the slot of a release that did not come up. Reads all of it.
    pub(super) fn look_for_damage(&self, evidence: &mut Evidence) {
        let slot = self.booted.slot.other();
        tracing::warn!(%slot, "the release that was switched to did not come up; looking whether its slot is whole");
        evidence.damage = match Agent::audit(self.host, &self.record, slot, &mut Watched::default()) {
            Ok(Some(audit)) if !audit.holds() => Some(damage(&audit)),
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
    }
}

fn damage(audit: &SlotAudit) -> String {
    let slot = audit.slot;
    match (audit.damaged_blocks, audit.files.first()) {
        (0, _) => format!("slot {slot} no longer holds it as it was signed"),
        (blocks, None) => format!("slot {slot} is damaged: {blocks} blocks"),
        (blocks, Some(file)) => {
            format!(
                "slot {slot} is damaged: {blocks} blocks, of {file}{}",
                if audit.files.len() > 1 { " and others" } else { "" }
            )
        }
    }
}
