//! Facts from a host. Nothing is written.

use std::fs;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::access;
use upright_manifests::name::Slot;

use super::trust::vouched;
use super::{BootFacts, EntryFacts, Facts, HostFacts, RecordFacts, Watchdog};
use crate::agent::{Agent, trust_folder};
use crate::boot::{BootLoader, Entry, Trust, unreadable};
use crate::config::Config;
use crate::fetch::{check_shipped, check_stored};
use crate::host::{Access, Booted, Host, Part, label};
use crate::machine::{Record, State};
use crate::room::{existing, free};
use crate::state::{Layout, Request, owed};
use crate::store::{RecordFile, odd_places};

/// Where systemd looks for what checks file systems.
const PROGRAMS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What it looks for: systemd-fsck(8).
const FSCK: &str = "fsck.vfat";

/// Looks at a host, whose state is in `folder`. `hardware` is where its kernel's view of devices is, `/sys`, if it is a machine.
pub fn gather(host: &dyn Host, config: &Config, folder: &Path, hardware: Option<&Path>) -> HostFacts {
    let booted = host.machine().booted();
    let mut boot = look_at_boot(host.boot(), booted.as_ref().ok());
    if let Some(esp) = host.esp() {
        boot.writable = writable(esp);
        if let Ok(concerns) = &mut boot.concerns {
            concerns.extend(unreadable(esp));
        }
        boot.fsck = hardware.is_none() || PROGRAMS.iter().any(|folder| Path::new(folder).join(FSCK).exists());
    }
    // What cannot be told without the record is told of the record.
    let record = Agent::peek(host, config, folder);
    boot.entries = match (&record, &booted) {
        (Ok(record), Ok(booted)) => look_at_entries(host, record, booted),
        _ => Vec::new(),
    };
    let parts = Slot::ALL.into_iter().flat_map(|slot| [(slot, Part::Root), (slot, Part::Verity)]);
    let size = |(slot, part)| {
        let size = host.slots().open(slot, part, Access::Read).map(|device| device.size());
        (label(slot, part), size.map_err(|error| error.to_string()))
    };
    let read_only = booted.as_ref().map(|booted| what_is_read_only(host, booted.slot.other()));
    let owed = booted.as_ref().map_or(Ok(Vec::new()), |booted| owed(&Layout::around(folder), booted.slot));
    let now = host.clock().now();
    // At a time when nothing has expired: that is told of the record, and is no damage.
    let remembered = record.as_ref().ok().and_then(|record| record.seen.as_ref());
    let root = &config.repository.root;
    let trust = check_stored(&trust_folder(folder), root, remembered, Timestamp::UNIX_EPOCH);
    HostFacts {
        read_only: read_only.unwrap_or_default(),
        booted: booted.map_err(|error| error.to_string()),
        partitions: parts.map(size).collect(),
        boot,
        record: look_at_record(folder),
        vouched: vouched(&trust_folder(folder), &config.repository.root),
        root: check_shipped(root),
        trust: trust.map_err(|error| error.to_string()),
        state_room: room(folder),
        state_writable: writable(existing(folder)),
        state_in_memory: host.machine().state_in_memory(),
        owed: owed.map_err(|error| error.to_string()),
        odd: odd_places(folder).iter().map(|path| path.display().to_string()).collect(),
        reset: look_at_reset(&Layout::around(folder)),
        grace: config.update.offline_expiry.grace(),
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
        Some(entry) => (seen(boot, entry), boot.size(entry).and_then(|size| Ok((size, boot.room(entry)?)))),
        None => (Ok(None), Ok((None, 0))),
    };
    // What may be removed to make room is known only beside the entry of what runs.
    let room = if matches!(trust, Ok(None)) { Ok((None, 0)) } else { room };
    BootFacts {
        name: boot.name(),
        entry: trust.map_err(text),
        started: boot.started().map_err(text),
        concerns: boot.concerns().map_err(text),
        room: room.map_err(text),
        writable: Ok(()),
        fsck: true,
        entries: Vec::new(),
    }
}

/// What is recorded about an entry that the boot loader sees.
fn seen(boot: &dyn BootLoader, entry: &Entry) -> std::io::Result<Option<Trust>> {
    if boot.is_seen(entry)? { boot.trust(entry) } else { Ok(None) }
}

/// The entries of what runs and of what this host may go to. What is written and not switched to has none yet, and a release that
/// was left is no way back.
fn look_at_entries(host: &dyn Host, record: &Record, booted: &Booted) -> Vec<EntryFacts> {
    let mut found = Vec::new();
    for slot in Slot::ALL {
        let runs = slot == booted.slot;
        if !runs && matches!(record.state, State::Applied { .. }) {
            continue;
        }
        // That the boot loader cannot be read is told already.
        let Ok(Some((target, state))) = Agent::look_at_entry(host, record, slot) else { continue };
        if !runs && record.bad.iter().any(|bad| bad.root_hash == target.root_hash) {
            continue;
        }
        let known = record.slots.get(&slot).or_else(|| record.lost.get(&slot));
        let mendable = !runs && record.state == State::Idle && known.is_some_and(|known| known.proven);
        found.push(EntryFacts { slot, version: target.version, state, runs, mendable });
    }
    found
}

/// What keeps the partitions of a slot that can be read from being written. They are opened as for mending, which takes them from
/// nobody: an update may be under way.
fn what_is_read_only(host: &dyn Host, slot: Slot) -> Vec<String> {
    let open = |part, access| host.slots().open(slot, part, access);
    let parts = [Part::Root, Part::Verity].into_iter();
    let readable = parts.filter(|part| open(*part, Access::Read).is_ok());
    readable.filter_map(|part| Some(open(part, Access::Mend).err()?.to_string())).collect()
}

fn writable(path: &Path) -> Result<(), String> {
    access(path, rustix::fs::Access::WRITE_OK)
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

fn look_at_record(folder: &Path) -> Result<RecordFacts, String> {
    let record: Record =
        RecordFile::in_folder(folder).load().map_err(|error| error.to_string())?.unwrap_or_default();
    let good_until = record.good_until.unwrap_or_default();
    Ok(RecordFacts {
        last_contact: record.last_contact,
        medium: record.medium,
        good_until: good_until.into_iter().collect(),
        at_rest: matches!(record.state, State::Idle),
    })
}

fn look_at_reset(layout: &Layout) -> Result<Option<String>, String> {
    let pending = Request::pending(layout).map_err(|error| error.to_string())?;
    Ok(pending.and_then(|_| Request::refused(layout)))
}

/// Free bytes of the file system that `folder` is, or will be, on.
fn room(folder: &Path) -> Result<u64, String> {
    free(folder).map_err(|error| format!("{}: {error}", existing(folder).display()))
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
