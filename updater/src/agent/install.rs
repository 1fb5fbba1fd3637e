//! From a chosen release to a boot loader that takes it.

use std::fmt;

use serde::Serialize;
use upright_manifests::BLOCK_SIZE;
use upright_manifests::bytes::human;
use upright_manifests::digest::Digest;
use upright_manifests::name::Slot;
use upright_manifests::release::Release;
use upright_manifests::verity::salt;
use upright_manifests::version::Version;

use super::entry::{EntryState, held, judge, judge_content};
use super::kept::Kept;
use super::opened::Opened;
use super::perform::Reporter;
use super::{Agent, AgentError, Offer, medium};
use crate::apply::{
    Allowance, ApplyError, Job, Room, Unreadable, at_hand, audit, check_signer, foresee, install, layout,
    preflight, ways,
};
use crate::boot::Entry;
use crate::fetch::Patience;
use crate::host::Access;
use crate::machine::{Effect, Event, Progress, State, Target, step};

/// What the record may grow by in an update, and what is kept beside it, in bytes.
const OWN_FILES: u64 = 16 << 10;

/// What an update would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UpdatePlan {
    /// The version that runs.
    pub from: Version,
    /// The version to install.
    pub to: Version,
    /// The slot it goes to.
    pub slot: Slot,
    /// Whether the slot holds it already, so that nothing is fetched or written.
    pub present: bool,
    /// The ways there, cheapest first, with the bytes each fetches at most.
    pub ways: Vec<(String, u64)>,
    /// Ways that are left out, and why.
    pub without: Vec<(String, String)>,
    /// How many bytes are written.
    pub writes: u64,
}

impl fmt::Display for UpdatePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "would go from {} to {} in slot {}", self.from, self.to, self.slot)?;
        if self.present {
            return write!(f, ", which holds it already: nothing is fetched or written");
        }
        writeln!(f)?;
        for (way, bytes) in &self.ways {
            writeln!(f, "  by {way}: fetches at most {}", human(*bytes))?;
        }
        for (way, reason) in &self.without {
            writeln!(f, "  not by {way}: {reason}")?;
        }
        write!(f, "  writes at most {}", human(self.writes))
    }
}

impl<'h> Agent<'h> {
    /// What [`Self::install`] would do with the offer.
    pub fn plan_update(&self, offer: &Offer) -> Result<UpdatePlan, AgentError> {
        step(self.record.clone(), Event::Chosen { target: offer.target(), retry: false }, self.now())?;
        let release = &offer.release;
        self.require_state_on_disk(&release.version)?;
        let (from, to, slot) =
            (self.booted.version.clone(), release.version.clone(), self.booted.slot.other());
        if self.is_present(release, slot)? {
            let (ways, without) = (Vec::new(), Vec::new());
            return Ok(UpdatePlan { from, to, slot, present: true, ways, without, writes: 0 });
        }
        self.foresee_own_entry()?;
        self.require_fit(release, slot)?;
        let plan = ways(release, &self.booted.root_hash, self.allowance());
        let plan = at_hand(&self.fetcher(Patience::default()), release, plan)?;
        Ok(UpdatePlan {
            from,
            to,
            slot,
            present: false,
            ways: plan.ways.iter().map(|(way, bytes)| (way.name().to_owned(), *bytes)).collect(),
            without: plan.without,
            writes: plan.writes,
        })
    }

