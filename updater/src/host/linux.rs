//! A Linux machine: partitions by label, its boot loader, `/proc` and `/sys`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use upright_manifests::digest::Digest;
use upright_manifests::name::Slot;

use super::booted::{Booted, BootedError};
use super::clock::SystemClock;
use super::{
    Access, BlockDevice, Clock, Host, Machine, Part, Remote, Slots, carry_configuration, secure_boot, traces,
};
use crate::boot::{self, BootLoader};
use crate::config::{Config, Probe};
use crate::fetch::{AddressError, HttpRemote};
use crate::health::{Probed, Prober, SystemProber};
use crate::machine::Evidence;
use crate::program;
use crate::slot::Partition;

/// Where the ESP is looked for.
const ESP_PLACES: [&str; 3] = ["/efi", "/boot/efi", "/boot"];

/// How long journalctl(1) may take.
const JOURNAL_TIME: Duration = Duration::from_secs(60);

/// The machine this program runs on.
pub struct LinuxHost {
    clock: SystemClock,
    remote: HttpRemote,
    slots: Partitions,
    boot: Box<dyn BootLoader>,
    machine: LinuxMachine,
    esp: PathBuf,
}

/// Why this machine cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// No ESP is mounted.
    #[error("no EFI system partition is mounted at {}; mount it or set `esp` in [boot]", ESP_PLACES.join(", "))]
    NoEsp,
    /// The boot loader cannot be worked with.
    #[error(transparent)]
    Boot(#[from] boot::OpenError),
    /// The repository's address cannot be used.
    #[error(transparent)]
    Remote(#[from] AddressError),
    /// A folder is not a simulated host, or one that does not come up.
    #[error("{root} is not a simulated host: {source}; `upright-build disk VERSION --simulated` makes one")]
    Simulated {
        /// The folder.
        root: PathBuf,
        /// What is missing or wrong.
        source: io::Error,
    },
}

impl LinuxHost {
    /// The machine this program runs on, with its state in `state`.
    pub fn new(config: &Config, state: &Path) -> Result<Self, HostError> {
        let esp = match &config.boot.esp {
            Some(esp) => esp.clone(),
            None => find_esp(Path::new("/")).ok_or(HostError::NoEsp)?,
        };
        let remote = HttpRemote::of(config)?;
        Ok(Self {
            clock: SystemClock::default(),
            remote,
            slots: Partitions,
            boot: boot::open(&config.boot, Path::new("/"), &esp)?,
            esp,
            machine: LinuxMachine { state: state.to_owned() },
        })
    }
}

fn find_esp(root: &Path) -> Option<PathBuf> {
    ESP_PLACES.iter().map(|place| root.join(&place[1..])).find(|place| place.join("EFI").is_dir())
}

impl Host for LinuxHost {
    fn clock(&self) -> &dyn Clock {
        &self.clock
    }
    fn remote(&self) -> &dyn Remote {
        &self.remote
    }
    fn slots(&self) -> &dyn Slots {
        &self.slots
    }
    fn boot(&self) -> &dyn BootLoader {
        self.boot.as_ref()
    }
    fn machine(&self) -> &dyn Machine {
        &self.machine
    }
    fn prober(&self) -> &dyn Prober {
        self
    }
    fn esp(&self) -> Option<&Path> {
        Some(&self.esp)
    }
}

impl Prober for LinuxHost {
    fn probe(&self, probe: &Probe, timeout: Duration) -> Probed {
        SystemProber { remote: &self.remote }.probe(probe, timeout)
    }

    fn failed_units(&self, timeout: Duration) -> Result<Vec<String>, String> {
        SystemProber { remote: &self.remote }.failed_units(timeout)
    }
}

/// Slot partitions by their GPT label.
struct Partitions;

impl Slots for Partitions {
    fn open(&self, slot: Slot, part: Part, access: Access) -> io::Result<Box<dyn BlockDevice>> {
        let path = Path::new("/dev/disk/by-partlabel").join(label(slot, part));
        Ok(Box::new(Partition::open(&path, access)?))
    }
}

/// A partition's label, and its file's name on a simulated host.
pub(crate) fn label(slot: Slot, part: Part) -> String {
    match part {
        Part::Root => format!("root-{slot}"),
        Part::Verity => format!("root-{slot}-verity"),
    }
}

struct LinuxMachine {
    state: PathBuf,
}

impl Machine for LinuxMachine {
    fn id(&self) -> String {
        fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_owned()
    }

    fn booted(&self) -> Result<Booted, BootedError> {
        Booted::parse(&read("/proc/cmdline")?, booted_slot()?)
    }

    fn image_time(&self) -> Option<Timestamp> {
        let meta = fs::metadata("/usr/lib/os-release").ok()?;
        Timestamp::from_second(meta.mtime()).ok()
    }

    fn accepted_signers(&self) -> io::Result<Option<BTreeSet<Digest>>> {
        secure_boot::accepted(Path::new("/sys/firmware/efi/efivars"))
    }

    fn boot_id(&self) -> io::Result<String> {
        Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
    }

    fn carry_configuration(&self, from: Slot, to: Slot) -> io::Result<()> {
        carry_configuration(&self.state, from, to)
    }

    fn state_in_memory(&self) -> bool {
        // The initrd's mount-state leaves it.
        Path::new("/run/upright/volatile").exists()
    }

    fn memory(&self) -> Option<PathBuf> {
        Some("/run/upright".into())
    }

    fn traces(&self) -> Evidence {
        traces::read(Path::new("/"), &self.state)
    }

    fn journal(&self, boot: &str) -> Vec<String> {
        let words = [
            "journalctl",
            "--quiet",
            "--no-pager",
            "--output=short-monotonic",
            "--priority=warning",
            "--lines=10",
        ];
        let mut words: Vec<String> = words.map(str::to_owned).into();
        words.push(format!("--boot={boot}"));
        match program::run(&words, JOURNAL_TIME) {
            Ok(ran) if ran.status.is_some_and(|status| status.success()) => {
                ran.stdout.lines().map(str::to_owned).collect()
            }
            // A journal that is gone, or was never kept, is no reason to say nothing else.
            _ => Vec::new(),
        }
    }

    fn reboot(&self) -> io::Result<()> {
        match Command::new("systemctl").arg("reboot").status() {
            Ok(status) if status.success() => Ok(()),
            // A system too broken to stop its services in order must still come back.
            _ => {
                rustix::fs::sync();
                rustix::system::reboot(rustix::system::RebootCommand::Restart).map_err(io::Error::from)
            }
        }
    }
}

fn read(path: &str) -> Result<String, BootedError> {
    fs::read_to_string(path).map_err(|source| BootedError::Read { path: path.to_owned(), source })
}

/// The slot below the root file system: its dm-verity device's data partition, by GPT label.
///
/// Source: Linux `Documentation/ABI/testing/sysfs-block`; `slaves/` of a device-mapper device lists what it is
/// made of, `uevent` of a partition has its label as `PARTNAME`.
fn booted_slot() -> Result<Slot, BootedError> {
    let meta = fs::metadata("/").map_err(|source| BootedError::Read { path: "/".to_owned(), source })?;
    let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    let device = format!("/sys/dev/block/{major}:{minor}");
    let below = fs::read_dir(format!("{device}/slaves")).into_iter().flatten().flatten();
    let mut names = below.map(|entry| entry.path().join("uevent")).filter_map(|path| partition_label(&path));
    names
        .find_map(|name| Slot::ALL.into_iter().find(|slot| label(*slot, Part::Root) == name))
        .ok_or_else(|| BootedError::Slot(format!("block device {major}:{minor}")))
}

fn partition_label(uevent: &Path) -> Option<String> {
    let text = fs::read_to_string(uevent).ok()?;
    text.lines().find_map(|line| line.strip_prefix("PARTNAME=")).map(str::to_owned)
}
