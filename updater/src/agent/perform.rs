//! Effects on the boot loader and the machine.

use std::fs;

use upright_manifests::erofs::Reader;
use upright_manifests::name::Slot;
use upright_manifests::version::Version;

use super::{Agent, AgentError};
use crate::apply::ApplyError;
use crate::boot::{Entry, Trust};
use crate::host::{Access, BOOTS, NOTE, Part};
use crate::machine::{Event, State, Target};
use crate::slot::Image;
use crate::state::{self, StateError};
use crate::store;

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
        let State::Committing { target, slot, healthy } = &self.record.state else { return Ok(()) };
        let (entry, healthy) = (self.entry(target, *slot), *healthy || self.record.is_proven(*slot));
        let told = self.host.boot().mark_good(&entry);
        if let Err(error) = told.map_err(AgentError::system(format!("mark {} as good", entry.version))) {
            // For the release that the host may come back to.
            let failure = Some((self.now(), error.to_string()));
            let noted = self.amend(|record| record.failure = failure);
            noted.unwrap_or_else(|error| tracing::warn!("{error}"));
            return Err(error);
        }
        match healthy {
            true => tracing::info!(version = %entry.version, slot = %entry.slot, "proven healthy"),
            false => {
                tracing::warn!(version = %entry.version, slot = %entry.slot, "stays, since there is no way back")
            }
        }
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
        self.require_room_for_state(target, slot)?;
        let entry = self.entry(target, slot);
        let boot_id = self.host.machine().boot_id().map_err(AgentError::system("read this boot's id"))?;
        // Before it may boot: how strict its boot is depends on it.
        let _ = fs::remove_file(self.folder.join(BOOTS));
        store::replace(&self.folder.join(NOTE), target.root_hash.to_string().as_bytes())?;
        self.host
            .boot()
            .switch(&entry, self.config.health.tries)
            .map_err(AgentError::system(format!("make {} what the next boot takes", entry.version)))?;
        tracing::info!(version = %entry.version, slot = %entry.slot, "the next boot takes it");
        self.take(Event::Switched { boot_id })
    }

    /// What the next boot would take gives way to another release, or to none.
    pub(super) fn take_switch_back(&mut self) -> Result<(), AgentError> {
        if matches!(self.record.state, State::Switched { .. }) {
            self.take(Event::TakenBack)?;
        }
        self.pass_over_applied()
    }

    /// What is not switched to is not booted: the switch of a release that is to wait is taken back, again if power went before that.
    pub(super) fn pass_over_applied(&self) -> Result<(), AgentError> {
        let State::Applied { target, slot } = &self.record.state else { return Ok(()) };
        let entry = self.entry(target, *slot);
        if *slot == self.booted.slot || !matches!(self.trust(&entry)?, Some(Trust::Trial { left: 1.., .. })) {
            return Ok(());
        }
        let told = self.host.boot().mark_bad(&entry);
        told.map_err(AgentError::system(format!("make the boot loader pass over {}", entry.version)))
    }

    /// An error if what is written for the slot would not be there at its boot.
    pub(super) fn require_state_on_disk(&self, version: &Version) -> Result<(), AgentError> {
        if self.host.machine().state_in_memory() {
            return Err(ApplyError::State { version: version.clone(), source: StateError::InMemory }.into());
        }
        Ok(())
    }

    /// A release that was tried before and never proven begins anew: what it had then is older than what is here.
    pub(super) fn carry_again(&self, target: &Target, slot: Slot) -> Result<(), AgentError> {
        // So does one whose mark cannot be read, and one that was proven has run.
        if self.is_fresh(target, slot).is_err() {
            let refused = |source| ApplyError::State { version: target.version.clone(), source };
            state::clear_marks(&self.layout()).map_err(refused)?;
        }
        if self.record.is_proven(slot) || slot == self.booted.slot || self.is_fresh(target, slot)? {
            return Ok(());
        }
        // Before what it has goes.
        self.require_room_in_image(target, slot)?;
        self.host
            .machine()
            .carry_configuration(self.booted.slot, slot)
            .map_err(AgentError::system(format!("copy the configuration in /etc to slot {slot}")))
    }

    fn is_fresh(&self, target: &Target, slot: Slot) -> Result<bool, AgentError> {
        let refused = |source| ApplyError::State { version: target.version.clone(), source };
        Ok(state::is_fresh(&self.layout(), slot).map_err(refused)?)
    }

    /// What the release declares as versioned may have grown since it was written; its first boot makes the copies.
    fn require_room_for_state(&self, target: &Target, slot: Slot) -> Result<(), AgentError> {
        match self.is_fresh(target, slot)? {
            true => self.require_room_in_image(target, slot),
            false => Ok(()),
        }
    }

    fn require_room_in_image(&self, target: &Target, slot: Slot) -> Result<(), AgentError> {
        let opened = self.host.slots().open(slot, Part::Root, Access::Read);
        let device = opened.map_err(AgentError::system(format!("open the partitions of slot {slot}")))?;
        let image = Reader::open(Image(device.as_ref())).map_err(std::io::Error::other);
        let declared = image.and_then(|image| state::declared(&image));
        let (declared, _) = declared.map_err(AgentError::system(format!("read the image in slot {slot}")))?;
        self.require_room(&target.version, slot, &declared.versioned()).map(drop)
    }

    /// An error unless there is room for copies of these paths below `/var`, for a release in `slot`. Gives how many bytes are left then.
    pub(super) fn require_room(
        &self,
        version: &Version,
        slot: Slot,
        paths: &[String],
    ) -> Result<u64, AgentError> {
        let refused = |source| ApplyError::State { version: version.clone(), source };
        // All of them are written, or read, after the way back is gone.
        state::require_places(&self.layout()).map_err(refused)?;
        let owed = state::owed(&self.layout(), slot.other());
        if let Some(path) = owed.map_err(AgentError::system("see what did not follow"))?.into_iter().next() {
            return Err(refused(StateError::Owed { path }).into());
        }
        let need = state::room(&self.layout(), slot, paths).map_err(refused)?;
        match need.missing() {
            0 => Ok(need.available.saturating_sub(need.needed)),
            _ => Err(refused(StateError::NoRoom(need)).into()),
        }
    }

    /// Once the boot loader knows the verdict, removes the note of the root hash of the release on trial, for which
    /// upright-trial-generator is strict on hosts whose boot loader does not say that it counts a boot; and the initrd's notes
    /// of its boots. A release whose commit fails is restarted until its boots are used up, if there is a proven one to go back to.
    pub(super) fn end_trial_note(&self) {
        let under_way = match self.record.state {
            State::Applied { .. }
            | State::Switched { .. }
            | State::Trial { .. }
            | State::RollingBack { .. } => true,
            State::Committing { slot, .. } => self.record.is_proven(slot.other()),
            State::Idle | State::Fetching { .. } | State::Applying { .. } => false,
        };
        // A release that waits for its first boot needs its mark.
        if !matches!(self.record.state, State::Applied { .. } | State::Switched { .. })
            && let Err(error) = state::clear_marks(&self.layout())
        {
            tracing::warn!("{error}");
        }
        if under_way {
            return;
        }
        if let Err(error) = state::forget_stopped(&self.layout()) {
            tracing::warn!("cannot remove the note of a boot that was stopped: {error}");
        }
        for name in [NOTE, BOOTS] {
            let path = self.folder.join(name);
            // A disk that is read-only says so of what is not there as well.
            if fs::symlink_metadata(&path).is_ok()
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::warn!("cannot remove {}: {error}", path.display());
            }
        }
    }

    /// Tells a boot loader that counts every boot that this one came up; that of a trial is counted until the verdict.
    pub(super) fn report_up(&self) {
        if matches!(
            self.record.state,
            State::Trial { .. } | State::Committing { .. } | State::RollingBack { .. }
        ) {
            return;
        }
        // It is said again before the boots are used up, and nothing else depends on it.
        if let Err(error) = self.host.boot().came_up(&self.running_entry()) {
            tracing::warn!("cannot tell the boot loader that this boot came up: {error}");
        }
    }

    /// An error if what the next boot takes could not make its copies any more, and would be left for that.
    pub fn require_bootable(&self) -> Result<(), AgentError> {
        match &self.record.state {
            State::Switched { target, slot, .. } => {
                if self.is_fresh(target, *slot).is_err() {
                    self.carry_again(target, *slot)?;
                }
                self.require_room_for_state(target, *slot)
            }
            _ => Ok(()),
        }
    }

    /// Restarts the machine.
    pub fn reboot(&self) -> Result<(), AgentError> {
        tracing::warn!("rebooting");
        self.host.machine().reboot().map_err(AgentError::system("reboot"))
    }

    /// The boot entry of what runs.
    pub(super) fn running_entry(&self) -> Entry {
        self.booted.entry()
    }
}
