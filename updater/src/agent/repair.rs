//! Mending what a disk did to a slot.

use serde::Serialize;
use upright_manifests::name::{Arch, Slot};
use upright_manifests::release::Release;
use upright_manifests::tuf::Problem;
use upright_manifests::verity::{VerityParams, salt};
use upright_manifests::version::Version;

use super::entry::{EntryState, held, judge};
use super::opened::Opened;
use super::{Agent, AgentError, Reporter};
use crate::apply::{ApplyError, Damage, Frames, Mending, Patient, layout, look};
use crate::fetch::{FetchError, Fetcher, Patience, known_manifest};
use crate::host::{Access, Remote, RemoteError};
use crate::machine::{Outcome, Repair, State, StepError, Target};

/// How a slot was found, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Did {
    /// There was nothing to mend.
    Whole,
    /// The rest is what would be done.
    Planned,
    /// The rest is what was done.
    Mended,
}

/// What became of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// How it was found.
    pub outcome: Did,
    /// The release in it.
    pub version: Version,
    /// What was done, or would be: the bytes to fetch are those beside the metadata, and the blocks of the hash tree those that can be
    /// told while the image is damaged.
    pub repair: Repair,
}

/// A slot to mend, and the other one.
struct Slots {
    own: Opened<'static>,
    other: Option<Opened<'static>>,
}

impl Slots {
    fn patient<'a>(&'a self, params: &'a VerityParams) -> Patient<'a> {
        Patient { slot: self.own.partitions(), other: self.other.as_ref().map(Opened::partitions), params }
    }

    fn look(&self, params: &VerityParams, reporter: &mut dyn Reporter) -> Result<Damage, ApplyError> {
        reporter.step(&format!("reading slot {}", self.own.slot));
        let size = params.data_blocks.saturating_mul(upright_manifests::BLOCK_SIZE);
        look(self.patient(params), &mut |done| reporter.bytes(done, size))
    }
}

/// What is wrong with a slot, and what there is to know for mending it.
struct Finding {
    params: VerityParams,
    damage: Damage,
    /// The signed manifest, if it was needed.
    release: Option<Release>,
}

impl Finding {
    /// What has to be fetched.
    fn frames(&self, slot: Slot, fetcher: &Fetcher<'_>) -> Result<Option<Frames>, ApplyError> {
        let release = self.release.as_ref().filter(|_| self.damage.here() < self.damage.blocks());
        let frames = release.map(|release| self.damage.frames(fetcher, &release.root)).transpose();
        frames.map_err(|source| ApplyError::Mend { slot, source })
    }

    /// What mending it would take.
    fn planned(&self, slot: Slot, restored: bool, fetcher: &Fetcher<'_>) -> Result<Repair, ApplyError> {
        let Damage { tree, .. } = self.damage;
        let frames = self.frames(slot, fetcher)?.map_or(0, |frames| frames.bytes());
        let uki = self.release.as_ref().filter(|_| restored).map_or(0, |release| release.uki.compose.size);
        let (blocks, here, tree) = (self.damage.blocks() as u64, self.damage.here() as u64, tree as u64);
        Ok(Repair { blocks, here, tree, entry: restored, fetched: frames + uki, ..Repair::nothing(slot) })
    }
}

/// A slot to mend, and all that there is to mend it with.
struct Job<'a> {
    target: &'a Target,
    slots: &'a Slots,
    finding: &'a Finding,
    fetcher: &'a Fetcher<'a>,
    /// Whether its boot entry is composed again.
    restored: bool,
}

impl Job<'_> {
    /// Mends image and hash tree: first with what is on this host, then with what is fetched, unless the manifest is `lacking`.
    fn mend_blocks(
        &self,
        lacking: &mut Option<AgentError>,
        repair: &mut Repair,
        reporter: &mut dyn Reporter,
    ) -> Result<(), AgentError> {
        let Finding { params, damage, .. } = self.finding;
        let mut mending = Mending::begin(self.slots.patient(params), damage)?;
        let done = mending.take_here().map_err(AgentError::from);
        let here = mending.mended().blocks;
        let done = done.and_then(|()| {
            if let Some(error) = lacking.take_if(|_| damage.here() < damage.blocks()) {
                return Err(error);
            }
            if let Some(frames) = self.finding.frames(repair.slot, self.fetcher)? {
                mending.fetch(self.fetcher, &frames, reporter)?;
            }
            Ok(mending.finish(reporter)?)
        });
        let (mended, here) = (mending.mended(), if done.is_ok() { damage.here() as u64 } else { here });
        (repair.blocks, repair.here, repair.tree) = (mended.blocks, here, mended.tree);
        done
    }
}

impl<'h> Agent<'h> {
    /// In which order slots are mended: what runs first, since without its boot entry that of the other one is not touched.
    pub fn repair_order(&self) -> [Slot; 2] {
        [self.booted.slot, self.booted.slot.other()]
    }

