//! The driver: it persists the record, then runs the effect of the state it is in; everything here may happen twice.

mod check;
mod entry;
mod evidence;
mod install;
mod kept;
mod lock;
mod medium;
mod opened;
mod perform;
mod repair;
mod rollback;
mod service;
mod trial;
mod trust;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use upright_manifests::name::Slot;
use upright_manifests::verity::uuid as verity_uuid;
use upright_manifests::version::Version;

use crate::apply::{ApplyError, superblock_of};
use crate::boot::{Entry, Trust};
use crate::config::Config;
use crate::fetch::{FetchError, Medium};
use crate::host::{Access, Booted, BootedError, Host, Part};
use crate::machine::{
    Beside, Event, Evidence, Installed, Observation, Outcome, Record, State, StepError, Target, step,
};
use crate::state::{self, Layout};
use crate::store::{RecordFile, StoreError, keep_reserve};

pub use check::Offer;
pub use entry::EntryState;
pub use install::UpdatePlan;
pub use lock::{Busy, Lock};
pub use perform::Reporter;
pub use repair::{Did, Repaired};
pub use rollback::RollbackPlan;
pub use service::serve;
pub use trial::{TrialError, TrialOutcome, run_trial};
pub use verify::SlotAudit;

/// The agent on one host.
pub struct Agent<'h> {
    host: &'h dyn Host,
    config: &'h Config,
    folder: PathBuf,
    kept: kept::Kept,
    record: Record,
    booted: Booted,
    /// What is taken instead of what the server sends.
    medium: Option<&'h Medium>,
}

/// Why the agent could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It cannot be said what runs.
    #[error(transparent)]
    Booted(#[from] BootedError),
    /// The record cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was asked does not fit the state.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The repository could not be reached, or not be trusted.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The release could not be installed.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A slot that was to be gone to is damaged.
    #[error(
        "slot {slot} does not hold {version} as it was signed, so this host stays with what runs; `upright verify {slot}` says what is \
         damaged, and `upright repair` mends it"
    )]
    Damaged {
        /// The slot.
        slot: Slot,
        /// The release it should hold.
        version: Version,
    },
    /// The boot entry of a slot is damaged, and is not composed again here.
    #[error(
        "the boot entry of {version} in slot {slot} is {}: {}",
        if *.missing { "missing" } else { "damaged" },
        match *.runs {
            true => "`upright repair` brings it back, `upright rollback` goes to the other slot",
            false => "`upright repair` composes that of a proven way back again, once that of what runs is whole and while nothing else is under way; \
                      the next update writes it anew",
        }
    )]
    Entry {
        /// The slot.
        slot: Slot,
        /// The release.
        version: Version,
        /// Whether there is none.
        missing: bool,
        /// Whether it is the slot that runs.
        runs: bool,
    },
    /// The boot entry of what runs is damaged and could not be mended, so that of the other slot stays.
    #[error(
        "the boot entry of {version}, which runs from slot {slot}, is damaged and cannot be mended: {source}; nothing was erased: run \
         the same again once that is otherwise, or `upright rollback`, which goes to the other slot"
    )]
    Unmended {
        /// The slot.
        slot: Slot,
        /// The release.
        version: Version,
        /// Why it could not be mended.
        source: Box<AgentError>,
    },
    /// The boot loader's state cannot be read or written.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Where an agent whose state is in `folder` keeps trusted metadata.
pub fn trust_folder(folder: &Path) -> PathBuf {
    folder.join("tuf")
}

impl AgentError {
    /// A system call that failed while trying to do `what`.
    fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}

impl<'h> Agent<'h> {
    /// The agent whose state is in `folder`, with its record brought in line with what runs. The caller holds the
    /// [`Lock`].
    pub fn open(host: &'h dyn Host, config: &'h Config, folder: &Path) -> Result<Self, AgentError> {
        let mut agent = Self::load(host, config, folder)?;
        agent.kept.catch_up();
        agent.reconcile()?;
        // Both are tried again at the next start. What boots until then without having been committed, or before it is passed over, has to
        // prove itself.
        for told in [agent.commit(), agent.pass_over_applied()] {
            told.unwrap_or_else(|error| tracing::warn!("{error}"));
        }
        agent.remember_reset();
        agent.report_up();
        Ok(agent)
    }

