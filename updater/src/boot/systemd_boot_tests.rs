//! Every change of the boot entries, cut off at every step, judged as systemd-boot would judge it.

use std::cell::Cell;
use std::fs;

use upright_manifests::name::Slot;

use super::*;

const SAYS: &str = "upright.os=";

/// An ESP in a folder.
struct Esp {
    root: tempfile::TempDir,
    boot: SystemdBoot,
}

impl Esp {
    /// With those entries, each a file name in `EFI/Linux/`.
    fn with(names: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let boot = SystemdBoot::in_folder(EntryFolder::new(root.path()));
        let esp = Self { root, boot };
        fs::create_dir_all(esp.path("")).unwrap();
        for name in names {
            let parsed: EntryName = name.parse().unwrap();
            esp.put(name, &uki(parsed.os.as_str(), parsed.version.as_str()));
        }
        esp
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        self.root.path().join("EFI/Linux").join(file)
    }

    fn put(&self, file: &str, bytes: &[u8]) {
        fs::write(self.path(file), bytes).unwrap();
    }

    fn files(&self) -> Vec<String> {
        let mut files: Vec<String> = fs::read_dir(self.path(""))
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        files
    }

    /// The version that systemd-boot would start, and the OS; written from its source, apart from what is tested.
    fn next_boot(&self) -> String {
        let mut entries: Vec<(bool, String, EntryName)> = Vec::new();
        for file in self.files() {
            let bytes = fs::read(self.path(&file)).unwrap();
            if !file.ends_with(".efi") || !bytes.starts_with(b"MZ") {
                continue;
            }
            let name: EntryName = file.parse().unwrap();
            assert_eq!(bytes, uki(name.os.as_str(), name.version.as_str()), "{file} is not complete");
            entries.push((name.counter.is_some_and(|c| c.left == 0), name.os.to_string(), name));
        }
        entries.sort_by(|(spent_a, os_a, a), (spent_b, os_b, b)| {
            spent_a.cmp(spent_b).then(os_a.cmp(os_b)).then(b.version.age(&a.version))
        });
        let (_, os, name) = entries.first().expect("nothing to boot");
        format!("{os} {}", name.version)
    }

    /// What systemd-boot does to the name of what it starts.
    fn start(&self) -> String {
        let release = self.next_boot();
        for file in self.files() {
            let Ok(name) = file.parse::<EntryName>() else { continue };
            let Some(Counter { left, done }) = name.counter else { continue };
            if format!("{} {}", name.os, name.version) == release {
                let counter = Some(Counter { left: left.saturating_sub(1), done: done + 1 });
                fs::rename(self.path(&file), self.path(&EntryName { counter, ..name }.to_string())).unwrap();
            }
        }
        release
    }

    fn trust(&self, version: &str) -> Option<Trust> {
        self.boot.trust(&entry(version)).unwrap()
    }
}

/// A source that looks at what is there when it is first read, and then fails.
struct Spy<'a>(&'a dyn Fn());

impl Read for Spy<'_> {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        (self.0)();
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

fn entry(version: &str) -> Entry {
    Entry { slot: Slot::A, os: "acme".parse().unwrap(), version: version.parse().unwrap() }
}

/// A UKI of headers and a command line, and something long to be torn.
fn uki(os: &str, version: &str) -> Vec<u8> {
    let line = format!("{SAYS}{os} upright.version={version} roothash=00");
    let mut bytes = vec![0; 0x400];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x80;
    bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
    bytes[0x86] = 1;
    bytes[0x94] = 0xf0;
    bytes[0x98..0x9a].copy_from_slice(&0x20bu16.to_le_bytes());
    let section = 0x80 + 24 + 0xf0;
    bytes[section..section + 8].copy_from_slice(b".cmdline");
    bytes[section + 8] = line.len() as u8;
    bytes[section + 16..section + 20].copy_from_slice(&(3u32 << 20).to_le_bytes());
    bytes[section + 20..section + 24].copy_from_slice(&0x400u32.to_le_bytes());
    bytes.extend_from_slice(line.as_bytes());
    bytes.resize((3 << 20) + 0x405, 7);
    bytes
}

