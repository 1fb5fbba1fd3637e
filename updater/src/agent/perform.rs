//! Effects on the boot loader and the machine.

use upright_manifests::name::Slot;

use super::{Agent, AgentError};
use crate::boot::Entry;
use crate::machine::{Event, State, Target};

/// Told what the agent does while it does it.
pub trait Reporter {
    /// A step begins, in one line.
    fn step(&mut self, line: &str);
    /// `done` of `total` bytes of the current step.
    fn bytes(&mut self, done: u64, total: u64);
}

impl Agent<'_> {
    /// Tells the boot loader that the release that runs is good.
    pub(super) fn commit(&mut self) -> Result<(), AgentError> {
        let State::Committing { target, slot } = &self.record.state else { return Ok(()) };
        let entry = self.entry(target, *slot);
        self.host
            .boot()
            .mark_good(&entry)
            .map_err(AgentError::system(format!("mark {} as good", entry.version)))?;
        tracing::info!(version = %entry.version, slot = %entry.slot, "proven healthy");
        self.take(Event::Committed)
    }

    /// Tells the boot loader to pass a release over; says whether a reboot is needed because it is the one that runs.
    pub(super) fn leave(&mut self) -> Result<bool, AgentError> {
        let State::RollingBack { from, slot, cause, .. } = &self.record.state else { return Ok(false) };
        let entry = self.entry(from, *slot);
        tracing::warn!(version = %entry.version, slot = %entry.slot, %cause, "rolling back");
        let slot = *slot;
        self.host
            .boot()
            .mark_bad(&entry)
            .map_err(AgentError::system(format!("make the boot loader pass over {}", entry.version)))?;
        if slot == self.booted.slot {
            return Ok(true);
        }
        self.reconcile()?;
        Ok(false)
    }

    /// Makes the boot loader take the release at the next boot.
    pub(super) fn switch(&mut self, target: &Target, slot: Slot) -> Result<(), AgentError> {
        let entry = self.entry(target, slot);
        let boot_id = self.host.machine().boot_id().map_err(AgentError::system("read this boot's id"))?;
        self.host
            .boot()
            .switch(&entry, self.config.health.tries)
            .map_err(AgentError::system(format!("make {} what the next boot takes", entry.version)))?;
        tracing::info!(version = %entry.version, slot = %entry.slot, "the next boot takes it");
        self.take(Event::Switched { boot_id })
    }

    /// Restarts the machine.
    pub fn reboot(&self) -> Result<(), AgentError> {
        tracing::warn!("rebooting");
        self.host.machine().reboot().map_err(AgentError::system("reboot"))
    }

    /// The boot entry of what runs.
    pub(super) fn running_entry(&self) -> Entry {
        let crate::host::Booted { slot, os, version, .. } = self.booted.clone();
        Entry { slot, os, version }
    }
}
