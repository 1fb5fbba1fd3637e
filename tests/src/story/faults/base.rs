//! The machine that every case begins from, frozen twice: when 1.0.0 has settled, and when 1.1.0 stands ready in the other slot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::os::{self, NEW, OLD};
use crate::story::debian::Settings;
use crate::story::guest::{Guest, slot};
use crate::story::publisher::Publisher;
use crate::story::{Place, Teller};
use crate::vm::{Accelerator, BOOT_TIME, Hardware, Machine};

/// How long an update may take that writes a whole slot.
pub(super) const UPDATE_TIME: Duration = Duration::from_secs(600);

/// Where a frozen machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// 1.0.0 runs, and 1.1.0 is published.
    Settled,
    /// The next boot takes 1.1.0, once.
    Switched,
}

impl From {
    fn name(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Switched => "switched",
        }
    }
}

/// The frozen machines, and the repository that they follow.
pub(super) struct Base {
    place: Place,
    pub(super) teller: Teller,
    publisher: Publisher,
    accelerator: Accelerator,
}

impl Base {
    /// Makes it in `place`; what was made there before is not made again.
    pub(super) fn of(place: &Place, teller: Teller) -> Result<Self> {
        let port_file = place.work.join("port");
        let publisher = match fs::read_to_string(&port_file) {
            Ok(port) => {
                Publisher::open(&place.work, port.trim().parse().context("reading the port's number")?)?
            }
            Err(_) => Publisher::new(&place.work)?,
        };
        let base = Self { place: place.clone(), teller, publisher, accelerator: Accelerator::detect() };
        base.once("built", || base.build()).context("building the releases")?;
        // The hosts know this port.
        fs::write(&port_file, base.publisher.port().to_string()).context("writing the port's number")?;
        base.once("settled", || base.settle()).context("the first boot")?;
        base.once("switched", || base.switch()).context("the switch")?;
        Ok(base)
    }

    fn once(&self, step: &str, take: impl FnOnce() -> Result<()>) -> Result<()> {
        let done = self.place.work.join(format!("{step}.done"));
        if !done.exists() {
            take()?;
            fs::write(&done, "").with_context(|| format!("writing {}", done.display()))?;
        }
        self.teller.say(&format!("base: {step}"));
        Ok(())
    }

    fn build(&self) -> Result<()> {
        // What is fetched plays no part here.
        self.publisher.compress_lightly()?;
        let settings =
            Settings { url: self.publisher.url_for_guests(), root_json: self.publisher.root_json() };
        for version in [OLD, NEW] {
            let tar = os::release(&self.place, &settings, version)?;
            self.publisher.build(&tar, version)?;
            fs::remove_file(&tar)?;
            self.publisher.publish(version)?;
        }
        self.publisher.disk(OLD, &self.disk(From::Settled))
    }

    fn settle(&self) -> Result<()> {
        let mut guest = self.power_on(
            &self.disk(From::Settled),
            "settled",
            Hardware { watchdog: true, ..Hardware::default() },
        )?;
        guest.vm.wait_for_boots(1, BOOT_TIME)?;
        guest.vm.log_in()?;
        require_running(&mut guest, OLD)?;
        let watched = guest.vm.read("journalctl --quiet --boot | grep -c 'Using hardware watchdog'")?;
        ensure!(
            watched == "2",
            "the watchdog was not used by both the initrd and the system, but {watched} times"
        );
        // From here on nothing happens unless the case says so.
        guest.vm.read("systemctl stop upright.service")?;
        let reached = guest.vm.run_within("until upright check; do sleep 1; done", BOOT_TIME)?;
        ensure!(reached.text.contains(NEW), "the agent sees no {NEW}: {reached:?}");
        guest.vm.read("journalctl --flush; sync")?;
        let start = guest
            .vm
            .read("cat /sys/class/block/$(basename $(readlink -f /dev/disk/by-partlabel/root-b))/start")?;
        fs::write(self.place.work.join("slot-b"), start).context("noting where slot b begins")?;
        guest.vm.freeze(&self.frozen(From::Settled))
    }

