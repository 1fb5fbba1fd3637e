//! A host whose disk is a [`Tape`], with the agent, boot entries and FAT of a real one; and the firmware that starts it.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use upright_manifests::digest::Digest;
use upright_manifests::name::Slot;
use upright_updater::boot::BootLoader;
use upright_updater::boot::systemd_boot::SystemdBoot;
use upright_updater::config::Probe;
use upright_updater::health::{Probed, Prober};
use upright_updater::host::{
    Access, BlockDevice, Booted, BootedError, Clock, Host, Machine, Part, Remote, RemoteError, Slots,
};
use upright_updater::machine::Evidence;

use super::super::random::Random;
use super::tape::{Partition, Tape};
use super::vfat::Vfat;
use super::world::Files;

/// By how many hours a clock that jumps is wrong at the most: three years.
const MOST_WRONG: u64 = 3 * 365 * 24;

/// A host that runs.
pub struct VirtualHost {
    tape: Tape,
    boot: SystemdBoot,
    booted: Booted,
    boot_id: String,
    clock: StillClock,
    remote: MemoryRemote,
    parts: [Range<u64>; 4],
    /// Whether what runs passes its health checks.
    healthy: bool,
    rebooting: Cell<bool>,
    state: std::path::PathBuf,
}

/// What a host is started with.
pub(super) struct Start<'s> {
    pub(super) tape: &'s Tape,
    pub(super) booted: Booted,
    pub(super) boot_id: String,
    pub(super) now: Timestamp,
    pub(super) jumps: Option<u64>,
    pub(super) repository: Arc<Files>,
    pub(super) troubles: Vec<Option<Trouble>>,
    pub(super) parts: [Range<u64>; 4],
    pub(super) healthy: bool,
    pub(super) state: std::path::PathBuf,
}

impl VirtualHost {
    pub(super) fn start(with: Start<'_>) -> io::Result<Self> {
        let tape = with.tape.clone();
        let remote =
            MemoryRemote { files: with.repository, troubles: Mutex::new(with.troubles), tape: tape.clone() };
        Ok(Self {
            boot: SystemdBoot::on(Box::new(Vfat::mount(&tape)?)),
            clock: StillClock {
                now: with.now,
                jumps: with.jumps.map(|seed| Mutex::new(Random::new(seed))),
                slept: Mutex::default(),
                tape: tape.clone(),
            },
            tape,
            booted: with.booted,
            boot_id: with.boot_id,
            remote,
            parts: with.parts,
            healthy: with.healthy,
            rebooting: Cell::new(false),
            state: with.state,
        })
    }

    /// What runs.
    pub fn version(&self) -> String {
        self.booted.version.to_string()
    }

    /// Whether a restart was asked for.
    pub fn is_rebooting(&self) -> bool {
        self.rebooting.get()
    }
}

impl Host for VirtualHost {
    fn clock(&self) -> &dyn Clock {
        &self.clock
    }
    fn remote(&self) -> &dyn Remote {
        &self.remote
    }
    fn slots(&self) -> &dyn Slots {
        self
    }
    fn boot(&self) -> &dyn BootLoader {
        &self.boot
    }
    fn machine(&self) -> &dyn Machine {
        self
    }
    fn prober(&self) -> &dyn Prober {
        self
    }
}

impl Slots for VirtualHost {
    fn open(&self, slot: Slot, part: Part, _: Access) -> io::Result<Box<dyn BlockDevice>> {
        let index = match (slot, part) {
            (Slot::A, Part::Root) => 0,
            (Slot::A, Part::Verity) => 1,
            (Slot::B, Part::Root) => 2,
            (Slot::B, Part::Verity) => 3,
        };
        Ok(Box::new(Partition::new(&self.tape, self.parts[index].clone())))
    }
}

