//! Disks that fail while a release is written: device-mapper in the guest, and QEMU's own errors where only reading is to fail.

use anyhow::{Context, Result, ensure};

use super::base::{Base, From, UPDATE_TIME, require_running};
use super::os::{NEW, OLD};
use super::table::Ended;
use crate::story::guest::{Guest, slot};
use crate::vm::Hardware;

/// A disk that fails.
pub(super) struct Disk {
    pub(super) name: &'static str,
    fault: Fault,
    /// What an operator reads; nothing where the update succeeds all the same.
    says: Option<&'static [&'static str]>,
}

enum Fault {
    /// A device-mapper table over the partition with that label, with `SIZE`, its length in sectors, and `DEV`, itself.
    Mapped(&'static str, &'static str),
    /// A sector of slot b cannot be read, so far behind its start.
    Unreadable(u64),
}

pub(super) const ALL: [Disk; 5] = [
    // A megabyte in the midst of what runs. What is not fetched would come from there.
    Disk {
        name: "read-error",
        fault: Fault::Mapped(
            "root-a",
            "0 102400 linear DEV 0\\n102400 2048 error\\n104448 REST linear DEV 104448",
        ),
        says: None,
    },
    Disk {
        name: "write-error",
        fault: Fault::Mapped("root-b", "0 SIZE flakey DEV 0 0 9999 1 error_writes"),
        says: Some(&["Input/output error", "what runs is untouched"]),
    },
    Disk {
        name: "read-back-error",
        fault: Fault::Unreadable(102_400),
        says: Some(&["Input/output error", "what runs is untouched"]),
    },
    Disk {
        name: "dropped-writes",
        fault: Fault::Mapped("root-b", "0 SIZE flakey DEV 0 0 9999 1 drop_writes"),
        says: Some(&["root hash", "is signed"]),
    },
    Disk {
        name: "corrupt-writes",
        fault: Fault::Mapped("root-b", "0 SIZE flakey DEV 0 0 9999 5 corrupt_bio_byte 77 w 165 0"),
        says: Some(&["root hash", "is signed"]),
    },
];

impl Disk {
    /// Updates to 1.1.0 with it.
    pub(super) fn happen(&self, base: &Base) -> Result<Ended> {
        let unreadable = match self.fault {
            Fault::Unreadable(behind) => Some(base.slot_b()? + behind),
            Fault::Mapped(..) => None,
        };
        let mut guest =
            base.wake(From::Settled, self.name, Hardware { unreadable, ..Hardware::default() })?;
        let case = self.live(&mut guest).with_context(|| {
            format!("{}: the serial line ends so:\n{}", self.name, guest.vm.console().tail())
        });
        drop(guest);
        base.clean(self.name)?;
        case
    }

    fn live(&self, guest: &mut Guest) -> Result<Ended> {
        if let Fault::Mapped(label, table) = &self.fault {
            map(guest, label, table)?;
        }
        let entries = guest.vm.read("sha256sum /efi/EFI/Linux/demo_1.0.0*")?;
        let updated = guest.vm.run_within("upright update", UPDATE_TIME)?;
        require_running(guest, OLD)?;
        let after = guest.vm.read("sha256sum /efi/EFI/Linux/demo_1.0.0*")?;
        ensure!(entries == after, "the boot entry of what runs was changed: {entries} {after}");
        let status = guest.status()?;
        match self.says {
            None => {
                ensure!(updated.code == 0, "another way should have led there: {updated:?}");
                ensure!(updated.text.contains("Input/output error"), "nothing went wrong: {updated:?}");
                ensure!(status["state"]["state"] == "switched", "{status}");
            }
            Some(says) => {
                ensure!(updated.code != 0, "{NEW} was taken from a disk that fails: {updated:?}");
                let left = guest.vm.read("ls /efi/EFI/Linux")?;
                ensure!(
                    !left.contains(NEW) && slot(&status, false)["version"].is_null(),
                    "{NEW} can be booted: {left} {status}"
                );
                let why = guest.vm.read("upright why --json")?;
                for part in says {
                    ensure!(
                        updated.text.contains(part) || why.contains(part),
                        "{part:?} is not in {updated:?}, nor in {why}"
                    );
                }
            }
        }
        let last = updated.text.lines().last().unwrap_or_default().to_owned();
        Ok(Ended { seconds: None, boots: 0, why: last })
    }
}

/// Puts a device-mapper device in a partition's place.
fn map(guest: &mut Guest, label: &str, table: &str) -> Result<()> {
    let link = format!("/dev/disk/by-partlabel/{label}");
    let device = guest.vm.read(&format!("readlink -f {link}"))?;
    let size: u64 = guest
        .vm
        .read(&format!("blockdev --getsz {device}"))?
        .parse()
        .context("reading a partition's length")?;
    let rest = size.saturating_sub(104_448);
    let table =
        table.replace("SIZE", &size.to_string()).replace("REST", &rest.to_string()).replace("DEV", &device);
    guest.vm.read(&format!("printf '{table}\\n' | dmsetup create faulty"))?;
    guest
        .vm
        .read(&format!("ln -sfn \"$(readlink -f /dev/mapper/faulty)\" {link} && readlink {link}"))
        .map(drop)
}