    /// Brings the offered release as far as the boot loader taking it at the next boot.
    pub fn install(
        &mut self,
        offer: &Offer,
        retry: bool,
        reporter: &mut dyn Reporter,
    ) -> Result<(), AgentError> {
        self.require_state_on_disk(&offer.release.version)?;
        // What was switched to must not be booted while its slot is on its way to be written, and is not given up for nothing.
        if matches!(&self.record.state, State::Switched { target, .. } if target.root_hash != offer.target().root_hash)
        {
            self.see_to_own_entry(reporter)?;
            self.take_switch_back()?;
        }
        self.take(Event::Chosen { target: offer.target(), retry })?;
        // An update that waited, perhaps for long, since it was found to fit is looked at again.
        let (mut fits, mut anew) = (false, false);
        loop {
            let result = match self.record.state.effect() {
                Effect::Prepare(_) => self
                    .see_to_own_entry(reporter)
                    .and_then(|()| self.prepare(&offer.release))
                    .map(|()| fits = true),
                Effect::Install(_, slot) if !fits && self.record.slots.contains_key(&slot) => self
                    .see_to_own_entry(reporter)
                    .and_then(|()| self.require_fit(&offer.release, slot))
                    .map(|()| fits = true),
                Effect::Install(_, slot) => self.write(&offer.release, slot, reporter),
                Effect::Switch(target, slot) => self
                    .mend_before_switch(reporter)
                    .and_then(|()| self.require_written(&target, slot, reporter))
                    .and_then(|()| self.carry_again(&target, slot))
                    .and_then(|()| self.switch(&target, slot)),
                _ => return Ok(()),
            };
            if let Err(error) = result {
                // What the slot holds is of no use, and is written over: of the release that is wanted, nothing is lost.
                if let (AgentError::Damaged { slot, .. }, false) = (&error, anew) {
                    (anew, fits) = (true, false);
                    self.begin_anew(offer, *slot, &error)?;
                    continue;
                }
                let kept = matches!(&error, AgentError::Apply(error) if error.is_temporary());
                self.take(Event::Failed { reason: error.to_string(), kept })?;
                return Err(error);
            }
        }
    }

    /// The offered release, which `slot` was taken to hold, is fetched.
    fn begin_anew(&mut self, offer: &Offer, slot: Slot, why: &AgentError) -> Result<(), AgentError> {
        let reason = why.to_string();
        tracing::warn!("{reason}: it is written anew");
        self.take(Event::Failed { reason: reason.clone(), kept: false })?;
        self.take(Event::Lost { slot, reason })?;
        self.take(Event::Chosen { target: offer.target(), retry: false })
    }

    /// Sees whether the release fits, before anything is erased.
    fn prepare(&mut self, release: &Release) -> Result<(), AgentError> {
        let slot = self.booted.slot.other();
        self.require_fit(release, slot)?;
        self.take(Event::Accepted { slot })
    }

    fn require_fit(&self, release: &Release, slot: Slot) -> Result<(), AgentError> {
        // As they will be used: what fails now costs no way back.
        let opened = self.open_slot(slot, Access::Write)?;
        self.open_slot(slot.other(), Access::Read)?;
        let esp = self
            .host
            .boot()
            .room(&self.running_entry())
            .map_err(AgentError::system("see what room the ESP has for a boot entry"))?;
        let state = self.require_room(&release.version, slot, &release.versioned)?;
        // Each file of the state is written beside the one that it replaces.
        let own = std::fs::metadata(self.kept.disk.path()).map_or(0, |meta| meta.len()) * 2 + OWN_FILES;
        let (root, verity) = (opened.root.size(), opened.verity.size());
        let room = Room { root, verity, esp, state, state_needed: own };
        preflight(release, room, slot.as_str())?;
        let accepted = self.host.machine().accepted_signers();
        let accepted = accepted.map_err(AgentError::system("read the firmware's variables"))?;
        if let Some(accepted) = accepted {
            check_signer(release, &accepted, self.config.boot.any_signer)?;
        }
        Ok(())
    }

    /// The other slot's entry goes before its slot is written, and the boot entry of what runs is the way back then. Nobody may be there to
    /// mend it: one that is damaged is mended now. One that is gone is left to an operator: the configuration may name another boot loader
    /// than the one that starts this host.
    fn see_to_own_entry(&mut self, reporter: &mut dyn Reporter) -> Result<(), AgentError> {
        let Some((target, found)) = self.own_entry()? else { return Ok(()) };
        let unmended = match found {
            EntryState::Damaged => match self.mend_damaged(&target, reporter)? {
                None => return Ok(()),
                unmended => unmended,
            },
            _ => None,
        };
        if !self.may_need_other(found)? {
            return Ok(());
        }
        let (slot, version) = (self.booted.slot, target.version);
        Err(match unmended {
            Some(error) => AgentError::Unmended { slot, version, source: Box::new(error) },
            None => AgentError::Entry { slot, version, missing: true, runs: true },
        })
    }

    /// What [`Self::see_to_own_entry`] would refuse, and what it would mend.
    fn foresee_own_entry(&self) -> Result<(), AgentError> {
        match self.own_entry()? {
            Some((target, EntryState::Damaged)) => tracing::warn!(
                "the boot entry of {}, which runs, is damaged: it would be mended first",
                target.version
            ),
            Some((target, found)) if self.may_need_other(found)? => {
                let (slot, version) = (self.booted.slot, target.version);
                return Err(AgentError::Entry { slot, version, missing: true, runs: true });
            }
            _ => {}
        }
        Ok(())
    }