    fn switch(&self) -> Result<()> {
        let disk = self.disk(From::Switched);
        overlay(&self.disk(From::Settled), &disk)?;
        let mut guest = self.resume(From::Settled, &disk, "switched", Hardware::default())?;
        update(&mut guest)?;
        guest.vm.read("sync")?;
        guest.vm.freeze(&self.frozen(From::Switched))
    }

    /// The frozen machine goes on, with a disk of its own.
    pub(super) fn wake(&self, from: From, name: &str, hardware: Hardware) -> Result<Guest> {
        let disk = self.place.work.join(name).join("disk.qcow2");
        fs::create_dir_all(self.place.work.join(name))
            .with_context(|| format!("making the folder {name}"))?;
        overlay(&self.disk(from), &disk)?;
        self.resume(from, &disk, name, hardware)
    }

    /// Throws away the disk of a case.
    pub(super) fn clean(&self, name: &str) -> Result<()> {
        Ok(fs::remove_file(self.place.work.join(name).join("disk.qcow2"))?)
    }

    /// Where in the image of a release a file begins, in bytes.
    pub(super) fn offset_of(&self, version: &str, path: &str) -> Result<u64> {
        let image = self.publisher.build_folder(version).join(upright_image_builder::repo::build::IMAGE);
        let image = fs::read(&image).with_context(|| format!("reading {}", image.display()))?;
        let reader = upright_manifests::erofs::Reader::open(&image[..])?;
        let node = reader.lookup(path.as_bytes())?.with_context(|| format!("the image has no {path}"))?;
        Ok(u64::from(node.inode.block) * upright_manifests::BLOCK_SIZE)
    }

    /// The first sector of slot b's root partition.
    pub(super) fn slot_b(&self) -> Result<u64> {
        let text =
            fs::read_to_string(self.place.work.join("slot-b")).context("reading where slot b begins")?;
        text.trim().parse().context("reading where slot b begins")
    }

    fn disk(&self, from: From) -> PathBuf {
        self.place.work.join(if from == From::Settled { "settled.img" } else { "switched.qcow2" })
    }

    fn frozen(&self, from: From) -> PathBuf {
        self.place.work.join(format!("{}.frozen", from.name()))
    }

    fn machine(&self, disk: &Path, name: &str, hardware: Hardware) -> Machine {
        Machine {
            disk: disk.to_owned(),
            folder: self.place.work.join(name),
            memory: 1024,
            secure_boot: false,
            accelerator: self.accelerator,
            recording: None,
            warm_resets: false,
            medium: None,
            hardware,
        }
    }

    fn power_on(&self, disk: &Path, name: &str, hardware: Hardware) -> Result<Guest> {
        Ok(Guest { vm: self.machine(disk, name, hardware).start()?, teller: self.teller })
    }

    fn resume(&self, from: From, disk: &Path, name: &str, hardware: Hardware) -> Result<Guest> {
        let hardware = Hardware { watchdog: true, ..hardware };
        let mut vm = self.machine(disk, name, hardware).resume(&self.frozen(from))?;
        // The first byte that comes over a line after a rest may be lost.
        vm.start("")?;
        vm.start("")?;
        Ok(Guest { vm, teller: self.teller })
    }
}

/// The operator's update, up to where the next boot takes the release.
pub(super) fn update(guest: &mut Guest) -> Result<()> {
    let updated = guest.vm.run_within("upright update", UPDATE_TIME)?;
    ensure!(updated.code == 0, "upright update: {updated:?}");
    let status = guest.status()?;
    ensure!(status["state"]["state"] == "switched", "{NEW} was not switched to: {status}");
    Ok(())
}

/// An error unless that release runs.
pub(super) fn require_running(guest: &mut Guest, version: &str) -> Result<()> {
    let status = guest.status()?;
    let running = &slot(&status, true)["version"];
    ensure!(running == version, "{running} runs instead of {version}: {status}");
    Ok(())
}

/// Makes a disk that holds what `below` does, and keeps what is written to it to itself.
fn overlay(below: &Path, disk: &Path) -> Result<()> {
    let format = if below.extension().is_some_and(|name| name == "qcow2") { "qcow2" } else { "raw" };
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", format, "-b"])
        .args([below, disk])
        .status()
        .context("cannot run qemu-img")?;
    ensure!(made.success(), "qemu-img create of {} ended with {made}", disk.display());
    Ok(())
}
