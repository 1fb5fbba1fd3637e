//! The boot entry of a slot at any later time: whether it is what was signed, and composing it again.

use std::io::Read;

use serde::Serialize;
use upright_manifests::name::{OsName, Slot};
use upright_manifests::pe::{self, Headers};
use upright_manifests::release::Release;

use super::{Agent, AgentError, Reporter};
use crate::apply::{ApplyError, compare_staged, digest_of, rehearse, require_room_for_entry, stage};
use crate::boot::systemd_boot::DEFAULT_TRIES;
use crate::boot::{BootLoader, Entry};
use crate::fetch::Fetcher;
use crate::host::{BlockDevice, Booted};
use crate::machine::{Installed, Record, State, Target};

/// The largest cluster that FAT is made with, in bytes.
const MOST_CLUSTER: u64 = 64 << 10;

/// What a slot's boot entry was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryState {
    /// What was signed.
    Whole,
    /// It names the release. What was signed is not known here, since the agent did not install it.
    Named,
    /// It is not what was signed, or does not name the release.
    Damaged,
    /// There is none that the boot loader sees.
    Missing,
}

impl EntryState {
    /// Whether the release can be started with it, as far as that is known.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Whole | Self::Named)
    }
}

/// The release that a slot should hold: for the slot that runs what its UKI says, for the other what was installed, be it lost; none
/// if nothing is known of it.
pub(super) fn held(record: &Record, booted: &Booted, slot: Slot) -> Option<Target> {
    match record.slots.get(&slot) {
        Some(installed) if slot != booted.slot || installed.root_hash == booted.root_hash => {
            Some(installed.target())
        }
        _ if slot == booted.slot => Some(booted.target()),
        _ => record.lost.get(&slot).map(Installed::target),
    }
}

/// Reads the boot entry of a release.
pub(super) fn judge(
    boot: &dyn BootLoader,
    os: &OsName,
    slot: Slot,
    target: &Target,
) -> Result<EntryState, AgentError> {
    let entry = Entry { slot, os: os.clone(), version: target.version.clone() };
    let failed = || AgentError::system("read the boot loader's entries");
    match boot.is_seen(&entry).map_err(failed())? {
        true => {
            let found = judge_content(boot, &entry, target)?;
            let is_ready = boot.is_ready(&entry).map_err(failed())?;
            Ok(if found.is_good() && !is_ready { EntryState::Damaged } else { found })
        }
        // What is in its place does not say any more what it is of, or is another release's.
        false if boot.taken(&entry).map_err(failed())?.is_some() => Ok(EntryState::Damaged),
        false => Ok(EntryState::Missing),
    }
}

/// The UKI of an entry that a change which was cut off may have left out of the boot loader's sight.
pub(super) fn judge_content(
    boot: &dyn BootLoader,
    entry: &Entry,
    target: &Target,
) -> Result<EntryState, AgentError> {
    let slot = entry.slot;
    let failed = || AgentError::system("read the boot loader's entries");
    let content = boot.content(entry).unwrap_or_else(|error| {
        // Neither is it by what starts the machine.
        tracing::warn!(%slot, "{error}, so the boot entry is taken for one that is missing");
        None
    });
    let Some(mut uki) = content else { return Ok(EntryState::Missing) };
    if let Some(signed) = target.uki {
        // What cannot be read is composed again as well.
        let found =
            digest_of(&mut uki).inspect_err(|error| tracing::warn!(%slot, "reading the boot entry: {error}"));
        return Ok(if found.is_ok_and(|found| found == signed) {
            EntryState::Whole
        } else {
            EntryState::Damaged
        });
    }
    let length = boot.size(entry).map_err(failed())?.unwrap_or(0);
    if !is_complete(&mut uki, length) {
        return Ok(EntryState::Damaged);
    }
    let names_it = |line: &String| {
        Booted::parse(line, slot)
            .is_ok_and(|said| said.root_hash == target.root_hash && said.version == target.version)
    };
    let named = boot.command_lines().map_err(failed())?.iter().any(names_it);
    Ok(if named { EntryState::Named } else { EntryState::Damaged })
}

/// Whether an EFI program of `length` bytes has all its sections.
fn is_complete(program: &mut dyn Read, length: u64) -> bool {
    let mut start = Vec::new();
    let read = program.take(pe::MAX_HEADERS as u64).read_to_end(&mut start);
    read.is_ok() && Headers::parse(&start).is_ok_and(|headers| headers.end() <= length)
}