    /// Mends the boot entry of what runs if it is damaged by now: it is the way back after the switch, which waits for nothing.
    fn mend_before_switch(&mut self, reporter: &mut dyn Reporter) -> Result<(), AgentError> {
        match self.own_entry()? {
            Some((target, EntryState::Damaged)) => self.mend_damaged(&target, reporter).map(drop),
            _ => Ok(()),
        }
    }

    /// Mends the damaged boot entry of what runs; if that cannot be done, why.
    fn mend_damaged(
        &mut self,
        target: &Target,
        reporter: &mut dyn Reporter,
    ) -> Result<Option<AgentError>, AgentError> {
        tracing::warn!("the boot entry of {}, which runs, is damaged: it is mended first", target.version);
        let error = match self.mend_own_entry(target, reporter) {
            Ok(()) => return Ok(None),
            // A block that it is made of may be damaged as well.
            Err(error @ AgentError::Apply(ApplyError::Compose { .. })) => {
                self.repair(self.booted.slot, false, &mut Vec::new(), reporter).err().unwrap_or(error)
            }
            Err(error) => error,
        };
        if self.own_entry()?.is_none() {
            return Ok(None);
        }
        tracing::warn!("it cannot be mended: {error}");
        Ok(Some(error))
    }

    /// The boot entry of what runs, unless it is good.
    fn own_entry(&self) -> Result<Option<(Target, EntryState)>, AgentError> {
        let slot = self.booted.slot;
        let Some(target) = held(&self.record, &self.booted, slot) else { return Ok(None) };
        let found = judge(self.host.boot(), &self.booted.os, slot, &target)?;
        Ok(Some((target, found)).filter(|_| !found.is_good()))
    }

    /// Whether the other slot's release is worth more than the next one, with the entry of what runs found like that.
    fn may_need_other(&self, found: EntryState) -> Result<bool, AgentError> {
        let slot = self.booted.slot.other();
        let Some(other) = held(&self.record, &self.booted, slot) else { return Ok(false) };
        if self.found_bad(slot).is_some() {
            return Ok(false);
        }
        if found == EntryState::Damaged {
            let is_good = || Ok(judge(self.host.boot(), &self.booted.os, slot, &other)?.is_good());
            return if self.record.slots.contains_key(&slot) { is_good() } else { Ok(false) };
        }
        let has_entry = self.trust(&self.entry(&other, slot))?.is_some();
        // Where there is no entry at all, the configuration may name a boot loader that does not start this host.
        let known = self.record.slots.get(&slot).or_else(|| self.record.lost.get(&slot));
        Ok(has_entry || found == EntryState::Missing && known.is_some_and(|known| known.proven))
    }

    /// Removes the slot's boot entry, then writes the slot.
    fn write(
        &mut self,
        release: &Release,
        slot: Slot,
        reporter: &mut dyn Reporter,
    ) -> Result<(), AgentError> {
        let State::Applying { target, progress, .. } = self.record.state.clone() else { return Ok(()) };
        let begin = self.host.clock().monotonic();
        let (host, limits) = (self.host, &self.config.limits);
        let into = self.open_slot(slot, Access::Write)?.gently(host.clock(), limits.write_rate);
        let from = self.open_slot(slot.other(), Access::Read)?;
        let entry = self.entry(&target, slot);
        // Hosts that lose the same server must not all come back to it at once.
        let id = *Digest::of(host.machine().id().as_bytes()).as_bytes();
        let seed = id.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let patience = Patience { seed, total: limits.patience.0, ..Patience::default() };
        let fetcher = self.fetcher(patience);
        // A release that cannot be had costs no way back.
        if self.record.slots.contains_key(&slot) {
            foresee(&fetcher, release, &self.booted.root_hash, self.allowance())?;
        }
        host.boot()
            .remove_others(&self.running_entry())
            .map_err(AgentError::system(format!("remove the boot entry of slot {slot}")))?;
        self.take(Event::Emptied)?;
        let job = Job {
            fetcher: &fetcher,
            boot: host.boot(),
            release,
            entry: &entry,
            target: into.partitions(),
            base: from.partitions(),
            base_hash: self.booted.root_hash,
            allowance: self.allowance(),
        };
        let brought = self.record.medium.as_ref().map(ToString::to_string).filter(|_| self.medium.is_some());
        let (kept, record) = (&self.kept, &mut self.record);
        let mut way = install(&job, progress, &mut |progress| keep(kept, record, progress), reporter)?;
        let time = self.host.clock().monotonic().saturating_sub(begin);
        way.medium = brought;
        way.milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.host
            .machine()
            .carry_configuration(self.booted.slot, slot)
            .map_err(AgentError::system(format!("copy the configuration in /etc to slot {slot}")))?;
        self.take(Event::Applied(way))
    }