    /// Like [`Self::open`], for who works where nobody watches: a record that cannot be used is set aside, since what runs and what boot
    /// loader and slots say is enough to go on with, and a host must not wait for somebody to say so.
    pub fn open_unattended(
        host: &'h dyn Host,
        config: &'h Config,
        folder: &Path,
    ) -> Result<Self, AgentError> {
        let path = match Self::open(host, config, folder) {
            Err(AgentError::Store(StoreError::Damaged { path, .. } | StoreError::Format { path, .. })) => {
                path
            }
            opened => return opened,
        };
        let kept = match RecordFile::in_folder(folder).set_aside() {
            Ok(kept) => format!("it is kept as {}", kept.display()),
            // As with a disk that cannot be written any more: this boot goes on with what it finds out, and remembers that.
            Err(error) => {
                kept::Kept::new(host, folder).remember(&Record::default());
                format!("it cannot be set aside ({error})")
            }
        };
        let mut agent = Self::open(host, config, folder)?;
        let reason = format!(
            "{} was damaged, or of a newer agent: {kept}, and this host goes on with what boot loader and slots say",
            path.display(),
        );
        tracing::error!("{reason}");
        let now = agent.now();
        let noted = agent.amend(|record| record.failure = Some((now, reason)));
        noted.unwrap_or_else(|error| tracing::warn!("{error}"));
        Ok(agent)
    }

    /// What an agent that starts now would remember, without starting it: nothing is written and no lock is needed.
    pub fn peek(host: &'h dyn Host, config: &'h Config, folder: &Path) -> Result<Record, AgentError> {
        let agent = Self::load(host, config, folder)?;
        let seen = agent.observe()?;
        let mut record = step(agent.record.clone(), Event::Started(seen), agent.now())?;
        if let Ok(Some(reset)) = state::reset_done(&agent.layout()) {
            record.remember(agent.now(), &agent.booted.version, Outcome::Reset { reset });
        }
        Ok(record)
    }

    /// Takes what a boot has reset into the history. What cannot be remembered now is later, and keeps nobody from anything.
    fn remember_reset(&mut self) {
        let layout = self.layout();
        let (now, version) = (self.now(), self.booted.version.clone());
        let remembered = match state::reset_done(&layout) {
            Ok(None) => return,
            Ok(Some(reset)) => self.amend(|record| record.remember(now, &version, Outcome::Reset { reset })),
            Err(error) => Err(AgentError::system("read the note of a reset")(error)),
        };
        if let Err(error @ AgentError::Store(_)) = &remembered {
            return tracing::warn!("cannot remember a reset: {error}");
        }
        if let Err(error) = remembered {
            tracing::warn!("a reset is not remembered: {error}");
        }
        if let Err(error) = state::forget_reset_done(&layout) {
            tracing::warn!("cannot remove the note of a reset: {error}");
        }
    }

    fn load(host: &'h dyn Host, config: &'h Config, folder: &Path) -> Result<Self, AgentError> {
        let kept = kept::Kept::new(host, folder);
        let record = kept.load()?;
        let booted = host.machine().booted()?;
        Ok(Self { host, config, folder: folder.to_owned(), kept, record, booted, medium: None })
    }

    /// Drops what this boot remembers beside the record on disk, for a start from nothing.
    pub fn forget_remembered(host: &dyn Host, folder: &Path) {
        kept::Kept::new(host, folder).forget();
    }

    /// What the agent remembers.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// What runs.
    pub fn booted(&self) -> &Booted {
        &self.booted
    }