impl Agent<'_> {
    /// Whether the boot loader is still to be told that what runs is good, and there is no other release that this would be for.
    pub(super) fn stays(&self) -> bool {
        matches!(self.record.state, State::Committing { slot, .. } if !self.record.is_proven(slot.other()))
    }

    /// Whether the entry of `slot`, found in that state, may be composed again: it is that of what runs and damaged, or nothing else is under
    /// way, and it is that of what runs or of the way back, proven and not left. One of the way back that is there, damaged or not to be read as it is, stays while
    /// that of what runs is no better: a host with none between two writes would be lost.
    pub(super) fn may_restore(&self, slot: Slot, found: EntryState) -> Result<bool, AgentError> {
        if slot == self.booted.slot {
            // To mend it where it is changes nothing about what the next boot takes.
            return Ok(found == EntryState::Damaged || self.record.state == State::Idle || self.stays());
        }
        let known = self.record.slots.get(&slot).or_else(|| self.record.lost.get(&slot));
        let proven = known.filter(|installed| installed.proven);
        let is_way_back = self.record.state == State::Idle
            && proven.is_some_and(|installed| self.record.found_bad(&installed.root_hash).is_none());
        let is_gone = found == EntryState::Missing
            && known.is_none_or(|known| !self.is_unreadable(&self.entry(&known.target(), slot)));
        if !is_way_back || is_gone {
            return Ok(is_way_back);
        }
        let runs = self.booted.slot;
        let Some(target) = held(&self.record, &self.booted, runs) else { return Ok(false) };
        Ok(judge(self.host.boot(), &self.booted.os, runs, &target)?.is_good())
    }

    /// Writes what the boot loader needs beside a UKI, if that is all that is wrong with a damaged entry: nothing else is needed for it.
    pub(super) fn make_ready(&self, slot: Slot, target: &Target) -> Result<bool, AgentError> {
        let (boot, entry) = (self.host.boot(), self.entry(target, slot));
        if !judge_content(boot, &entry, target)?.is_good() {
            return Ok(false);
        }
        boot.make_ready(&entry)
            .map_err(AgentError::system(format!("write the boot entry of slot {slot}")))?;
        Ok(true)
    }

    /// The slot's release, if it had been lost, can be gone back to again.
    pub(super) fn reinstate(&mut self, slot: Slot) -> Result<(), AgentError> {
        self.amend(|record| {
            if let Some(installed) = record.lost.remove(&slot) {
                record.slots.insert(slot, installed);
                // It was that the slot is lost, or is told again by the next look at the server.
                record.failure = None;
            }
        })
    }

    /// Composes the entry of `slot` out of its image. That of what runs is mended where it is, or if it is gone is what the next boot takes
    /// then, as one that is proven. Any other is put in force as the way back: what is there goes only once the new one is known to be had;
    /// what runs stays what the next boot takes.
    pub(super) fn restore_entry(
        &mut self,
        slot: Slot,
        target: &Target,
        release: &Release,
        fetcher: &Fetcher<'_>,
        root: &dyn BlockDevice,
        reporter: &mut dyn Reporter,
    ) -> Result<(), AgentError> {
        let (boot, running, entry) = (self.host.boot(), self.running_entry(), self.entry(target, slot));
        let failed = || AgentError::system(format!("write the boot entry of slot {slot}"));
        let runs = slot == self.booted.slot;
        let taken = if runs { boot.taken(&entry).map_err(failed())? } else { None };
        let room = if runs { boot.room_beside(&entry) } else { boot.room(&running) };
        // What is mended grows to its length beside the copy.
        let growth = taken.map_or(0, |length| release.uki.size.saturating_sub(length));
        require_room_for_entry(release, growth.next_multiple_of(MOST_CLUSTER), room.map_err(failed())?)?;
        reporter.step("composing the UKI");
        rehearse(fetcher, release, root)?;
        if !runs {
            boot.remove_others(&running).map_err(failed())?;
        }
        if taken.is_some() {
            stage(fetcher, release, root, |uki| boot.stage_copy(uki))?;
            compare_staged(release, boot.staged_copy())?;
            boot.mend(&entry)
        } else {
            stage(fetcher, release, root, |uki| boot.stage(&entry, uki))?;
            compare_staged(release, boot.staged(&entry))?;
            match runs {
                true => boot.switch(&entry, DEFAULT_TRIES).and_then(|()| boot.mark_good(&entry)),
                false => boot.restore(&entry, &running),
            }
        }
        .map_err(failed())?;
        let mut uki = boot.content(&entry).map_err(failed())?;
        let found = uki.as_mut().map(|uki| digest_of(uki)).transpose().map_err(failed())?;
        let signed = release.uki.sha256;
        if found != Some(signed) {
            let source =
                std::io::Error::other("it does not read back as it was written; the ESP loses writes");
            let what = format!("write the boot entry of slot {slot}");
            return Err(ApplyError::Device { what, source }.into());
        }
        self.amend(|record| {
            for known in [&mut record.slots, &mut record.lost] {
                if let Some(installed) = known.get_mut(&slot) {
                    installed.uki = Some(signed);
                }
            }
        })
    }
}