/// Runs `change` on fresh copies, cut after 0, 1, 2… steps, asserts that each cut leaves one of `allowed` to be booted, and
/// that the same change made again ends in `files`.
fn cut_everywhere(
    before: &[&str],
    change: impl Fn(&SystemdBoot) -> io::Result<()>,
    allowed: &[&str],
    files: &[&str],
) {
    let done = Cell::new(false);
    for steps in 0..64 {
        let esp = Esp::with(before);
        esp.boot.folder.fuse.set(Some(steps));
        done.set(change(&esp.boot).is_ok());
        esp.boot.folder.fuse.set(None);
        let boots = esp.next_boot();
        assert!(allowed.contains(&boots.as_str()), "after {steps} steps {boots} boots: {:?}", esp.files());
        change(&esp.boot).unwrap();
        assert_eq!(esp.files(), files, "again after {steps} steps");
        assert_eq!(&esp.next_boot().as_str(), allowed.last().unwrap());
        if done.get() {
            assert!(steps > 0 || before == files, "the change has no step to cut");
            return;
        }
    }
    panic!("the change never ended");
}

#[test]
fn an_update_boots_the_old_release_until_its_switch() {
    let prepare = |boot: &SystemdBoot| {
        boot.remove_others(&entry("1.0.0"))?;
        boot.stage(&entry("1.1.0"), &mut &uki("acme", "1.1.0")[..])
    };
    let staged = ["acme_1.0.0.efi", "acme_1.1.0+3.efi"];
    for other in ["acme_0.9.0.efi", "acme_1.0.5+0-3.efi", "acme_0.9.0+2-1.efi"] {
        cut_everywhere(&["acme_1.0.0.efi", other], prepare, &["acme 1.0.0"], &staged);
    }
    let update = |boot: &SystemdBoot| {
        if boot.trust(&entry("1.1.0"))?.is_none() {
            prepare(boot)?;
        }
        boot.switch(&entry("1.1.0"), 3)
    };
    cut_everywhere(&["acme_1.0.0.efi"], update, &["acme 1.0.0", "acme 1.1.0"], &staged);
}

#[test]
fn a_newer_inactive_entry_that_is_removed_never_boots_in_between() {
    let remove = |boot: &SystemdBoot| boot.remove_others(&entry("1.0.0"));
    // Before the seal it does, since that is what the boot loader's state said.
    let allowed = ["acme 1.1.0", "acme 1.0.0"];
    cut_everywhere(&["acme_1.0.0.efi", "acme_1.1.0.efi"], remove, &allowed, &["acme_1.0.0.efi"]);
    let esp = Esp::with(&["acme_1.0.0.efi", "acme_1.1.0.efi"]);
    esp.boot.folder.fuse.set(Some(1));
    assert!(remove(&esp.boot).is_err());
    assert_eq!(esp.files().len(), 2, "cut between seal and deletion");
    assert_eq!(esp.next_boot(), "acme 1.0.0");
}

#[test]
fn a_switch_with_other_tries_renames_while_the_entry_is_sealed() {
    let esp = Esp::with(&["acme_1.0.0.efi"]);
    esp.boot.stage(&entry("1.1.0"), &mut &uki("acme", "1.1.0")[..]).unwrap();
    esp.boot.folder.fuse.set(Some(1));
    assert!(esp.boot.switch(&entry("1.1.0"), 5).is_err());
    assert_eq!((esp.files()[1].as_str(), esp.next_boot().as_str()), ("acme_1.1.0+5.efi", "acme 1.0.0"));
    esp.boot.folder.fuse.set(None);
    esp.boot.switch(&entry("1.1.0"), 5).unwrap();
    assert_eq!(esp.next_boot(), "acme 1.1.0");
}

