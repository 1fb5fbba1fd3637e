//! Facts from a host. Nothing is written.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::fs::statvfs;
use upright_manifests::name::Slot;

use super::{BootFacts, Facts, HostFacts, RecordFacts, Watchdog};
use crate::agent::trust_folder;
use crate::boot::BootLoader;
use crate::config::Config;
use crate::fetch::check_stored;
use crate::host::{Access, Booted, Host, Part, label};
use crate::machine::{Record, State};
use crate::store::RecordFile;

/// Looks at a host, whose state is in `folder`. `hardware` is where its kernel's view of devices is, `/sys`, if it is a machine.
pub fn gather(host: &dyn Host, config: &Config, folder: &Path, hardware: Option<&Path>) -> HostFacts {
    let booted = host.machine().booted();
    let boot = look_at_boot(host.boot(), booted.as_ref().ok());
    let parts = Slot::ALL.into_iter().flat_map(|slot| [(slot, Part::Root), (slot, Part::Verity)]);
    let size = |(slot, part)| {
        let size = host.slots().open(slot, part, Access::Read).map(|device| device.size());
        (label(slot, part), size.map_err(|error| error.to_string()))
    };
    let now = host.clock().now();
    let trust = check_stored(&trust_folder(folder), &config.repository.root, now);
    HostFacts {
        booted: booted.map_err(|error| error.to_string()),
        partitions: parts.map(size).collect(),
        boot,
        record: look_at_record(folder),
        trust: trust.map_err(|error| error.to_string()),
        state_room: room(folder),
        watchdog: hardware.map(watchdog),
        now,
        image_time: host.machine().image_time(),
    }
}

impl Facts {
    /// Of a host that cannot be worked on at all.
    pub fn without_host(configuration: Result<String, String>, reason: String) -> Self {
        Self { configuration, host: Err(reason) }
    }
}

fn look_at_boot(boot: &dyn BootLoader, booted: Option<&Booted>) -> BootFacts {
    let entry = booted.map(Booted::entry);
    // Without knowing what runs, that is what has to be mended first.
    let text = |error: std::io::Error| error.to_string();
    let (trust, room) = match &entry {
        Some(entry) => (boot.trust(entry), boot.size(entry).and_then(|size| Ok((size, boot.room(entry)?)))),
        None => (Ok(None), Ok((None, 0))),
    };
    BootFacts {
        name: boot.name(),
        entry: trust.map_err(text),
        started: boot.started().map_err(text),
        concerns: boot.concerns().map_err(text),
        room: room.map_err(text),
    }
}

fn look_at_record(folder: &Path) -> Result<RecordFacts, String> {
    let record: Record =
        RecordFile::in_folder(folder).load().map_err(|error| error.to_string())?.unwrap_or_default();
    let good_until = record.good_until.unwrap_or_default();
    Ok(RecordFacts {
        last_contact: record.last_contact,
        good_until: good_until.into_iter().collect(),
        at_rest: matches!(record.state, State::Idle),
    })
}

/// Free bytes of the file system that `folder` is, or will be, on.
fn room(folder: &Path) -> Result<u64, String> {
    let existing = folder.ancestors().find(|path| path.exists()).unwrap_or(folder);
    let stat = statvfs(existing).map_err(|error| format!("{}: {error}", existing.display()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Source: Linux `Documentation/ABI/testing/sysfs-class-watchdog`.
fn watchdog(sys: &Path) -> Watchdog {
    let devices = fs::read_dir(sys.join("class/watchdog")).into_iter().flatten().flatten();
    let read = |device: &Path, name: &str| {
        fs::read_to_string(device.join(name)).unwrap_or_default().trim().to_owned()
    };
    let mut best = Watchdog::Missing;
    for device in devices {
        let device = device.path();
        if read(&device, "state") == "active" {
            return Watchdog::Active(Duration::from_secs(read(&device, "timeout").parse().unwrap_or(0)));
        }
        best = Watchdog::Idle;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_that_is_active_counts() {
        let sys = tempfile::tempdir().unwrap();
        assert_eq!(watchdog(sys.path()), Watchdog::Missing);
        for (name, state) in [("watchdog0", "inactive\n"), ("watchdog1", "active\n")] {
            let device = sys.path().join("class/watchdog").join(name);
            fs::create_dir_all(&device).unwrap();
            fs::write(device.join("state"), state).unwrap();
            fs::write(device.join("timeout"), "60\n").unwrap();
        }
        assert_eq!(watchdog(sys.path()), Watchdog::Active(Duration::from_secs(60)));
        fs::remove_dir_all(sys.path().join("class/watchdog/watchdog1")).unwrap();
        assert_eq!(watchdog(sys.path()), Watchdog::Idle);
    }
}