    /// The same for a release that is about to be switched to; what has no boot entry yet was read back a moment ago.
    pub(super) fn require_written(
        &self,
        target: &Target,
        slot: Slot,
        reporter: &mut dyn Reporter,
    ) -> Result<(), AgentError> {
        match self.trust(&self.entry(target, slot))? {
            None => Ok(()),
            Some(_) => self.require_whole(&target.version, target.root_hash, slot, reporter),
        }
    }

    /// Makes sure that a slot still holds its release, all of which can be read: nobody is sent to a system that does not
    /// come up.
    pub(super) fn require_whole(
        &self,
        version: &Version,
        root_hash: Digest,
        slot: Slot,
        reporter: &mut dyn Reporter,
    ) -> Result<(), AgentError> {
        if !self.has_entry(version, root_hash, slot)? {
            return Err(AgentError::Damaged { slot, version: version.clone() });
        }
        let opened = self.open_slot(slot, Access::Read)?;
        let (root, verity) = (opened.root.as_ref(), opened.verity.as_ref());
        let damaged = || AgentError::Damaged { slot, version: version.clone() };
        let params = layout(root, verity, root_hash, salt(&self.booted.os)).ok_or_else(damaged)?;
        let size = params.data_blocks.saturating_mul(BLOCK_SIZE);
        reporter.step(&format!("reading slot {slot}"));
        let observe = &mut |done| reporter.bytes(done, size);
        match audit(root, verity, &params, Unreadable::Ends, observe) {
            Ok(seen) if seen.is_whole(root_hash) => Ok(()),
            Ok(_) => Err(damaged()),
            Err(error) => {
                tracing::error!(%slot, "{error}");
                Err(damaged())
            }
        }
    }

    /// Whether a slot has a boot entry of a release that is what was signed, as far as that is known.
    fn has_entry(&self, version: &Version, root_hash: Digest, slot: Slot) -> Result<bool, AgentError> {
        let entry = Entry { slot, os: self.booted.os.clone(), version: version.clone() };
        if self.trust(&entry)?.is_none() {
            return Ok(false);
        }
        let unknown = Target { version: version.clone(), root_hash, manifest: None, uki: None };
        let held = held(&self.record, &self.booted, slot).filter(|held| held.root_hash == root_hash);
        Ok(judge_content(self.host.boot(), &entry, &held.unwrap_or(unknown))?.is_good())
    }

    /// Whether a slot holds a release already, or is about to be switched to it.
    fn is_present(&self, release: &Release, slot: Slot) -> Result<bool, AgentError> {
        let root_hash = release.root.verity.root_hash;
        let Some(held) = self.record.slots.get(&slot).filter(|held| held.root_hash == root_hash) else {
            return Ok(false);
        };
        let is_staged = self.trust(&self.entry(&held.target(), slot))?.is_none();
        Ok(is_staged || self.has_entry(&held.version, root_hash, slot)?)
    }

    /// What an update may use.
    fn allowance(&self) -> Allowance<'h> {
        let limits = &self.config.limits;
        let fetch_rate = match self.medium {
            Some(_) => Some(medium::RATE),
            None => limits.fetch_rate.map(|size| size.0),
        };
        Allowance { without: &limits.without, memory: limits.memory.map(|size| size.0), fetch_rate }
    }

    fn open_slot(&self, slot: Slot, access: Access) -> Result<Opened<'static>, AgentError> {
        if access == Access::Write && slot == self.booted.slot {
            let refusal = std::io::Error::other("it is the one that runs, which is never written");
            return Err(AgentError::system(format!("open slot {slot} for writing"))(refusal));
        }
        Opened::of(self.host, slot, access)
    }
}

/// Keeps the progress of a writing that is under way.
fn keep(
    kept: &Kept,
    record: &mut crate::machine::Record,
    now: &Progress,
) -> Result<(), crate::store::StoreError> {
    if let State::Applying { progress, .. } = &mut record.state {
        *progress = now.clone();
        kept.save(record)?;
    }
    Ok(())
}