/// A rename on FAT may leave a name without its counter: what it leaves must not boot, unless it is the way back, which must not be out
/// of sight for a moment.
#[test]
fn a_counter_changes_out_of_the_boot_loaders_sight_but_for_that_of_the_way_back() {
    type Step = fn(&SystemdBoot) -> io::Result<()>;
    let changes: [(&[&str], Step, usize, &str); 5] = [
        (
            &["acme_1.0.0.efi", "acme_1.1.0.efi"],
            |boot| boot.switch(&entry("1.0.0"), 3),
            2,
            "acme_1.1.0+0.efi",
        ),
        (&["acme_1.0.0.efi", "acme_1.1.0+0-3.efi"], |boot| boot.switch(&entry("1.1.0"), 3), 1, ""),
        (
            &["acme_1.0.0+0.efi", "acme_1.1.0+0-3.efi"],
            |boot| boot.switch(&entry("1.1.0"), 3),
            2,
            "acme_1.0.0.efi",
        ),
        (&["acme_1.0.0.efi", "acme_1.1.0+2-1.efi"], |boot| boot.mark_bad(&entry("1.1.0")), 1, ""),
        (
            &["acme_1.0.0+0-3.efi", "acme_1.1.0.efi"],
            |boot| boot.mark_bad(&entry("1.1.0")),
            2,
            "acme_1.0.0.efi",
        ),
    ];
    for (before, change, renames, way_back) in changes {
        let mut seen: Vec<String> = before.iter().map(ToString::to_string).collect();
        for steps in 0..16 {
            let esp = Esp::with(before);
            esp.boot.folder.fuse.set(Some(steps));
            let _ = change(&esp.boot);
            for file in esp.files().into_iter().filter(|file| !before.contains(&file.as_str())) {
                if !seen.contains(&file) {
                    let is_seen = fs::read(esp.path(&file)).unwrap()[..2] != [0, 0];
                    assert_eq!(is_seen, file == way_back, "{file} is seen when it is renamed: {is_seen}");
                    seen.push(file);
                }
            }
        }
        assert_eq!(seen.len(), before.len() + renames);
    }
}

/// The clusters of a new file may hold an old entry: its length is not on the disk before its seal is.
#[test]
fn a_new_entry_is_a_sealed_sector_before_it_is_anything_else() {
    let esp = Esp::with(&["acme_1.0.0.efi"]);
    let path = esp.path("acme_1.1.0+3.efi");
    let seen = std::cell::RefCell::new(Vec::new());
    let look = || seen.borrow_mut().push(fs::read(&path).unwrap());
    assert!(esp.boot.stage(&entry("1.1.0"), &mut Spy(&look)).is_err());
    assert_eq!(*seen.borrow(), [vec![0; 512]]);
    assert_eq!(esp.files(), ["acme_1.0.0.efi"]);
}

#[test]
fn an_operator_goes_back_and_forth_between_proven_releases() {
    let both = ["acme_1.0.0.efi", "acme_1.1.0.efi"];
    let back = ["acme_1.0.0+3.efi", "acme_1.1.0+0.efi"];
    let switch = |version: &'static str| move |boot: &SystemdBoot| boot.switch(&entry(version), 3);
    cut_everywhere(&both, switch("1.0.0"), &["acme 1.1.0", "acme 1.0.0"], &back);
    let proven = ["acme_1.0.0.efi", "acme_1.1.0+0.efi"];
    let forth = ["acme_1.0.0.efi", "acme_1.1.0+3.efi"];
    cut_everywhere(&proven, switch("1.1.0"), &["acme 1.0.0", "acme 1.1.0"], &forth);
}

