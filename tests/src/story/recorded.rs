//! An update, its commit and a rollback on a real Debian, with every write and flush of the disk recorded; and machines that
//! are switched on again after a power cut.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::debian::{self, Settings};
use super::guest::{Guest, slot};
use super::publisher::Publisher;
use super::{Place, Teller};
use crate::vm::{Accelerator, BOOT_TIME, Hardware, Machine};

/// What runs first, and what it is updated to.
pub const RELEASES: [&str; 2] = ["1.0.0", "1.1.0"];

/// What a user left on the host before the first write that is recorded: a path in the guest and a content.
pub const KEPT: [(&str, &str); 2] = [("/etc/kept", "in etc"), ("/var/lib/kept", "in var")];

/// Where a program of the user's counts while it is recorded: a line is written, and synced, every few seconds.
pub const LINES: &str = "/var/lib/lines";

/// How long an agent may take from the first boot after a power cut to the end of what was cut off: an update and a trial.
const RECOVERY_TIME: Duration = Duration::from_secs(1500);

/// How often a host that recovers is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Counts. The unit is enabled on the host, and so runs on every release.
const COUNT: &str = "#!/bin/sh\\nn=$(wc -l < /var/lib/lines)\\nwhile sleep 10; do n=$((n + 1)); echo $n >> /var/lib/lines; \
                     sync /var/lib/lines; done\\n";
const COUNT_SERVICE: &str =
    "[Service]\\nExecStart=/bin/sh /etc/systemd/system/count\\n[Install]\\nWantedBy=multi-user.target\\n";

/// What was recorded, and the repository that the host still follows.
pub struct Recording {
    place: Place,
    teller: Teller,
    publisher: Publisher,
    accelerator: Accelerator,
}

/// How a host came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The version that the first boot ran.
    pub booted: String,
    /// The version that ran in the end.
    pub settled: String,
    /// How many boots there were.
    pub boots: usize,
}

impl Recording {
    /// Records in `place`; what was done there before is not done again.
    pub fn of(place: &Place, teller: Teller) -> Result<Self> {
        let accelerator = Accelerator::detect();
        let port_file = place.work.join("port");
        let publisher = match fs::read_to_string(&port_file) {
            Ok(port) => {
                Publisher::open(&place.work, port.trim().parse().context("reading the port's number")?)?
            }
            Err(_) => Publisher::new(&place.work)?,
        };
        let recording = Self { place: place.clone(), teller, publisher, accelerator };
        recording.once("built", || recording.build()).context("building the releases")?;
        // The hosts know this port.
        fs::write(&port_file, recording.publisher.port().to_string()).context("writing the port's number")?;
        recording.once("settled", || recording.settle_in()).context("the first boot")?;
        recording
            .once("recorded", || recording.record())
            .context("the recorded update, commit and rollback")?;
        Ok(recording)
    }

    /// Takes a step, unless it was taken before.
    fn once(&self, step: &str, take: impl FnOnce() -> Result<()>) -> Result<()> {
        let done = self.place.work.join(format!("{step}.done"));
        if done.exists() {
            self.teller.say(&format!("{step} before"));
            return Ok(());
        }
        take()?;
        fs::write(&done, "").with_context(|| format!("writing {}", done.display()))
    }

    /// The disk before the first write that was recorded.
    pub fn base(&self) -> PathBuf {
        self.place.work.join("base.img")
    }

    /// The recorded writes and flushes.
    pub fn log(&self) -> PathBuf {
        self.place.work.join("recording.log")
    }

    /// How long the recording was when an operator typed the rollback, in bytes.
    pub fn asked_at(&self) -> Result<u64> {
        let text =
            fs::read_to_string(self.place.work.join("asked")).context("when the rollback was typed")?;
        text.trim().parse().context("when the rollback was typed")
    }

    /// The UKI of a release, as it was built.
    pub fn built_uki(&self, version: &str) -> PathBuf {
        self.publisher.build_folder(version).join(upright_image_builder::repo::build::UKI)
    }

    fn build(&self) -> Result<()> {
        // What is fetched plays no part here.
        self.publisher.compress_lightly()?;
        let settings =
            Settings { url: self.publisher.url_for_guests(), root_json: self.publisher.root_json() };
        for version in RELEASES {
            let tar = debian::release(&self.place, &settings, version)?;
            self.publisher.build(&tar, version)?;
            fs::remove_file(&tar)?;
            self.teller.say(&format!("{version} is built"));
        }
        self.publisher.publish(RELEASES[0])?;
        self.publisher.disk(RELEASES[0], &self.base())
    }