    /// The time. A clock that is behind the image that runs, as one that starts in 1970, is wrong, and so is one that is behind the
    /// last contact with the server. That contact was not later than the metadata it brought was good for, so a clock
    /// that was years ahead then cannot have left its mark.
    pub(super) fn now(&self) -> Timestamp {
        let clock = self.host.clock().now();
        let known = self.host.machine().image_time().into_iter().chain(self.record.last_contact).max();
        let latest = match known {
            Some(known) if known > clock => {
                // The time is asked for often, and once says it all.
                static TOLD: AtomicBool = AtomicBool::new(false);
                if !TOLD.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%clock, %known, "the clock is wrong: it was later already; taking the later time");
                }
                known
            }
            _ => clock,
        };
        // Nobody needs to read fractions of a second in a history.
        Timestamp::from_second(latest.as_second()).unwrap_or(latest)
    }

    /// Looks at what runs and brings the record in line with it.
    fn reconcile(&mut self) -> Result<(), AgentError> {
        self.booted = self.host.machine().booted()?;
        let mut seen = self.observe()?;
        if self.came_back(&seen.boot_id) && !seen.still_tried && !seen.other_gone {
            self.look_for_damage(&mut seen.evidence);
        }
        self.take(Event::Started(seen))?;
        // Without it, less can be done on a full disk; all else can.
        if let Err(error) = keep_reserve(&self.folder) {
            tracing::debug!("cannot keep room on the state disk: {error}");
        }
        Ok(())
    }

    /// What an agent that starts now sees.
    fn observe(&self) -> Result<Observation, AgentError> {
        let boot_id = self.host.machine().boot_id().map_err(AgentError::system("read this boot's id"))?;
        let Booted { slot, version, root_hash, .. } = self.booted.clone();
        let trust = |target: &Target, slot| self.trust(&self.entry(target, slot));
        let running = Target { version: version.clone(), root_hash, manifest: None, uki: None };
        let of_running = trust(&running, slot)?;
        let on_trial = !matches!(of_running, Some(Trust::Good) | None);
        let passed_over = of_running == Some(Trust::Bad);
        let seen = self.host.boot().is_seen(&self.running_entry());
        let unseen = !seen.map_err(AgentError::system("read the boot loader's state"))?;
        let other = self.record.state.target().filter(|target| target.root_hash != root_hash);
        let still_tried = match other {
            Some(target) => {
                matches!(trust(target, slot.other())?, Some(Trust::Trial { left: 1.., .. }))
            }
            None => false,
        };
        let other_gone = match self.record.slots.get(&slot.other()) {
            Some(beside) => {
                let entry = self.entry(&beside.target(), slot.other());
                self.is_gone(&entry)? || self.counts_on_other() && self.is_unreadable(&entry)
            }
            None => false,
        };
        let beside = if self.record.slots.is_empty() { self.beside()? } else { None };
        let came_back = self.came_back(&boot_id);
        let evidence = if came_back { self.host.machine().traces() } else { Evidence::default() };
        Ok(Observation {
            slot,
            version,
            root_hash,
            boot_id,
            on_trial,
            passed_over,
            unseen,
            still_tried,
            other_gone,
            stopped: state::stopped(&self.layout(), slot.other()),
            beside,
            evidence,
        })
    }

    /// The release in the other slot, as partition and boot loader tell it. That all of it is there is looked at by those who
    /// want to go there.
    fn beside(&self) -> Result<Option<Beside>, AgentError> {
        let slot = self.booted.slot.other();
        let verity = self.host.slots().open(slot, Part::Verity, Access::Read);
        let Ok(superblock) = verity.and_then(|verity| superblock_of(verity.as_ref())) else {
            return Ok(None);
        };
        let lines = self.host.boot().command_lines();
        for line in lines.map_err(AgentError::system("read the boot loader's state"))? {
            let Ok(Booted { os, version, root_hash, .. }) = Booted::parse(&line, slot) else { continue };
            // A copy of what runs has no entry of its own.
            if os != self.booted.os
                || root_hash == self.booted.root_hash
                || superblock.uuid != verity_uuid(&root_hash)
            {
                continue;
            }
            let target = Target { version, root_hash, manifest: None, uki: None };
            let Some(trust) = self.trust(&self.entry(&target, slot))? else { continue };
            tracing::warn!(%slot, version = %target.version, ?trust, "a release that is not remembered was found");
            let release = Installed { proven: trust == Trust::Good, ..Installed::unproven(&target) };
            return Ok(Some(Beside { release, tried: matches!(trust, Trust::Trial { left: 1.., .. }) }));
        }
        Ok(None)
    }

    /// Whether a release that was staged or switched to has no boot entry any more. One that cannot be read may be read again later.
    fn is_gone(&self, entry: &Entry) -> Result<bool, AgentError> {
        if self.trust(entry)?.is_some() {
            return Ok(false);
        }
        let is_missing = |error: std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
        Ok(self.host.boot().staged(entry).err().is_some_and(is_missing) && !self.is_unreadable(entry))
    }

    /// Whether a boot entry is there and cannot be read. The machine would not be started with it.
    fn is_unreadable(&self, entry: &Entry) -> bool {
        let boot = self.host.boot();
        match boot.content(entry) {
            Ok(Some(_)) => false,
            Ok(None) => {
                boot.staged(entry).err().is_some_and(|error| error.kind() != std::io::ErrorKind::NotFound)
            }
            Err(_) => true,
        }
    }

    /// Whether the other slot's release is to be started next. As long as it is the way back alone, it is kept though it cannot be read.
    fn counts_on_other(&self) -> bool {
        let runs = |target: &Target| target.root_hash == self.booted.root_hash;
        match &self.record.state {
            State::Applied { target, .. } | State::Switched { target, .. } | State::Trial { target, .. } => {
                !runs(target)
            }
            State::RollingBack { from, .. } => runs(from),
            _ => false,
        }
    }

    /// Where the state of this host is.
    fn layout(&self) -> Layout {
        Layout::around(&self.folder)
    }

    /// What the boot loader records about an entry. One of the other slot that cannot be read is none to go to.
    fn trust(&self, entry: &Entry) -> Result<Option<Trust>, AgentError> {
        let trust = self.host.boot().trust(entry);
        let trust = trust.map_err(AgentError::system("read the boot loader's state"))?;
        Ok(trust.filter(|_| entry.slot == self.booted.slot || !self.is_unreadable(entry)))
    }

    fn entry(&self, target: &Target, slot: upright_manifests::name::Slot) -> Entry {
        Entry { slot, os: self.booted.os.clone(), version: target.version.clone() }
    }

    /// Steps the machine and persists the record before anything else happens. An event that changes nothing writes
    /// nothing.
    fn take(&mut self, event: Event) -> Result<(), AgentError> {
        tracing::debug!(?event, "event");
        let is_start = matches!(event, Event::Started(_));
        let next = step(self.record.clone(), event, self.now())?;
        if next != self.record {
            self.keep(&next, is_start)?;
            if next.state.name() != self.record.state.name() {
                tracing::info!(from = self.record.state.name(), to = next.state.name(), "state");
            }
            self.record = next;
        }
        self.end_trial_note();
        Ok(())
    }

    /// Keeps a record. On a state disk that is full or broken, too, a release on trial is judged, and any release can be left for one that
    /// was proven: this boot remembers it, and what the next one does not is found out again, or was an operator's wish. What a start makes
    /// of what it finds is as good as kept, since the next start finds the same: the boot loader is told what it has to be.
    fn keep(&self, next: &Record, is_start: bool) -> Result<(), AgentError> {
        let is_trial = |record: &Record| {
            matches!(record.state, State::Trial { .. } | State::Committing { .. } | State::RollingBack { .. })
        };
        match self.kept.save(next) {
            Err(error) if is_start || is_trial(next) || is_trial(&self.record) => {
                match is_start {
                    true => tracing::warn!("{error}"),
                    false => tracing::error!(
                        "{error}; going on without, so this may be forgotten after the next boot"
                    ),
                }
                self.kept.remember(next);
                Ok(())
            }
            saved => Ok(saved?),
        }
    }

    /// Changes something in the record that is no step of the machine, durably.
    fn amend(&mut self, change: impl FnOnce(&mut Record)) -> Result<(), AgentError> {
        let mut next = self.record.clone();
        change(&mut next);
        if next != self.record {
            self.kept.save(&next)?;
            self.record = next;
        }
        Ok(())
    }
}