/// Whatever the counter of what runs, whether it is older or newer than what is tried, and whatever is beside it: once the next boot
/// takes the new release, it has its tries, and then the old one is booted and stays.
#[test]
fn a_switch_that_is_cut_off_anywhere_keeps_its_way_back() {
    for counter in ["", "+0", "+0-1", "+0-3", "+2-1", "+1"] {
        for (other, version) in
            [("acme_1.0.0+0-3.efi", "1.3.0"), ("acme_1.2.0+0.efi", "1.0.5"), ("", "1.3.0")]
        {
            let running = format!("acme_1.1.0{counter}.efi");
            let before: Vec<&str> =
                [running.as_str(), other].into_iter().filter(|name| !name.is_empty()).collect();
            let mut done = false;
            for steps in 0..64 {
                let esp = Esp::with(&before);
                esp.boot.folder.fuse.set(Some(steps));
                let update = esp.boot.remove_others(&entry("1.1.0"));
                let stage = || esp.boot.stage(&entry(version), &mut &uki("acme", version)[..]);
                let update = update.and_then(|()| stage()).and_then(|()| esp.boot.switch(&entry(version), 3));
                esp.boot.folder.fuse.set(None);
                done = update.is_ok();
                // Before the other entry is out of sight, it may be what was booted all along.
                if esp.trust(version).is_none() && esp.files().iter().any(|file| file == other) {
                    continue;
                }
                let boots: Vec<String> = (0..8).map(|_| esp.start()).collect();
                let tried = boots.iter().take_while(|release| release.ends_with(version)).count();
                assert!(tried == if done { 3 } else { tried.min(3) }, "{before:?} {version}: {boots:?}");
                assert!(
                    boots[tried..].iter().all(|release| release == "acme 1.1.0"),
                    "{before:?} {version}, {steps} steps: {boots:?}"
                );
                if done {
                    break;
                }
            }
            assert!(done, "the switch never ended");
        }
    }
}

/// Without an update that has removed what is beside them first.
#[test]
fn a_switch_between_two_entries_keeps_its_way_back() {
    for counter in ["", "+0", "+0-3", "+2-1"] {
        let before = [format!("acme_1.0.0{counter}.efi"), "acme_1.1.0+0-3.efi".to_owned()];
        let before = [before[0].as_str(), before[1].as_str()];
        let switch = |boot: &SystemdBoot| boot.switch(&entry("1.1.0"), 3);
        cut_everywhere(
            &before,
            switch,
            &["acme 1.0.0", "acme 1.1.0"],
            &["acme_1.0.0.efi", "acme_1.1.0+3.efi"],
        );
    }
}

/// The way back from an older release that failed, which was demoted for it.
#[test]
fn what_came_up_without_tries_and_stays_is_not_counted_any_more() {
    let esp = Esp::with(&["acme_1.0.0+0-3.efi", "acme_1.1.0+0.efi"]);
    assert_eq!(esp.start(), "acme 1.1.0");
    esp.boot.came_up(&entry("1.1.0")).unwrap();
    assert_eq!(esp.files(), ["acme_1.0.0+0-3.efi", "acme_1.1.0.efi"]);
    // What the next boot leaves stays as it is, and so does what is on trial.
    for files in [
        ["acme_1.0.0+3.efi", "acme_1.1.0+0-1.efi"],
        ["acme_1.0.0.efi", "acme_1.1.0+0-3.efi"],
        ["acme_1.0.0.efi", "acme_1.1.0+2-1.efi"],
    ] {
        let esp = Esp::with(&files);
        esp.boot.came_up(&entry("1.1.0")).unwrap();
        assert_eq!(esp.files(), files);
    }
}

#[test]
fn an_older_release_that_is_installed_over_a_newer_one_boots_and_falls_back() {
    let esp = Esp::with(&["acme_1.1.0.efi"]);
    esp.boot.stage(&entry("1.0.5"), &mut &uki("acme", "1.0.5")[..]).unwrap();
    esp.boot.switch(&entry("1.0.5"), 3).unwrap();
    let boots: Vec<String> = (0..5).map(|_| esp.start()).collect();
    assert_eq!(boots, ["acme 1.0.5", "acme 1.0.5", "acme 1.0.5", "acme 1.1.0", "acme 1.1.0"]);
    esp.boot.mark_good(&entry("1.1.0")).unwrap();
    assert_eq!(esp.files(), ["acme_1.0.5+0-3.efi", "acme_1.1.0.efi"]);
}