    /// The host starts for the first time, makes its state and gets its user's files. Nothing of that is recorded.
    fn settle_in(&self) -> Result<()> {
        let mut guest = self.start(&self.base(), "first-boot", None, true)?;
        guest.come_up(RELEASES[0])?;
        for (path, content) in KEPT {
            guest.vm.read(&format!("echo '{content}' > {path}"))?;
        }
        guest.wait_for_status("the agent's first look", |status| status["last_contact"].is_string())?;
        for (path, text) in [("count", COUNT), ("count.service", COUNT_SERVICE)] {
            guest.vm.read(&format!("printf '{text}' > /etc/systemd/system/{path}"))?;
        }
        guest.vm.read("systemctl daemon-reload; systemctl enable count.service")?;
        guest.vm.read("systemctl stop upright.service; journalctl --flush; sync")?;
        guest.vm.start("systemctl poweroff")?;
        guest.vm.wait_until_off(BOOT_TIME)
    }

    fn record(&self) -> Result<()> {
        let disk = self.place.work.join("disk.img");
        copy_sparse(&self.base(), &disk)?;
        let mut guest = self.start(&disk, "recorded", Some(self.log()), true)?;
        guest.come_up(RELEASES[0])?;
        self.publisher.publish(RELEASES[1])?;
        self.teller.say("1.1.0 is published; the agent is left to itself");
        guest.come_up(RELEASES[1])?;
        guest.wait_until_proven(RELEASES[1])?;
        self.teller.say("1.1.0 is proven healthy; an operator types `upright rollback`");
        let asked = fs::metadata(self.log()).context("looking at the recording")?.len();
        fs::write(self.place.work.join("asked"), asked.to_string()).context("noting the rollback")?;
        guest.vm.start("upright rollback")?;
        guest.come_up(RELEASES[0])?;
        guest.wait_for_status("the end of the rollback", |status| status["state"]["state"] == "idle")?;
        guest.vm.read("sync").map(drop)
    }

    /// Resets are warm where one process records all boots, or where the machine is to go off.
    fn start(&self, disk: &Path, name: &str, recording: Option<PathBuf>, warm_resets: bool) -> Result<Guest> {
        let machine = Machine {
            disk: disk.to_owned(),
            folder: self.place.work.join(name),
            memory: 1024,
            secure_boot: false,
            accelerator: self.accelerator,
            recording,
            warm_resets,
            medium: None,
            hardware: Hardware::default(),
        };
        Ok(Guest { vm: machine.start()?, teller: self.teller })
    }

    /// Switches a machine on with `disk` as a power cut left it. It must come up, its agent must end what was cut off, and its
    /// user's files must be there.
    pub fn revive(&self, disk: &Path) -> Result<Recovered> {
        let mut guest = self.start(disk, "revived", None, false)?;
        let until = Instant::now() + RECOVERY_TIME;
        guest.vm.wait_for_boots(1, BOOT_TIME)?;
        // The agent may restart the machine before anybody can ask what runs.
        let names = RELEASES.map(debian::pretty_name);
        let (which, _) = guest.vm.console().wait_for(&names.each_ref().map(String::as_str), BOOT_TIME)?;
        let booted = RELEASES[which].to_owned();
        guest.vm.log_in()?;
        let mut status = look(&mut guest)?;
        while !has_settled(&status) {
            ensure!(Instant::now() < until, "the agent did not come to an end: {status}");
            std::thread::sleep(LOOK_EVERY);
            status = look(&mut guest)?;
        }
        for (path, content) in KEPT {
            let found = guest.vm.read(&format!("cat {path}"))?;
            ensure!(found == content, "{path} holds {found:?}");
        }
        let settled = running(&status);
        Ok(Recovered { booted, settled, boots: guest.vm.boots() })
    }
}

/// The status; after a restart meanwhile, that of the new boot.
fn look(guest: &mut Guest) -> Result<Value> {
    let boots = guest.vm.boots();
    if let Ok(status) = guest.status() {
        return Ok(status);
    }
    if guest.vm.boots() == boots {
        guest.vm.wait_for_boots(1, BOOT_TIME)?;
    }
    guest.vm.log_in()?;
    guest.status()
}

fn running(status: &Value) -> String {
    slot(status, true)["version"].as_str().unwrap_or("?").to_owned()
}

/// Whether the agent has nothing more to do: the newest release is proven, or an operator left it.
fn has_settled(status: &Value) -> bool {
    let proven = slot(status, true)["verdict"] == "proven";
    let left = status["decision"]["version"] == RELEASES[1] && status["decision"]["because"] == "bad";
    status["state"]["state"] == "idle" && proven && (running(status) == RELEASES[1] || left)
}

/// Copies a file and leaves its holes.
pub fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    let copied = std::process::Command::new("cp")
        .args(["--sparse=always", "--reflink=auto"])
        .args([from, to])
        .status()
        .context("cannot run cp")?;
    ensure!(copied.success(), "cp of {} ended with {copied}", from.display());
    Ok(())
}