impl Machine for VirtualHost {
    fn id(&self) -> String {
        "virtual".to_owned()
    }
    fn booted(&self) -> Result<Booted, BootedError> {
        Ok(self.booted.clone())
    }
    fn image_time(&self) -> Option<Timestamp> {
        None
    }
    fn boot_id(&self) -> io::Result<String> {
        Ok(self.boot_id.clone())
    }
    fn carry_configuration(&self, from: Slot, to: Slot) -> io::Result<()> {
        upright_updater::host::carry_configuration(&self.state, from, to)?;
        self.tape.look()
    }
    fn traces(&self) -> Evidence {
        Evidence::default()
    }
    fn journal(&self, _: &str) -> Vec<String> {
        Vec::new()
    }
    fn reboot(&self) -> io::Result<()> {
        self.rebooting.set(true);
        self.tape.look()
    }
    fn accepted_signers(&self) -> io::Result<Option<BTreeSet<Digest>>> {
        Ok(None)
    }
}

impl Prober for VirtualHost {
    fn probe(&self, _: &Probe, _: Duration) -> Probed {
        let message = if self.healthy { "it runs" } else { "it does not run" };
        Probed { passed: self.healthy, message: message.to_owned(), ..Probed::default() }
    }
    fn failed_units(&self, _: Duration) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
}

/// A clock that stands still but while somebody sleeps, unless it jumps. Whoever asks for the time is about to change the state.
struct StillClock {
    now: Timestamp,
    /// Draws by how much the time of day is wrong each time that somebody asks.
    jumps: Option<Mutex<Random>>,
    slept: Mutex<Duration>,
    tape: Tape,
}

impl StillClock {
    fn slept(&self) -> Duration {
        self.slept.lock().map(|slept| *slept).unwrap_or_default()
    }
}

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        // A folder that cannot be read is noticed at the next write.
        let _ = self.tape.look();
        let Some(mut random) = self.jumps.as_ref().and_then(|random| random.lock().ok()) else {
            return self.now;
        };
        self.tape.note_fault();
        let wrong = SignedDuration::from_hours(random.below(2 * MOST_WRONG) as i64 - MOST_WRONG as i64);
        self.now.checked_add(wrong).unwrap_or(self.now)
    }
    fn monotonic(&self) -> Duration {
        self.slept()
    }
    fn sleep(&self, time: Duration) {
        if let Ok(mut slept) = self.slept.lock() {
            *slept += time;
        }
    }
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The server answers 503.
    Busy,
    /// There is no such file.
    Missing,
    /// The line drops after so many bytes.
    Drop(usize),
    /// A byte is another.
    Damage(usize),
}

/// A repository in memory.
struct MemoryRemote {
    files: Arc<Files>,
    /// What happens to the next requests, the last one first; nothing happens to some.
    troubles: Mutex<Vec<Option<Trouble>>>,
    tape: Tape,
}

impl Remote for MemoryRemote {
    fn open(&self, path: &str, range: Range<u64>) -> Result<Box<dyn Read + Send>, RemoteError> {
        let url = format!("virtual:/{path}");
        let unavailable =
            |reason: &str| RemoteError::Unavailable { url: url.clone(), reason: reason.to_owned() };
        if self.tape.is_dark() {
            return Err(unavailable("the power is gone"));
        }
        let _ = self.tape.look();
        let trouble = self.troubles.lock().ok().and_then(|mut troubles| troubles.pop().flatten());
        if trouble.is_some() {
            self.tape.note_fault();
        }
        let missing = || RemoteError::NotFound { url: url.clone(), status: 404 };
        let file = self.files.get(path).filter(|_| trouble != Some(Trouble::Missing)).ok_or_else(missing)?;
        let end = (range.end.min(file.len() as u64)) as usize;
        let mut bytes = file.get(range.start as usize..end).unwrap_or_default().to_vec();
        match trouble {
            Some(Trouble::Busy) => return Err(unavailable("status 503")),
            Some(Trouble::Drop(after)) => bytes.truncate(after),
            Some(Trouble::Damage(at)) if !bytes.is_empty() => {
                let at = at % bytes.len();
                bytes[at] ^= 1;
            }
            _ => {}
        }
        Ok(Box::new(Cursor::new(bytes)))
    }

    fn address(&self) -> String {
        "virtual:".to_owned()
    }
}
