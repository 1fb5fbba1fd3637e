//! A host's life, from one power cut to the next.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use tempfile::TempDir;
use upright_manifests::name::Slot;
use upright_updater::agent::{Agent, Reporter, run_trial, serve};
use upright_updater::boot::Medium;
use upright_updater::config::Config;
use upright_updater::host::Booted;
use upright_updater::machine::{Record, State};
use upright_updater::policy::Overrides;
use upright_updater::state::{Hands, Image, Layout, prepare};
use upright_updater::store::RecordFile;

use super::super::fat::Fat;
use super::super::loader;
use super::host::{Start, Trouble, VirtualHost};
use super::tape::{DiskFault, StateFiles, Tape};
use super::vfat::Vfat;
use super::world::{BAD, World, parts};
use crate::fixture::OS;

/// Boots until a host must have come to rest: an update of several boots, a failed trial and the way back.
const MOST_BOOTS: u32 = 16;

/// A host, switched on or off.
pub struct Life<'w> {
    world: &'w World,
    /// Its disk.
    pub tape: Tape,
    config: Config,
    state: PathBuf,
    boots: u32,
    /// What happens to the next requests, the last one first; nothing happens to some.
    pub troubles: Vec<Option<Trouble>>,
    /// Draws by how much the clock is wrong each time that somebody asks, if it is.
    pub clock_jumps: Option<u64>,
    /// Whether [`BAD`] is as healthy as the others.
    pub all_healthy: bool,
    _folder: TempDir,
}

/// How a stretch of a host's life ended.
#[derive(Debug)]
pub enum End {
    /// The agent has nothing more to do.
    Rest {
        /// What runs.
        version: String,
        /// What the agent remembers.
        record: Box<Record>,
    },
    /// The power went.
    Dark,
}

impl<'w> Life<'w> {
    /// A host that trusts `root`, with this disk and these files in its state folder.
    pub(super) fn new(
        world: &'w World,
        root: &Path,
        disk: Vec<u8>,
        files: &StateFiles,
        without: &[&str],
    ) -> Result<Self> {
        // Memory, where there is some in the file system, takes a sync in no time.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { TempDir::new_in(memory)? } else { TempDir::new()? };
        let state = folder.path().join("upright");
        let text = format!(
            "[repository]\nurl = \"http://virtual\"\nroot = {root:?}\n\n[update]\nreboot = \"now\"\n\n\
             [limits]\nwithout = {without:?}\n\n[health]\nsettle = \"0s\"\n\n\
             [[health.check]]\nname = \"app\"\nunit = \"app.service\"\nretries = 0\n"
        );
        let config = Config::parse(&text, Path::new("upright.toml"))?;
        let tape = Tape::new(disk, &state, files)?;
        Ok(Self {
            world,
            tape,
            config,
            state,
            boots: 0,
            troubles: Vec::new(),
            clock_jumps: None,
            all_healthy: false,
            _folder: folder,
        })
    }

    /// Lives with repository number `offered` until the agent comes to rest or the power goes.
    pub fn live(&mut self, offered: usize) -> Result<End> {
        let mut last = String::new();
        for _ in 0..MOST_BOOTS {
            let host = match self.power_on(offered) {
                Ok(host) => host,
                Err(_) if self.tape.is_dark() => return Ok(End::Dark),
                Err(error) => return Err(error),
            };
            let trial = run_trial(&host, &self.config, &self.state).err();
            let served = match trial {
                None if !host.is_rebooting() => serve(&host, &self.config, &self.state, true).err(),
                trial => trial,
            };
            self.tape.look()?;
            if self.tape.is_dark() {
                return Ok(End::Dark);
            }
            if host.is_rebooting() {
                continue;
            }
            let record = self.record()?;
            match (served, &record.state) {
                (None, State::Idle) => {
                    let (version, next) = (host.version(), self.running()?);
                    ensure!(version == next, "{version} runs, and the next boot would start {next}");
                    return Ok(End::Rest { version, record: Box::new(record) });
                }
                // The service tries again.
                (Some(error), _) => last = error.to_string(),
                (None, _) => {}
            }
        }
        bail!("the agent did not come to rest, but is {}: {last}", self.record()?.state.name())
    }

    /// An operator's rollback; the host is not restarted yet.
    pub fn roll_back(&mut self, offered: usize) -> Result<()> {
        let host = self.power_on(offered)?;
        let mut agent = Agent::open(&host, &self.config, &self.state)?;
        agent.roll_back(&mut Silent)?;
        Ok(self.tape.look()?)
    }

    /// The boot entries.
    pub fn names(&self) -> Result<Vec<String>> {
        Ok(Vfat::mount(&self.tape)?.names()?)
    }

    /// An operator's update to a release whatever the channel says, as far as the switch; the service holds still from now on.
    pub fn update_to(&mut self, offered: usize, version: &str) -> Result<()> {
        self.config.update.hold = Some("an operator decides".to_owned());
        let host = self.power_on(offered)?;
        let mut agent = Agent::open(&host, &self.config, &self.state)?;
        let overrides = Overrides { now: true, retry: true, allow_downgrade: true };
        let offer = agent.check(Some(&version.parse()?), overrides)?;
        if offer.is_taken() {
            agent.install(&offer, true, &mut Silent)?;
        }
        Ok(self.tape.look()?)
    }

