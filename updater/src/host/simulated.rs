//! A host made of plain files, for trying things out without a machine: `upright --root DIR`.
//!
//! ```text
//! DIR/dev/root-a  root-a-verity  root-b  root-b-verity    the slots, files of the partitions' size
//! DIR/esp/                                                the ESP, with the UKIs as on a real one
//! DIR/etc/upright/upright.toml  DIR/etc/machine-id
//! DIR/efivars/                                            the firmware's variables, if it is to enforce Secure Boot
//! DIR/var/lib/upright/                                    the agent's state
//! DIR/run/cmdline  DIR/run/slot  DIR/run/boot_id          the boot that "runs"
//! DIR/run/volatile                                        there if that boot could not use the state
//! DIR/run/upright/                                        empty at each boot
//! DIR/run/clock                                           what its clock says, RFC 3339; this machine's without it
//! ```
//!
//! The boot loader's state is kept by the same back end as on a machine with systemd-boot. A "reboot" does what the
//! firmware, systemd-boot and the initrd would: pick the entry, take a try off its name, find the slot by the UUIDs on the UKI's
//! command line. Units are simulated too: one is active if the program that its file in the booted image starts is in that
//! image.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use upright_manifests::digest::Digest;
use upright_manifests::name::Slot;

use clock::SimulatedClock;

use super::booted::{Booted, BootedError};
use super::linux::{HostError, label};
use super::{
    Access, BlockDevice, Clock, Host, Machine, Part, Remote, Slots, carry_configuration, secure_boot, traces,
};
use crate::boot::BootLoader;
use crate::boot::systemd_boot::SystemdBoot;
use crate::config::{Config, Probe};
use crate::fetch::HttpRemote;
use crate::health::{Probed, Prober, SystemProber};
use crate::machine::Evidence;
use crate::slot::Partition;

mod clock;
mod firmware;
mod units;

#[cfg(test)]
pub(crate) use firmware::take_entry;

/// A host made of the files below a folder.
pub struct SimulatedHost {
    clock: SimulatedClock,
    remote: HttpRemote,
    files: Files,
    boot: SystemdBoot,
    esp: PathBuf,
}

/// The folder.
struct Files(PathBuf);

impl SimulatedHost {
    /// The host below `root`. One that was never "booted" is booted first.
    pub fn open(root: &Path, config: &Config) -> Result<Self, HostError> {
        let remote = HttpRemote::of(config)?;
        let files = Files(root.to_owned());
        let up = match root.join("run/cmdline").exists() {
            true => Ok(()),
            false => firmware::boot(root),
        };
        let clock = up.and_then(|()| SimulatedClock::read(&root.join("run/clock")));
        let clock = clock.map_err(|source| HostError::Simulated { root: root.to_owned(), source })?;
        let esp = root.join("esp");
        Ok(Self { clock, remote, files, boot: SystemdBoot::of_machine(root, &esp), esp })
    }
}

impl Host for SimulatedHost {
    fn clock(&self) -> &dyn Clock {
        &self.clock
    }
    fn remote(&self) -> &dyn Remote {
        &self.remote
    }
    fn slots(&self) -> &dyn Slots {
        &self.files
    }
    fn boot(&self) -> &dyn BootLoader {
        &self.boot
    }
    fn machine(&self) -> &dyn Machine {
        &self.files
    }
    fn prober(&self) -> &dyn Prober {
        self
    }
    fn esp(&self) -> Option<&Path> {
        Some(&self.esp)
    }
}

impl Prober for SimulatedHost {
    fn probe(&self, probe: &Probe, timeout: Duration) -> Probed {
        match probe {
            Probe::Unit(unit) => self.files.booted().map_err(io::Error::other).map_or_else(
                |error| Probed { message: error.to_string(), ..Probed::default() },
                |booted| units::look(&self.files, booted.slot, unit),
            ),
            probe => SystemProber { remote: &self.remote }.probe(probe, timeout),
        }
    }

    fn failed_units(&self, _: Duration) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
}

impl Slots for Files {
    fn open(&self, slot: Slot, part: Part, access: Access) -> io::Result<Box<dyn BlockDevice>> {
        Ok(Box::new(Partition::open(&self.0.join("dev").join(label(slot, part)), access)?))
    }
}

impl Machine for Files {
    fn id(&self) -> String {
        fs::read_to_string(self.0.join("etc/machine-id")).unwrap_or_default().trim().to_owned()
    }

    fn booted(&self) -> Result<Booted, BootedError> {
        let read = |name: &str| {
            let path = self.0.join("run").join(name);
            fs::read_to_string(&path)
                .map_err(|source| BootedError::Read { path: path.display().to_string(), source })
        };
        let text = read("slot")?;
        let slot = text.trim().parse().map_err(|_| BootedError::Slot(text.trim().to_owned()))?;
        Booted::parse(&read("cmdline")?, slot)
    }

    fn image_time(&self) -> Option<Timestamp> {
        units::image_time(self, self.booted().ok()?.slot)
    }

    fn accepted_signers(&self) -> io::Result<Option<BTreeSet<Digest>>> {
        secure_boot::accepted(&self.0.join("efivars"))
    }

    fn boot_id(&self) -> io::Result<String> {
        Ok(fs::read_to_string(self.0.join("run/boot_id"))?.trim().to_owned())
    }

    fn carry_configuration(&self, from: Slot, to: Slot) -> io::Result<()> {
        carry_configuration(&self.0.join("var/lib/upright"), from, to)
    }

    fn state_in_memory(&self) -> bool {
        self.0.join("run/volatile").exists()
    }

    fn memory(&self) -> Option<PathBuf> {
        Some(self.0.join("run/upright"))
    }

    fn traces(&self) -> Evidence {
        traces::read(&self.0, &self.0.join("var/lib/upright"))
    }

    fn journal(&self, _: &str) -> Vec<String> {
        Vec::new()
    }

    fn reboot(&self) -> io::Result<()> {
        firmware::boot(&self.0)
    }
}

/// The next boot's id: a number that grows.
fn next_boot_id(last: &str) -> String {
    let count: u64 = last.trim().rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0);
    format!("boot-{}", count.saturating_add(1))
}
