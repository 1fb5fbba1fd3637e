//! What boots of a trial leave behind on a host: notes of the initrd, dumps of the kernel, the watchdog's memory.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Access, access, statvfs};

use crate::machine::{Evidence, NotesPlace};
use crate::store;

/// Where the initrd notes the boots of a release on trial, a line each, in the folder of the agent's state.
pub(crate) const BOOTS: &str = "trial-boots";

/// Where the release on trial is named, since the switch.
pub(crate) const NOTE: &str = "trial";

/// The most that is read of the notes, in bytes, and of a dump.
const MOST: u64 = 64 << 10;

/// How many boots are told of, and how many files are looked at for a dump.
const MOST_BOOTS: usize = 99;
const MOST_FILES: usize = 200;

/// The longest line of a dump that is taken, in characters.
const MOST_CHARS: usize = 200;

/// The bit of a watchdog's status that says that it restarted the machine; Linux `WDIOF_CARDRESET`.
const CARD_RESET: u64 = 0x20;

/// Reads what is below `root`, with the agent's state in `state`. What cannot be read is not known.
pub(super) fn read(root: &Path, state: &Path) -> Evidence {
    let since = fs::metadata(state.join(NOTE)).and_then(|meta| meta.modified()).ok();
    let panic = since.and_then(|since| {
        let folders = ["sys/fs/pstore", "var/lib/systemd/pstore"];
        folders.iter().find_map(|folder| last_words(root.join(folder), since))
    });
    Evidence {
        mounted: boots(&state.join(BOOTS)),
        panic,
        watchdog: watchdog(&root.join("sys/class/watchdog")),
        doubt: place_of_notes(state).doubt(),
        ..Evidence::default()
    }
}

/// What the folder of the notes is like. What cannot be asked is taken to be as it should.
fn place_of_notes(state: &Path) -> NotesPlace {
    let room = statvfs(state).ok().map(|stat| {
        // File systems that have no limit to the number of files say 0 for it.
        let files = if stat.f_files == 0 { u64::MAX } else { stat.f_ffree };
        (stat.f_bfree.saturating_mul(stat.f_frsize), files)
    });
    NotesPlace {
        writable: access(state, Access::WRITE_OK).is_ok(),
        room: room.unwrap_or((u64::MAX, u64::MAX)),
        named: state.join(NOTE).exists(),
        readable: store::read_own(&state.join(BOOTS), MOST).is_ok(),
    }
}

fn boots(path: &Path) -> Vec<String> {
    let bytes = store::read_own(path, MOST).ok().flatten().unwrap_or_default();
    let is_id = |line: &&str| {
        (1..=36).contains(&line.len()) && line.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
    };
    let text = String::from_utf8_lossy(&bytes);
    text.lines().filter(is_id).take(MOST_BOOTS).map(|line| line.replace('-', "")).collect()
}

/// Source: Linux `Documentation/ABI/testing/sysfs-class-watchdog`.
fn watchdog(class: &Path) -> bool {
    let devices = fs::read_dir(class).into_iter().flatten().flatten();
    let mut statuses = devices.filter_map(|device| {
        fs::read_to_string(device.path().join("bootstatus")).ok()?.trim().parse::<u64>().ok()
    });
    statuses.any(|status| status & CARD_RESET != 0)
}

/// The line that names the cause of a kernel's panic, in a dump made since then: in the kernel's own pstore, or where
/// systemd-pstore(8) moved it, in a folder a dump.
fn last_words(folder: PathBuf, since: SystemTime) -> Option<String> {
    let mut folders = vec![(folder, 0)];
    let mut seen = 0;
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            seen += 1;
            if seen > MOST_FILES {
                return None;
            }
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() && depth < 2 {
                folders.push((entry.path(), depth + 1));
            } else if meta.is_file()
                && meta.modified().is_ok_and(|time| time >= since)
                && let Some(line) = panic_in(&entry.path())
            {
                return Some(line);
            }
        }
    }
    None
}

fn panic_in(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().find_map(|line| line.find("Kernel panic").and_then(|at| line.get(at..)))?;
    Some(line.chars().filter(|c| !c.is_control()).take(MOST_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Doubt;

    struct Root(tempfile::TempDir);

    impl Root {
        fn new() -> Self {
            let root = Self(tempfile::tempdir().unwrap());
            root.put("var/lib/upright/trial", "hash");
            root
        }

        fn put(&self, path: &str, content: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        fn read(&self) -> Evidence {
            read(self.0.path(), &self.0.path().join("var/lib/upright"))
        }
    }

    #[test]
    fn nothing_is_known_of_boots_that_left_nothing() {
        assert_eq!(Root::new().read(), Evidence::default());
    }

    #[test]
    fn boots_that_the_initrd_noted_are_told_and_no_rubbish() {
        let root = Root::new();
        root.put("var/lib/upright/trial-boots", "11-22\n\n`rm -rf /`\nab\nab");
        assert_eq!(root.read().mounted, ["1122", "ab", "ab"]);
    }

    #[test]
    fn notes_that_cannot_be_read_or_were_not_to_be_written_are_told() {
        let root = Root::new();
        root.put("var/lib/upright/trial-boots/in-the-way", "");
        assert_eq!(root.read().doubt, Some(Doubt::Unreadable));
        let root = Root::new();
        fs::remove_file(root.0.path().join("var/lib/upright/trial")).unwrap();
        assert_eq!(root.read().doubt, Some(Doubt::Unnamed));
    }

    #[test]
    fn a_panic_is_found_where_the_kernel_or_systemd_keeps_it() {
        let dump =
            "Panic#1 Part1\n<4>[   9.1] x\n<0>[   9.2] Kernel panic - not syncing: sysrq triggered crash\n";
        for place in ["sys/fs/pstore/dmesg-efi-1", "var/lib/systemd/pstore/17/001/dmesg.txt"] {
            let root = Root::new();
            root.put(place, dump);
            assert_eq!(root.read().panic.unwrap(), "Kernel panic - not syncing: sysrq triggered crash");
        }
    }

    #[test]
    fn a_panic_from_before_the_switch_is_not_the_trials() {
        let root = Root::new();
        root.put("sys/fs/pstore/dmesg-efi-1", "Kernel panic - not syncing: long ago\n");
        let old = SystemTime::now() - std::time::Duration::from_secs(3600);
        let file = fs::File::options().write(true).open(root.0.path().join("sys/fs/pstore/dmesg-efi-1"));
        file.unwrap().set_modified(old).unwrap();
        assert_eq!(root.read().panic, None);
    }

    #[test]
    fn a_watchdog_that_restarted_the_machine_says_so() {
        let root = Root::new();
        root.put("sys/class/watchdog/watchdog0/bootstatus", "0\n");
        assert!(!root.read().watchdog);
        root.put("sys/class/watchdog/watchdog1/bootstatus", "32\n");
        assert!(root.read().watchdog);
    }
}
