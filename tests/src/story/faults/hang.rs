//! Releases that do not come up, or not for long: each is left by itself.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::base::{Base, From, require_running, update};
use super::os::{BEGINS, CHOICE, NEW, OLD};
use super::table::Ended;
use crate::story::guest::Guest;
use crate::vm::{BOOT_TIME, Hardware};

/// How long a release may fail before it is left; the longest is the one that systemd's own limit ends.
const FAILING_TIME: Duration = Duration::from_secs(900);

/// A release that does not come up.
pub(super) struct Hang {
    /// The fault, as 1.1.0 knows it.
    pub(super) name: &'static str,
    /// What is done to its slot after the switch.
    damage: Option<Damage>,
    /// How many boots it has.
    tries: u32,
    /// What an operator must read in `upright why`.
    says: &'static [&'static str],
}

enum Damage {
    /// The file system has no superblock any more, and so no UUID.
    Superblock,
    /// A block of the program that starts first is not what was signed.
    Init,
}

/// What is told of a boot that the watchdog ended.
const WATCHDOG: &str = "hardware watchdog";

pub(super) const ALL: [Hang; 10] = [
    Hang {
        name: "panic",
        damage: None,
        tries: 2,
        says: &["2 mounted /var", "Kernel panic - not syncing: sysrq triggered crash"],
    },
    Hang {
        name: "no-root",
        damage: Some(Damage::Superblock),
        tries: 1,
        says: &["none is known to have mounted /var", "root file system", "slot b is damaged"],
    },
    Hang {
        name: "verity",
        damage: Some(Damage::Init),
        tries: 1,
        says: &["slot b is damaged: 1 block, of /usr/lib/systemd/systemd"],
    },
    Hang {
        name: "no-mount",
        damage: None,
        tries: 1,
        says: &["1 mounted /var and none reached the agent", "fault-mount.service"],
    },
    Hang { name: "init-crash", damage: None, tries: 1, says: &["1 mounted /var and none reached the agent"] },
    Hang {
        name: "hang-early",
        damage: None,
        tries: 1,
        says: &["1 mounted /var and none reached the agent", "journalctl --boot="],
    },
    Hang {
        name: "freeze-early",
        damage: None,
        tries: 1,
        says: &["1 mounted /var and none reached the agent", WATCHDOG],
    },
    Hang { name: "hang-late", damage: None, tries: 1, says: &["the agent started in 1", WATCHDOG] },
    Hang {
        name: "late-crash",
        damage: None,
        tries: 1,
        says: &["health check \"app\" failed", "app.service is failed"],
    },
    Hang {
        name: "check-hangs",
        damage: None,
        tries: 1,
        says: &["health check \"answers\" failed", "did not end within 20 s and was killed"],
    },
];

impl Hang {
    /// Boots 1.1.0, which must be left for 1.0.0 with the cause named.
    pub(super) fn happen(&self, base: &Base) -> Result<Ended> {
        let from = if self.tries == 1 { From::Switched } else { From::Settled };
        let remembers = self.says.contains(&WATCHDOG);
        let mut guest = base.wake(from, self.name, Hardware { remembers, ..Hardware::default() })?;
        let case = self.live(base, &mut guest).with_context(|| {
            format!("{}: the serial line ends so:\n{}", self.name, guest.vm.console().tail())
        });
        drop(guest);
        base.clean(self.name)?;
        case
    }

    fn live(&self, base: &Base, guest: &mut Guest) -> Result<Ended> {
        guest.vm.read(&format!("echo {} > {CHOICE}; sync", self.name))?;
        if self.tries != 1 {
            guest
                .vm
                .read(&format!("sed -i 's/^tries = 1$/tries = {}/' /etc/upright/upright.toml", self.tries))?;
            update(guest)?;
        }
        self.damage(base, guest)?;
        guest.vm.start("systemctl reboot")?;
        guest.vm.wait_for_boots(1, BOOT_TIME)?;
        if self.damage.is_none() {
            guest.vm.console().wait_for(&[BEGINS], BOOT_TIME).context("the fault did not begin")?;
        }
        let failed = Instant::now();
        guest.vm.wait_for_boots(self.tries as usize, FAILING_TIME).context("it was not left")?;
        guest.vm.log_in()?;
        let seconds = failed.elapsed().as_secs();
        require_running(guest, OLD)?;
        // The commands tell what the agent will find; it looks at the slot, too.
        let noted =
            "until grep -q '\"event\": \"rolled-back\"' /var/lib/upright/state.json; do sleep 1; done";
        guest.vm.run_within(noted, BOOT_TIME).context("the agent came to no verdict")?;
        let why = self.require_cause(guest)?;
        // It is not tried again.
        let refused = guest.run_alone("upright update")?;
        ensure!(refused.code == 3, "{NEW} is taken again: {refused:?}");
        Ok(Ended { seconds: Some(seconds), boots: guest.vm.boots(), why })
    }

    fn damage(&self, base: &Base, guest: &mut Guest) -> Result<()> {
        let block = match self.damage {
            None => return Ok(()),
            Some(Damage::Superblock) => 0,
            Some(Damage::Init) => base.offset_of(NEW, "usr/lib/systemd/systemd")? / 4096,
        };
        let device = "/dev/disk/by-partlabel/root-b";
        guest
            .vm
            .read(&format!(
                "dd if=/dev/zero of={device} bs=4096 seek={block} count=1 conv=notrunc,fsync status=none"
            ))
            .map(drop)
    }

    /// What `upright why` says first; it and the journal that it shows must hold what an operator looks for.
    fn require_cause(&self, guest: &mut Guest) -> Result<String> {
        let text = guest.vm.read("upright why --json")?;
        let why: Value =
            serde_json::from_str(&text).with_context(|| format!("`upright why --json` printed {text}"))?;
        ensure!(why["version"] == NEW, "it is about another release: {why}");
        let lines = why["journal"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let all: Vec<&str> = why["summary"].as_str().into_iter().chain(lines).collect();
        for part in self.says {
            ensure!(all.iter().any(|line| line.contains(part)), "`upright why` does not say {part:?}: {why}");
        }
        Ok(why["summary"].as_str().unwrap_or_default().to_owned())
    }
}