    /// Finds what is damaged in `slot` and mends it, or with `dry_run` says what that would take; nothing if nothing is known to be in
    /// the slot. What became of it is added to `done`, also where not all could be done. What is on this host is not fetched, and nothing
    /// at all where the hash tree alone is damaged.
    pub fn repair(
        &mut self,
        slot: Slot,
        dry_run: bool,
        done: &mut Vec<Repaired>,
        reporter: &mut dyn Reporter,
    ) -> Result<(), AgentError> {
        self.require_verdict()?;
        let Some(target) = held(&self.record, &self.booted, slot) else { return Ok(()) };
        let found = judge(self.host.boot(), &self.booted.os, slot, &target)?;
        let is_made_ready = found == EntryState::Damaged && !dry_run && self.make_ready(slot, &target)?;
        let entry = if is_made_ready { EntryState::Whole } else { found };
        let restored = !entry.is_good() && self.may_restore(slot, entry)?;
        let own = Opened::of(self.host, slot, if dry_run { Access::Read } else { Access::Mend })?;
        let slots = Slots { own, other: Opened::of(self.host, slot.other(), Access::Read).ok() };
        let fetcher = self.patient_fetcher();
        let (finding, lacking) = self.examine(&target, &slots, restored, reporter)?;
        let version = target.version.clone();
        // What is wrong with an entry that is left alone is told in the end.
        let left = match entry.is_good() || restored {
            true => Ok(()),
            false => {
                let (version, runs) = (version.clone(), slot == self.booted.slot);
                Err(AgentError::Entry { slot, version, missing: entry == EntryState::Missing, runs })
            }
        };
        let is_whole = finding.damage.is_none() && !restored && !is_made_ready;
        if dry_run && !is_whole {
            lacking.map_or(Ok(()), Err)?;
            let repair = finding.planned(slot, restored, &fetcher)?;
            done.push(Repaired { outcome: Did::Planned, version, repair });
            return Ok(());
        }
        let mut repair = Repair { entry: is_made_ready, ..Repair::nothing(slot) };
        let mended = match is_whole {
            true => left,
            false => {
                let job =
                    Job { target: &target, slots: &slots, finding: &finding, fetcher: &fetcher, restored };
                self.mend(&job, lacking, &mut repair, reporter).and(left)
            }
        };
        if mended.is_ok() && !dry_run {
            self.reinstate(slot)?;
        }
        let is_done = repair != Repair::nothing(slot);
        if is_done {
            repair.fetched = fetcher.fetched();
            repair.medium = self.medium.filter(|_| finding.release.is_some()).map(Remote::address);
            self.remember_repair(&version, &repair)?;
        }
        if is_done || mended.is_ok() {
            let outcome = if is_done { Did::Mended } else { Did::Whole };
            done.push(Repaired { outcome, version, repair });
        }
        mended
    }

    /// Mends the boot entry of what runs alone, whatever the rest of its slot is like.
    pub(super) fn mend_own_entry(
        &mut self,
        target: &Target,
        reporter: &mut dyn Reporter,
    ) -> Result<(), AgentError> {
        let slot = self.booted.slot;
        if self.make_ready(slot, target)? {
            return self.remember_repair(&target.version, &Repair { entry: true, ..Repair::nothing(slot) });
        }
        let release = self.installed(target)?;
        let own = Opened::of(self.host, slot, Access::Read)?;
        let fetcher = self.patient_fetcher();
        self.restore_entry(slot, target, &release, &fetcher, own.root.as_ref(), reporter)?;
        let medium = self.medium.map(Remote::address);
        let repair = Repair { entry: true, fetched: fetcher.fetched(), medium, ..Repair::nothing(slot) };
        self.remember_repair(&target.version, &repair)
    }

