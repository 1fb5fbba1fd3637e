//! The story on a real Debian in a virtual machine.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::debian::{self, SERVICE, Settings};
use super::guest::Guest;
use super::publisher::Publisher;
use super::table::{Row, Summary};
use super::{Loader, Place, Teller, loader};
use crate::vm::{Accelerator, BOOT_TIME, Hardware, Machine};

/// What prints the format of the service's database.
const DATABASE: &str = "cat /var/lib/demo/db";

/// What set up the root's verity device, in use as long as the system runs.
const ROOT_DEVICE: &str = "systemd-veritysetup@root.service";

/// The exit code of what policy speaks against.
const REFUSED: i32 = 3;

/// Tells it in `place`, of a machine with that boot loader.
pub fn on_a_machine(place: &Place, boot_loader: Loader, teller: Teller) -> Result<Summary> {
    let publisher = Publisher::new(&place.work)?;
    let settings = Settings { url: publisher.url_for_guests(), root_json: publisher.root_json() };
    teller.say(
        "root file systems: a Debian bookworm, the same with OpenSSL updated, and one whose service fails",
    );
    let full_bytes = build_all(place, &publisher, &settings, teller)?;
    let disk = place.work.join("disk.img");
    publisher.disk("1.0.0", &disk).context("writing the disk image")?;
    loader::install(boot_loader, place, &disk, "EFI/Linux/demo_1.0.0.efi")
        .context("replacing the boot loader")?;

    let accelerator = Accelerator::detect();
    let machine = Machine {
        disk,
        folder: place.work.clone(),
        memory: 1024,
        secure_boot: false,
        accelerator,
        recording: None,
        warm_resets: false,
        medium: None,
        hardware: Hardware { bios: boot_loader == Loader::GrubBios, ..Hardware::default() },
    };
    let host = match accelerator {
        Accelerator::Kvm => "qemu with kvm",
        Accelerator::Tcg => "qemu with tcg",
    };
    teller.say(&format!("1.0.0: the disk image boots ({host})"));
    let mut told = Told { guest: Guest { vm: machine.start()?, teller }, publisher, full_bytes };
    let rows = told
        .tell()
        .with_context(|| format!("the serial line's log is {}", machine.serial_log().display()))?;
    Ok(Summary { host: host.to_owned(), seconds: teller.seconds(), full_bytes, rows })
}

/// Builds the three releases, publishes the first, and gives the size of its full payload.
fn build_all(place: &Place, publisher: &Publisher, settings: &Settings, teller: Teller) -> Result<u64> {
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        let tar = debian::release(place, settings, version)?;
        publisher.build(&tar, version).with_context(|| format!("building {version}"))?;
        fs::remove_file(&tar)?;
        teller.say(&format!("{version} is built"));
    }
    publisher.publish("1.0.0").context("publishing 1.0.0")
}

/// A machine that runs, and who publishes for it.
struct Told {
    guest: Guest,
    publisher: Publisher,
    full_bytes: u64,
}

impl Told {
    fn tell(&mut self) -> Result<Vec<Row>> {
        let first = self.first_boot().context("1.0.0 from its disk image")?;
        let updated = self.unattended_update().context("1.1.0 by the agent alone")?;
        let (back, forward) =
            self.rollback_and_forward().context("an operator's rollback, and forward again")?;
        let failed = self.failing_release().context("1.2.0, whose service fails")?;
        let reset = self.factory_reset().context("a factory reset")?;
        Ok(vec![first, updated, back, forward, failed, reset])
    }

    fn first_boot(&mut self) -> Result<Row> {
        self.guest.come_up("1.0.0")?;
        // As systemd does by itself where udev loses sight of a partition for a moment.
        let stopped = format!("systemctl stop {ROOT_DEVICE}; systemctl is-failed {ROOT_DEVICE} || true");
        self.expect(&[(&stopped, "inactive")])?;
        let way = "disk image".to_owned();
        let verdict = "runs".to_owned();
        Ok(Row { way, verdict, ..Row::in_its_slot("1.0.0", "") })
    }

    fn unattended_update(&mut self) -> Result<Row> {
        let before = self.guest.vm.read("openssl version")?;
        // What an administrator changed in /etc must come along.
        self.guest.vm.read("echo kept > /etc/demo-local; echo mine > /etc/demo.conf")?;
        self.publisher.publish("1.1.0")?;
        self.guest.teller.say("1.1.0 is published; the agent is left to itself");
        self.guest.come_up("1.1.0")?;
        self.guest.wait_until_proven("1.1.0")?;
        let after = self.guest.vm.read("openssl version")?;
        ensure!(before != after, "OpenSSL is still {before}");
        let kept = self.guest.vm.read("cat /etc/demo-local")?;
        ensure!(kept == "kept", "/etc/demo-local holds {kept:?}");
        let history = self.guest.history()?;
        let boots = trial_boots(&history, "1.1.0")?;
        ensure!(boots == 1, "1.1.0 was healthy, and yet its trial took {boots} boots");
        let row = Row::fetched(&history, "1.1.0", boots, "healthy".to_owned())?;
        self.guest.teller.say(&format!("1.1.0 is proven healthy; {before} became {after}"));
        row.require_small_delta(self.full_bytes)
    }