#[test]
fn a_trial_that_is_never_proven_falls_back_and_one_that_is_stays() {
    let esp = Esp::with(&["acme_1.0.0.efi", "acme_1.1.0+3.efi"]);
    assert_eq!(esp.trust("1.1.0"), Some(Trust::Trial { left: 3, done: 0 }));
    for _ in 0..3 {
        assert_eq!(esp.start(), "acme 1.1.0");
    }
    assert_eq!(esp.trust("1.1.0"), Some(Trust::Bad));
    assert_eq!(esp.start(), "acme 1.0.0");
    esp.boot.switch(&entry("1.1.0"), 2).unwrap();
    assert_eq!(esp.start(), "acme 1.1.0");
    let good = |boot: &SystemdBoot| boot.mark_good(&entry("1.1.0"));
    good(&esp.boot).unwrap();
    assert_eq!((esp.trust("1.1.0"), esp.start().as_str()), (Some(Trust::Good), "acme 1.1.0"));
    let files = ["acme_1.0.0.efi", "acme_1.1.0.efi"];
    cut_everywhere(&["acme_1.0.0.efi", "acme_1.1.0+2-1.efi"], good, &["acme 1.1.0"], &files);
    cut_everywhere(&["acme_1.0.0.efi", "acme_1.1.0+0-3.efi"], good, &["acme 1.0.0", "acme 1.1.0"], &files);
}