    /// Gives some blocks of the slot that does not run a fault.
    pub fn fault(&self, fault: DiskFault, random: u64) -> Result<()> {
        let (_, slot) = self.world.next_boot(&self.tape.disk()).map_err(anyhow::Error::msg)?;
        let inactive = &parts()[if slot == Slot::A { 2 } else { 0 }];
        // Within the image.
        let at = inactive.start + random % 32 * 4096;
        self.tape.fault(fault, at..at + 4 * 4096);
        Ok(())
    }

    /// What the agent remembers.
    pub fn record(&self) -> Result<Record> {
        Ok(RecordFile::in_folder(&self.state).load()?.unwrap_or_default())
    }

    /// The version that the next boot starts.
    pub fn running(&self) -> Result<String> {
        let (index, _) = self.world.next_boot(&self.tape.disk()).map_err(anyhow::Error::msg)?;
        Ok(self.world.known[index].version.clone())
    }

    /// What is left over on the disk that nobody will ever use or clear away, and what is missing; nothing if all is well.
    pub fn leaks(&self) -> Result<Vec<String>> {
        let fat = Vfat::mount(&self.tape)?;
        let mut leaks = Vec::new();
        let mut names = fat.names()?;
        names.retain(|name| name.to_lowercase().ends_with(".efi"));
        // What fsck.fat emptied is cleared away by the next update.
        let full = names.iter().filter(|name| fat.length(name).is_ok_and(|length| length > 0)).count();
        if full > 2 || names.len() > 3 {
            leaks.push(format!("boot entries {names:?}"));
        }
        if fat.lost()? > 0 {
            leaks.push(format!("{} clusters of the ESP", fat.lost()?));
        }
        let files = self.tape.files()?;
        let known = [
            "state.json",
            "last-slot",
            "fresh",
            "kept",
            "reserve",
            "tuf/root.json",
            "tuf/timestamp.json",
            "tuf/snapshot.json",
            "tuf/targets.json",
        ];
        let is_known = |path: &Path| {
            known.iter().any(|known| path == Path::new(known))
                || ["etc/a", "etc/b"].iter().any(|slot| path.starts_with(slot))
        };
        leaks.extend(files.keys().filter(|path| !is_known(path)).map(|path| path.display().to_string()));
        let (_, slot) = self.world.next_boot(&self.tape.disk()).map_err(anyhow::Error::msg)?;
        let own = format!("etc/{slot}/upper/kept");
        for (kept, expected) in [("kept", "in var"), ("etc/a/upper/kept", "in etc"), (&own, "in etc")] {
            if files.get(Path::new(kept)).is_none_or(|found| found != expected.as_bytes()) {
                leaks.push(format!("{kept} is lost"));
            }
        }
        Ok(leaks)
    }

    /// What the initrd does to the state.
    fn make_state_ready(&self, slot: Slot) -> Result<()> {
        let layout = Layout::around(&self.state);
        let ready = prepare(&layout, &Hands::default(), &Plain, slot);
        let ready =
            ready.map_err(|stopped| anyhow::anyhow!("slot {slot} does not boot: {}", stopped.reason))?;
        ensure!(ready.complaints.is_empty(), "{:?}", ready.complaints);
        Ok(self.tape.look()?)
    }

    /// What firmware, boot loader and initrd do.
    fn power_on(&mut self, offered: usize) -> Result<VirtualHost> {
        let disk = self.tape.disk();
        let (index, slot) = self.world.next_boot(&disk).map_err(anyhow::Error::msg)?;
        count_down(&self.tape, &disk)?;
        Vfat::mount(&self.tape)?.check()?;
        self.boots += 1;
        let known = &self.world.known[index];
        self.make_state_ready(slot)?;
        let booted =
            Booted { slot, os: OS.parse()?, version: known.version.parse()?, root_hash: known.root_hash };
        Ok(VirtualHost::start(Start {
            tape: &self.tape,
            booted,
            boot_id: format!("boot {}", self.boots),
            now: self.world.now,
            jumps: self.clock_jumps,
            repository: Arc::clone(&self.world.repositories[offered]),
            troubles: std::mem::take(&mut self.troubles),
            parts: parts(),
            healthy: self.all_healthy || known.version != BAD,
            state: self.state.clone(),
        })?)
    }
}

/// An image that declares nothing.
struct Plain;

impl Image for Plain {
    fn file(&self, _: &str, _: usize) -> std::io::Result<Option<Vec<u8>>> {
        Ok(None)
    }
    fn names(&self, _: &str) -> std::io::Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// Nobody watches.
struct Silent;

impl Reporter for Silent {
    fn step(&mut self, _: &str) {}
    fn bytes(&mut self, _: u64, _: u64) {}
}

/// systemd-boot takes a try off the name of what it starts, and counts the boot where none is left.
fn count_down(tape: &Tape, disk: &Vec<u8>) -> Result<()> {
    let Some(chosen) = loader::next_boot(&Fat::open(disk)?)? else { return Ok(()) };
    let name = &chosen.file.name;
    let Some((left, rest)) = chosen.left.zip(name.split_once('+')) else { return Ok(()) };
    let done: u32 =
        rest.1.trim_end_matches(".efi").split_once('-').map_or(Ok(0), |(_, done)| done.parse())?;
    let counted = format!("{}+{}-{}.efi", rest.0, left.saturating_sub(1), done + 1);
    Ok(Vfat::mount(tape)?.rename_at_boot(name, &counted)?)
}