    /// A reader that waits for what it needs for as long as the configuration allows.
    fn patient_fetcher(&self) -> Fetcher<'h> {
        self.fetcher(Patience { total: self.config.limits.patience.0, ..Patience::default() })
    }

    fn remember_repair(&mut self, version: &Version, repair: &Repair) -> Result<(), AgentError> {
        let (now, outcome) = (self.now(), Outcome::Repaired { repair: repair.clone() });
        self.amend(|record| record.remember(now, version, outcome))?;
        tracing::info!(slot = %repair.slot, %version, "{repair}");
        Ok(())
    }

    /// The health checks wait for nobody for long, and the other slot is what they may go back to.
    fn require_verdict(&self) -> Result<(), StepError> {
        match &self.record.state {
            State::Committing { .. } if self.stays() => Ok(()),
            State::Trial { target, .. } | State::Committing { target, .. } => {
                Err(StepError::OnTrial(target.version.clone()))
            }
            State::RollingBack { from, .. } => Err(StepError::Leaving(from.version.clone())),
            _ => Ok(()),
        }
    }

    /// Mends what can be; what was done before something failed stays, and is in `repair`.
    fn mend(
        &mut self,
        job: &Job<'_>,
        mut lacking: Option<AgentError>,
        repair: &mut Repair,
        reporter: &mut dyn Reporter,
    ) -> Result<(), AgentError> {
        // There may be nothing else to boot: the entry of what runs waits for no block that it is not made of.
        let first = match repair.slot == self.booted.slot {
            true => self.mend_entry(job, repair, reporter),
            false => Ok(()),
        };
        let blocks = job.mend_blocks(&mut lacking, repair, reporter);
        let entry = match first {
            // What it is made of is as it was.
            Err(error) if repair.blocks == 0 => Err(error),
            _ => lacking.map_or_else(|| self.mend_entry(job, repair, reporter), Err),
        };
        match (blocks, entry) {
            (Err(blocks), Err(entry)) => {
                tracing::error!("{entry}");
                Err(blocks)
            }
            (blocks, entry) => blocks.and(entry),
        }
    }

    /// Composes the boot entry, if it has to be and was not yet.
    fn mend_entry(
        &mut self,
        job: &Job<'_>,
        repair: &mut Repair,
        reporter: &mut dyn Reporter,
    ) -> Result<(), AgentError> {
        let Some(release) = job.finding.release.as_ref().filter(|_| job.restored && !repair.entry) else {
            return Ok(());
        };
        let root = job.slots.own.root.as_ref();
        self.restore_entry(repair.slot, job.target, release, job.fetcher, root, reporter)?;
        repair.entry = true;
        Ok(())
    }

    /// Looks at a slot. The signed manifest is asked for where something has to be fetched, which it has if the boot entry is to be
    /// `restored`, and where the slot does not tell what its tree is like; else, why it is lacking keeps nothing from being mended that can
    /// be without it.
    fn examine(
        &mut self,
        target: &Target,
        slots: &Slots,
        restored: bool,
        reporter: &mut dyn Reporter,
    ) -> Result<(Finding, Option<AgentError>), AgentError> {
        let (root, verity) = (slots.own.root.as_ref(), slots.own.verity.as_ref());
        let guess = layout(root, verity, target.root_hash, salt(&self.booted.os));
        let looked = match &guess {
            Some(params) => slots.look(params, reporter).map(Some),
            None => Ok(None),
        };
        let damage = match looked {
            Ok(damage) => damage,
            // The guess may be what is wrong.
            Err(ApplyError::Beyond { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let mut seen = guess.zip(damage);
        let has_all = |(_, damage): &mut (_, Damage)| damage.here() == damage.blocks() && !restored;
        if let Some((params, damage)) = seen.take_if(has_all) {
            return Ok((Finding { params, damage, release: None }, None));
        }
        match (self.installed(target), seen) {
            (Ok(release), seen) => {
                let params = release.root.verity.clone();
                let damage = match seen.filter(|(guess, _)| *guess == params) {
                    Some((_, damage)) => damage,
                    None => slots.look(&params, reporter)?,
                };
                Ok((Finding { params, damage, release: Some(release) }, None))
            }
            (Err(error), Some((params, damage))) => {
                Ok((Finding { params, damage, release: None }, Some(error)))
            }
            (Err(error), None) => Err(error),
        }
    }

    /// The signed manifest of the release in a slot: what it was installed from, be it offered still or not, or else what is offered.
    fn installed(&mut self, target: &Target) -> Result<Release, AgentError> {
        let of = (self.os(), Arch::HERE, self.channel());
        let known = target.manifest.map(|digest| known_manifest(self.remote(), of, &target.version, digest));
        let known = known.transpose()?.flatten();
        if let Some(release) = known.filter(|release| release.root.verity.root_hash == target.root_hash) {
            return Ok(release);
        }
        let mut session = self.refresh()?;
        let told = |error: FetchError| match (error, self.medium) {
            (FetchError::Tuf(error), _) if error.problem == Problem::UnknownTarget => {
                FetchError::NotPublished { version: target.version.clone() }
            }
            (FetchError::Remote(RemoteError::NotFound { .. }), Some(medium)) => {
                FetchError::NotBrought { place: medium.address(), version: target.version.clone() }
            }
            (error, _) => self.told(error),
        };
        let channel = self.followed(&mut session).map_err(|error| self.told(error))?;
        let (release, _) = session.release(&channel, &target.version).map_err(told)?;
        let until = session.status().into_iter().map(|role| role.expires).min();
        let brought = self.brought(until);
        self.amend(|record| record.medium = brought)?;
        match release.root.verity.root_hash == target.root_hash {
            true => Ok(release),
            false => Err(FetchError::NotPublished { version: target.version.clone() }.into()),
        }
    }
}