#[test]
fn a_bad_release_is_passed_over_whatever_the_other_ones_age_and_counter() {
    let bad = |version: &'static str| move |boot: &SystemdBoot| boot.mark_bad(&entry(version));
    let to_old = ["acme 1.1.0", "acme 1.0.0"];
    let to_new = ["acme 1.0.0", "acme 1.1.0"];
    cut_everywhere(
        &["acme_1.0.0.efi", "acme_1.1.0+2-1.efi"],
        bad("1.1.0"),
        &to_old,
        &["acme_1.0.0.efi", "acme_1.1.0+0-1.efi"],
    );
    cut_everywhere(
        &["acme_1.0.0+2-1.efi", "acme_1.1.0+0.efi"],
        bad("1.0.0"),
        &to_new,
        &["acme_1.0.0+0-1.efi", "acme_1.1.0+0.efi"],
    );
    cut_everywhere(
        &["acme_1.0.0+0-3.efi", "acme_1.1.0.efi"],
        bad("1.1.0"),
        &to_old,
        &["acme_1.0.0.efi", "acme_1.1.0+0.efi"],
    );
    let alone = Esp::with(&["acme_1.0.0.efi"]);
    assert_eq!(alone.boot.mark_bad(&entry("1.0.0")).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(alone.trust("1.0.0"), Some(Trust::Good));
}

#[test]
fn both_names_of_a_torn_rename_count_as_one_entry() {
    let torn = ["acme_1.0.0.efi", "acme_1.1.0+2-1.efi", "acme_1.1.0.efi"];
    let esp = Esp::with(&torn);
    assert_eq!(esp.trust("1.1.0"), Some(Trust::Trial { left: 2, done: 1 }));
    esp.boot.mark_good(&entry("1.1.0")).unwrap();
    assert_eq!(esp.files(), torn, "a name of shared clusters was renamed or deleted");
    esp.boot.remove_others(&entry("1.1.0")).unwrap();
    assert_eq!(esp.files(), torn[1..]);

    let bad = |boot: &SystemdBoot| boot.mark_bad(&entry("1.1.0"));
    let demoted = ["acme_1.0.0.efi", "acme_1.1.0+0-1.efi", "acme_1.1.0+0.efi"];
    cut_everywhere(&torn, bad, &["acme 1.1.0", "acme 1.0.0"], &demoted);
}

#[test]
fn of_several_files_of_a_release_the_one_that_is_booted_is_the_one_that_is_judged() {
    let esp = Esp::with(&["acme_1.1.0+0-1.efi", "acme_1.1.0.efi"]);
    let judged = || {
        let mut bytes = Vec::new();
        esp.boot.content(&entry("1.1.0")).unwrap().unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    };
    let damaged = [uki("acme", "1.1.0"), vec![1]].concat();
    esp.put("acme_1.1.0+0-1.efi", &damaged);
    assert!(judged() == uki("acme", "1.1.0"));
    esp.put("acme_1.1.0.efi", &damaged);
    assert!(judged() == damaged);
    // One that is out of sight is not booted.
    let sealed = [vec![0; 2], uki("acme", "1.1.0")[2..].to_vec(), vec![2]].concat();
    esp.put("acme_1.1.0.efi", &sealed);
    assert!(judged() == damaged);
}

/// A short name says nothing, and so has no counter: if it were overlooked, it would boot whatever was decided.
#[test]
fn the_short_name_that_a_torn_rename_leaves_is_an_entry_of_its_release() {
    let torn = |names: &[&str]| {
        let esp = Esp::with(names);
        esp.put("ACME_1~2.EFI", &uki("acme", "1.1.0"));
        esp
    };
    let esp = torn(&["acme_1.0.0.efi", "acme_1.1.0+0-1.efi"]);
    assert_eq!(esp.trust("1.1.0"), Some(Trust::Good));
    esp.boot.mark_bad(&entry("1.1.0")).unwrap();
    assert_eq!(esp.files(), ["acme_1.0.0.efi", "acme_1.1.0+0-1.efi", "acme_1.1.0+0.efi"]);

    let esp = torn(&["acme_1.0.0.efi", "acme_1.1.0+0-3.efi"]);
    esp.boot.switch(&entry("1.0.0"), 3).unwrap();
    assert_eq!(esp.next_boot(), "acme 1.0.0");

    let esp = torn(&["acme_1.0.0.efi"]);
    esp.boot.remove_others(&entry("1.0.0")).unwrap();
    assert_eq!(esp.files(), ["acme_1.0.0.efi"]);
}

/// A rename that was cut off before the file's start was written, or fsck.fat, leaves a name of nothing.
#[test]
fn an_empty_file_is_no_entry_and_in_nobodys_way() {
    let esp = Esp::with(&["acme_1.0.0.efi", "acme_1.1.0+2-1.efi"]);
    esp.put("acme_1.1.0.efi", b"");
    assert_eq!(esp.trust("1.1.0"), Some(Trust::Trial { left: 2, done: 1 }));
    esp.boot.mark_good(&entry("1.1.0")).unwrap();
    assert_eq!(esp.files(), ["acme_1.0.0.efi", "acme_1.1.0.efi"]);
    assert_eq!(esp.next_boot(), "acme 1.1.0");

    let esp = Esp::with(&["acme_1.0.0.efi"]);
    for name in ["acme_1.1.0.efi", "ACME_1~2.EFI"] {
        esp.put(name, b"");
    }
    assert_eq!(esp.trust("1.1.0"), None);
    let missing = esp.boot.staged(&entry("1.1.0")).err().map(|error| error.kind());
    assert_eq!(missing, Some(io::ErrorKind::NotFound));
    esp.boot.remove_others(&entry("1.0.0")).unwrap();
    assert_eq!(esp.files(), ["acme_1.0.0.efi"]);
}

/// Firmware takes a place that was never used for the folder's end.
#[test]
fn places_are_used_before_names_are_added_and_given_back() {
    let esp = Esp::with(&["acme_1.0.0.efi"]);
    let stage = || esp.boot.stage(&entry("1.1.0"), &mut &uki("acme", "1.1.0")[..]);
    esp.boot.folder.fuse.set(Some(0));
    assert!(stage().is_err());
    let names: Vec<String> = esp.files().into_iter().filter(|name| name.starts_with("PLACE")).collect();
    assert_eq!(names.len(), 48);
    assert!(names.iter().all(|name| name.len() == 12), "names of more than a place: {names:?}");
    esp.boot.folder.fuse.set(None);
    stage().unwrap();
    assert_eq!(esp.files(), ["acme_1.0.0.efi", "acme_1.1.0+3.efi"]);
}

#[test]
fn a_demotion_that_was_cut_off_leaves_a_way_back() {
    let esp = Esp::with(&["acme_1.0.0.efi", "acme_1.1.0.efi"]);
    esp.boot.folder.seal("acme_1.1.0.efi").unwrap();
    assert_eq!(esp.trust("1.1.0"), Some(Trust::Bad));
    esp.boot.switch(&entry("1.0.0"), 3).unwrap();
    let boots: Vec<String> = (0..4).map(|_| esp.start()).collect();
    assert_eq!(boots, ["acme 1.0.0", "acme 1.0.0", "acme 1.0.0", "acme 1.1.0"]);
}

#[test]
fn only_entries_of_updates_are_removed_and_never_the_last_one() {
    let esp = Esp::with(&["acme_1.0.0.efi", "acme_1.1.0+0-3.efi"]);
    let mut foreign = uki("acme", "1.0.0");
    foreign[0x400..0x400 + SAYS.len()].fill(b'x');
    let at = foreign.windows(15).position(|window| window == b"upright.version").unwrap();
    foreign[at..at + 15].fill(b'y');
    esp.put("arch-linux.efi", &foreign);
    esp.put("debian_12.efi", &foreign);
    // An entry of before the OS was renamed, and one whose long name was torn off.
    esp.put("oldname_1.0.0.efi", &uki("oldname", "1.0.0"));
    esp.put("ACME_1~1.EFI", &uki("acme", "1.1.0"));
    let error = esp.boot.remove_others(&entry("2.0.0")).unwrap_err();
    assert!(error.to_string().contains("acme 2.0.0"), "{error}");
    assert_eq!(esp.files().len(), 6);
    esp.boot.remove_others(&entry("1.0.0")).unwrap();
    assert_eq!(esp.files(), ["acme_1.0.0.efi", "arch-linux.efi", "debian_12.efi"]);
}

#[test]
fn staged_content_reads_back_whole_and_stays_unseen() {
    let esp = Esp::with(&["acme_1.0.0.efi"]);
    let bytes = uki("acme", "1.1.0");
    esp.boot.stage(&entry("1.1.0"), &mut &bytes[..]).unwrap();
    assert_eq!(esp.trust("1.1.0"), None);
    let mut back = Vec::new();
    esp.boot.staged(&entry("1.1.0")).unwrap().read_to_end(&mut back).unwrap();
    assert!(back == bytes);
    let line = esp.boot.command_line(&entry("1.1.0")).unwrap().unwrap();
    assert_eq!(pe::argument(&line, "upright.version"), Some("1.1.0"));
    // Staging again replaces it; staging over an entry in force is refused.
    esp.boot.stage(&entry("1.1.0"), &mut &bytes[..]).unwrap();
    let error = esp.boot.stage(&entry("1.0.0"), &mut &bytes[..]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
}

#[test]
fn content_that_is_no_efi_program_leaves_nothing_behind() {
    let esp = Esp::with(&["acme_1.0.0.efi"]);
    for bad in [&b""[..], b"M", b"ZM and more"] {
        assert!(esp.boot.stage(&entry("1.1.0"), &mut &bad[..]).is_err());
        assert_eq!(esp.files(), ["acme_1.0.0.efi"]);
    }
    assert!(esp.boot.switch(&entry("1.1.0"), 3).is_err());
    assert!(esp.boot.switch(&entry("1.0.0"), 0).is_err());
}

#[test]
fn an_entry_whose_writing_was_cut_off_is_not_switched_to() {
    let esp = Esp::with(&["acme_1.0.0.efi"]);
    let bytes = uki("acme", "1.1.0");
    for length in [512, 1 << 20, 3 << 20] {
        let mut cut = bytes[..length].to_vec();
        cut[..2].fill(0);
        esp.put("acme_1.1.0+3.efi", &cut);
        let error = esp.boot.switch(&entry("1.1.0"), 3).unwrap_err().to_string();
        assert!(error.contains("acme_1.1.0+3.efi") && error.contains("it is not complete"), "{error}");
        assert_eq!(esp.next_boot(), "acme 1.0.0");
    }
}

#[test]
fn room_counts_what_will_be_removed() {
    let esp = Esp::with(&["acme_1.0.0.efi"]);
    esp.put("acme_0.9.0.efi", &uki("acme", "0.9.0"));
    let removable = esp.boot.removable(&name_of(&entry("1.0.0"))).unwrap();
    assert_eq!(removable.len(), 1);
    // A little more than 3 MiB takes 4 clusters of 1 MiB, less one that the folder may need.
    assert_eq!(room_after(10 << 20, 1 << 20, &removable), 13 << 20);
    assert!(esp.boot.room(&entry("1.0.0")).unwrap() > 0);
    assert!(esp.boot.room(&entry("2.0.0")).is_err());
}