    fn rollback_and_forward(&mut self) -> Result<(Row, Row)> {
        let rotated = self.use_it()?;
        let plan = self.guest.vm.read("upright plan")?;
        ensure!(plan.contains("/etc/demo.conf: changed here and in 1.0.0"), "`upright plan` says {plan}");
        self.guest.teller.say(&format!("`upright plan` says what comes with the other slot:\n{plan}"));
        self.guest.teller.say("an operator types `upright rollback`");
        self.guest.vm.start("upright rollback")?;
        self.guest.come_up("1.0.0")?;
        self.expect(&[
            ("cat /etc/demo-local", "kept"),
            (DATABASE, "format 1"),
            ("grep ^root: /etc/shadow", rotated.as_str()),
        ])?;
        self.guest.teller.say("the database and /etc are as they were, and the rotated password is in force");
        let plan = self.guest.vm.read("upright plan")?;
        ensure!(
            plan.contains("/var/lib/demo: is as it was when the slot ran last"),
            "`upright plan` says {plan}"
        );
        let refused = self.guest.run_alone("upright update")?;
        ensure!(refused.code == REFUSED, "1.1.0 was rolled back, and yet `upright update` says: {refused:?}");
        self.guest.teller.say("and once more, to go forward again");
        self.guest.vm.start("upright rollback")?;
        self.guest.come_up("1.1.0")?;
        self.guest.wait_until_proven("1.1.0")?;
        self.expect(&[("cat /etc/demo-local", "changed"), (DATABASE, "format 2")])?;
        let back = Row::in_its_slot("1.0.0", "an operator went back to it");
        Ok((back, Row::in_its_slot("1.1.0", "an operator went forward to it; healthy")))
    }

    /// What happens on 1.1.0: its service has migrated the database, and an operator changes this and that. Gives root's new
    /// password as the host keeps it.
    fn use_it(&mut self) -> Result<String> {
        self.expect(&[(DATABASE, "format 2")])?;
        let before = self.guest.vm.read("grep ^root: /etc/shadow")?;
        self.guest.vm.read("echo root:rotated | chpasswd; echo changed > /etc/demo-local")?;
        let rotated = self.guest.vm.read("grep ^root: /etc/shadow")?;
        ensure!(rotated != before, "root's password was not changed");
        Ok(rotated)
    }

    /// Commands, each with what it must print.
    fn expect(&mut self, told: &[(&str, &str)]) -> Result<()> {
        for (command, expected) in told {
            let said = self.guest.vm.read(command)?;
            ensure!(said == *expected, "{command:?} says {said:?}, expected {expected:?}");
        }
        Ok(())
    }

    /// Back to an empty /etc and /var, from which the system boots, healthy; what the agent knows is still there.
    fn factory_reset(&mut self) -> Result<Row> {
        self.guest.vm.read("touch /var/lib/left-behind")?;
        self.guest.teller.say("an operator types `upright reset --var --yes --reboot`");
        self.guest.vm.start("upright reset --var --yes --reboot")?;
        self.guest.come_up("1.1.0")?;
        self.guest.wait_until_proven("1.1.0")?;
        self.expect(&[
            ("ls /etc/demo-local /var/lib/left-behind 2> /dev/null | wc -l", "0"),
            ("cat /etc/demo.conf", "default of 1.1.0"),
            ("grep -c ^root:.y /etc/shadow || true", "0"),
            (DATABASE, "format 2"),
            ("systemctl is-active boot-complete.target", "active"),
        ])?;
        self.require_not_tried_again()?;
        Ok(Row::in_its_slot("1.1.0", "reset to an empty /etc and /var; healthy"))
    }

    fn failing_release(&mut self) -> Result<Row> {
        self.publisher.publish("1.2.0")?;
        self.guest.teller.say("1.2.0 is published; the agent is left to itself");
        let boots = self.guest.vm.boots();
        self.guest.vm.wait_for_boots(1, 2 * BOOT_TIME).context("the agent did not reboot into 1.2.0")?;
        self.guest.teller.say("1.2.0 boots");
        self.guest.come_up("1.1.0").context("the host did not come back from 1.2.0 by itself")?;
        let boots = (self.guest.vm.boots() - boots) as u64;
        ensure!(boots == 2, "one boot of 1.2.0 and one of 1.1.0 were to be seen, not {boots}");
        let why = self.guest.vm.read("upright why")?;
        ensure!(
            why.contains("1.2.0") && why.contains("\"app\""),
            "`upright why` does not name the check: {why}"
        );
        self.guest
            .teller
            .say(&format!("1.2.0 was left after {boots} boots: {}", why.lines().next().unwrap_or_default()));
        self.require_not_tried_again()?;
        let verdict = format!("left: {SERVICE} failed its check; not tried again");
        Row::fetched(&self.guest.history()?, "1.2.0", boots, verdict)?.require_small_delta(self.full_bytes)
    }

    /// The agent has asked again and refused, and an operator who does not insist is refused, too.
    fn require_not_tried_again(&mut self) -> Result<()> {
        let refused = |status: &Value| {
            status["decision"]["version"] == "1.2.0" && status["decision"]["because"] == "bad"
        };
        self.guest.wait_for_status("the agent's refusal of 1.2.0", refused)?;
        let refused = self.guest.run_alone("upright update")?;
        ensure!(refused.code == REFUSED, "`upright update` is willing to try 1.2.0 again: {refused:?}");
        let history = self.guest.history()?;
        let entries = history.as_array().into_iter().flatten();
        let is_it = |entry: &&Value| entry["version"] == "1.2.0" && entry["outcome"]["event"] == "applied";
        ensure!(entries.filter(is_it).count() == 1, "1.2.0 was tried again: {history}");
        self.publisher.check()
    }
}

/// How many boots a release's trial took until it was proven.
fn trial_boots(history: &Value, release: &str) -> Result<u64> {
    let entries = history.as_array().into_iter().flatten();
    let mut proven =
        entries.filter(|entry| entry["version"] == release && entry["outcome"]["event"] == "proven");
    let boots = proven.next_back().and_then(|entry| entry["outcome"]["boots"].as_u64());
    boots.with_context(|| format!("{release} was never proven: {history}"))
}
