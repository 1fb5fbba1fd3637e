//! One behaviour for all boot loaders: every back end goes through the same tests.
//!
//! Beside each back end stands a small model of its boot loader, written from the boot loader's source or from the script in
//! `dist/`, apart from the back end: it reads what the back end wrote and chooses, counts and falls back as the boot loader would. A
//! model that is given a release that is not complete fails the test.

mod benches;
mod cuts;
mod damaged;
mod loaders;
mod mended;
mod random;

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use upright_manifests::name::Slot;
use upright_manifests::pe;

use super::fuse::Fuse;
use super::{BootLoader, Entry, Trust};

const OS: &str = "acme";

/// A machine's disk and firmware in a folder.
struct Bench {
    root: tempfile::TempDir,
    boot: Box<dyn BootLoader>,
    fuse: Fuse,
    /// Starts what the boot loader in the folder would start, and changes its state as it would; gives the version.
    start: fn(&Path) -> String,
}

type Make = fn() -> Bench;

impl Bench {
    /// The machine is switched on.
    fn start(&self) -> String {
        (self.start)(self.root.path())
    }

    /// It is, and what comes up is proven, which the agent says at each boot.
    fn come_up(&self, slot: Slot) -> String {
        let version = self.start();
        self.boot.came_up(&entry(slot, &version)).unwrap();
        version
    }

    /// What would be started, without starting it.
    fn next(&self) -> String {
        let copy = folder();
        copy_folder(self.root.path(), copy.path());
        (self.start)(copy.path())
    }

    /// What would be started once `version` is not any more, if it never proves itself.
    fn after(&self, version: &str) -> String {
        let copy = folder();
        copy_folder(self.root.path(), copy.path());
        let mut boots = (0..10).map(|_| (self.start)(copy.path()));
        boots.find(|started| started != version).expect("a trial without an end")
    }

    /// The file of an entry whose boots are not counted.
    fn file(&self, entry: &Entry) -> PathBuf {
        let by_name = self.root.path().join("esp/EFI/Linux").join(format!("{OS}_{}.efi", entry.version));
        let by_slot = self.root.path().join("EFI/upright").join(format!("{}.efi", entry.slot));
        if by_name.exists() { by_name } else { by_slot }
    }

    /// The disk has zeros in the place of the first bytes of an entry.
    fn zero(&self, entry: &Entry, bytes: usize) {
        let file = fs::File::options().write(true).open(self.file(entry)).unwrap();
        file.write_all_at(&vec![0; bytes], 0).unwrap();
        assert!(!self.boot.is_seen(entry).unwrap());
    }

    /// The disk cannot read an entry any more: a link that leads to itself.
    fn lose(&self, entry: &Entry) {
        let file = self.file(entry);
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(file.file_name().unwrap(), &file).unwrap();
    }

    fn trust(&self, entry: &Entry) -> Option<Trust> {
        self.boot.trust(entry).unwrap()
    }

    fn stage(&self, new: &Entry) -> io::Result<()> {
        self.boot.stage(new, &mut &uki(new.version.as_str())[..])
    }

    /// As far as an update goes before the switch.
    fn prepare(&self, running: &Entry, new: &Entry) -> io::Result<()> {
        self.boot.remove_others(running)?;
        self.stage(new)
    }

    /// 1.0.0 in slot a, proven, runs; 1.1.0 is switched to in slot b.
    fn updated(make: Make) -> Self {
        let bench = make();
        bench.prepare(&old(), &new()).unwrap();
        bench.boot.switch(&new(), 3).unwrap();
        bench
    }

    /// 1.1.0 has proven itself, too.
    fn proven(make: Make) -> Self {
        let bench = Self::updated(make);
        assert_eq!(bench.start(), "1.1.0");
        bench.boot.mark_good(&new()).unwrap();
        bench
    }
}

/// The suite for one back end.
macro_rules! conforms {
    ($($name:ident),* $(,)?) => { $(mod $name {
        use super::benches;

        #[test]
        fn what_is_staged_is_read_back_and_not_booted() {
            super::what_is_staged_is_read_back_and_not_booted(benches::$name);
        }
        #[test]
        fn a_trial_that_is_never_proven_falls_back() {
            super::a_trial_that_is_never_proven_falls_back(benches::$name);
        }
        #[test]
        fn a_proven_release_stays_and_so_does_the_way_back() {
            super::a_proven_release_stays_and_so_does_the_way_back(benches::$name);
        }
        #[test]
        fn a_way_back_that_was_lost_is_restored_and_not_booted() {
            super::a_way_back_that_was_lost_is_restored_and_not_booted(benches::$name);
        }
        #[test]
        fn an_operator_goes_back_and_forward() {
            super::an_operator_goes_back_and_forward(benches::$name);
        }
        #[test]
        fn removing_leaves_the_one_that_is_kept_whatever_was_known_of_it() {
            super::removing_leaves_the_one_that_is_kept_whatever_was_known_of_it(benches::$name);
        }
        #[test]
        fn what_cannot_be_is_refused_and_changes_nothing() {
            super::what_cannot_be_is_refused_and_changes_nothing(benches::$name);
        }
        #[test]
        fn a_change_that_is_cut_off_anywhere_leaves_something_to_boot() {
            super::cuts::a_change_that_is_cut_off_anywhere_leaves_something_to_boot(benches::$name);
        }
        #[test]
        fn a_switch_that_is_cut_off_anywhere_keeps_its_way_back() {
            super::cuts::a_switch_that_is_cut_off_anywhere_keeps_its_way_back(benches::$name);
        }
        #[test]
        fn what_is_in_force_says_what_it_would_start() {
            super::what_is_in_force_says_what_it_would_start(benches::$name);
        }
        #[test]
        fn the_switch_is_one_step() {
            super::cuts::the_switch_is_one_step(benches::$name);
        }
        #[test]
        fn an_entry_that_cannot_be_read_is_left_and_not_gone_to() {
            super::an_entry_that_cannot_be_read_is_left_and_not_gone_to(benches::$name);
        }
        #[test]
        fn an_entry_that_lost_its_first_bytes_is_seen_again_once_it_runs() {
            super::an_entry_that_lost_its_first_bytes_is_seen_again_once_it_runs(benches::$name);
        }
        #[test]
        fn a_release_without_an_entry_is_followed_by_the_next_one() {
            super::a_release_without_an_entry_is_followed_by_the_next_one(benches::$name);
        }
        #[test]
        fn a_damaged_entry_is_mended_in_place_whenever_power_goes() {
            super::mended::check(benches::$name);
        }
        #[test]
        fn what_a_mend_that_was_cut_off_leaves_is_in_nobodys_way() {
            super::mended::check_what_is_left(benches::$name);
        }
        #[test]
        fn any_sequence_of_changes_boots_and_power_cuts_leaves_something_to_boot() {
            super::random::check(benches::$name);
        }
    })* };
}

conforms!(
    systemd_boot,
    simulated,
    grub,
    grub_on_bios,
    grub_with_another_updaters_script,
    uboot_on_esp,
    uboot_file,
    uboot_redundant_files,
    uboot_redundant_region,
    uboot_with_another_updaters_script,
    efi,
    custom,
);

fn what_is_staged_is_read_back_and_not_booted(make: Make) {
    let bench = make();
    bench.prepare(&old(), &new()).unwrap();
    assert_eq!((bench.trust(&old()), bench.trust(&new())), (Some(Trust::Good), None));
    let mut back = Vec::new();
    bench.boot.staged(&new()).unwrap().read_to_end(&mut back).unwrap();
    assert!(back == uki("1.1.0"), "not what was staged");
    // Staged again, it is replaced.
    bench.stage(&new()).unwrap();
    for _ in 0..5 {
        assert_eq!(bench.come_up(Slot::A), "1.0.0");
    }
    // What another release left there is no release of this name.
    assert!(bench.boot.staged(&entry(Slot::B, "1.2.0")).is_err());
}

/// The machine was started before that.
fn an_entry_that_lost_its_first_bytes_is_seen_again_once_it_runs(make: Make) {
    type Told = fn(&dyn BootLoader) -> io::Result<()>;
    let told: [Told; 2] = [|boot| boot.came_up(&new()), |boot| boot.mark_good(&new())];
    for told in told {
        let bench = Bench::proven(make);
        assert!(bench.boot.is_seen(&new()).unwrap());
        bench.zero(&new(), 2);
        told(bench.boot.as_ref()).unwrap();
        assert!(bench.boot.is_seen(&new()).unwrap());
        for _ in 0..3 {
            assert_eq!(bench.come_up(Slot::B), "1.1.0");
        }
        // With more than that gone it is nothing that boots, and nobody is told that it is.
        bench.zero(&new(), 512);
        assert!(bench.boot.mark_good(&new()).is_err());
        let _ = bench.boot.came_up(&new());
        assert!(!bench.boot.is_seen(&new()).unwrap());
        assert!(bench.boot.remove_others(&new()).is_err() && bench.boot.room(&new()).is_err());
        bench.boot.mark_bad(&new()).unwrap();
        assert_eq!(bench.come_up(Slot::A), "1.0.0");
    }
}

/// What runs has lost its entry, in whichever way, and there is no other one.
fn a_release_without_an_entry_is_followed_by_the_next_one(make: Make) {
    let damages: [fn(&Bench); 4] = [
        |bench| bench.zero(&new(), 2),
        |bench| bench.zero(&new(), 512),
        |bench| bench.lose(&new()),
        |bench| fs::remove_file(bench.file(&new())).unwrap(),
    ];
    for damage in damages {
        let (bench, newest) = (Bench::proven(make), entry(Slot::A, "1.2.0"));
        bench.boot.remove_others(&new()).unwrap();
        damage(&bench);
        bench.boot.room(&new()).unwrap();
        bench.prepare(&new(), &newest).unwrap();
        bench.boot.switch(&newest, 2).unwrap();
        assert_eq!(bench.start(), "1.2.0");
        bench.boot.mark_good(&newest).unwrap();
        for _ in 0..3 {
            assert_eq!(bench.come_up(Slot::A), "1.2.0");
        }
    }
}

/// 1.1.0 in slot b is proven and runs; the entry of 1.0.0 in slot a was damaged, removed, and is staged again.
fn without_way_back(make: Make) -> Bench {
    let bench = Bench::proven(make);
    bench.boot.remove_others(&new()).unwrap();
    bench.stage(&old()).unwrap();
    bench
}

fn a_way_back_that_was_lost_is_restored_and_not_booted(make: Make) {
    let bench = without_way_back(make);
    assert!(bench.boot.content(&old()).unwrap().is_none(), "what is staged is no entry");
    for _ in 0..2 {
        bench.boot.restore(&old(), &new()).unwrap();
        assert_eq!(bench.trust(&old()), Some(Trust::Good));
        for _ in 0..5 {
            assert_eq!(bench.come_up(Slot::B), "1.1.0");
        }
    }
    let mut back = Vec::new();
    bench.boot.content(&old()).unwrap().unwrap().read_to_end(&mut back).unwrap();
    assert!(back == uki("1.0.0"), "not what was staged");
    bench.boot.mark_bad(&new()).unwrap();
    assert_eq!(bench.come_up(Slot::A), "1.0.0");
    assert!(bench.boot.restore(&entry(Slot::B, "1.2.0"), &old()).is_err());
}

fn a_trial_that_is_never_proven_falls_back(make: Make) {
    let bench = Bench::updated(make);
    assert!(matches!(bench.trust(&new()), Some(Trust::Trial { left: 1..=3, done: 0 })));
    let mut boots = 0;
    while bench.next() == "1.1.0" {
        boots += 1;
        assert!(boots <= 3, "more boots than tries");
        let Some(Trust::Trial { left, done }) = bench.trust(&new()) else { panic!("no trial") };
        assert_eq!((bench.start().as_str(), done), ("1.1.0", boots - 1));
        match bench.trust(&new()) {
            Some(Trust::Trial { left: now, .. }) => assert_eq!(now, left - 1),
            other => assert_eq!((other, left), (Some(Trust::Bad), 1)),
        }
    }
    assert!(boots > 0);
    for _ in 0..5 {
        assert_eq!(bench.come_up(Slot::A), "1.0.0");
    }
    assert_eq!((bench.trust(&old()), bench.trust(&new())), (Some(Trust::Good), Some(Trust::Bad)));
    // An operator may insist.
    bench.boot.switch(&new(), 1).unwrap();
    assert_eq!((bench.start(), bench.start()), ("1.1.0".to_owned(), "1.0.0".to_owned()));
}

fn a_proven_release_stays_and_so_does_the_way_back(make: Make) {
    let bench = Bench::proven(make);
    bench.boot.mark_good(&new()).unwrap();
    assert_eq!((bench.trust(&old()), bench.trust(&new())), (Some(Trust::Good), Some(Trust::Good)));
    for _ in 0..10 {
        assert_eq!(bench.come_up(Slot::B), "1.1.0");
    }
    // The other way round, into the slot with the older release.
    let newest = entry(Slot::A, "1.2.0");
    bench.prepare(&new(), &newest).unwrap();
    assert_eq!(bench.trust(&old()), None);
    assert_eq!(bench.come_up(Slot::B), "1.1.0");
    bench.boot.switch(&newest, 3).unwrap();
    assert_eq!(bench.start(), "1.2.0");
    bench.boot.mark_good(&newest).unwrap();
    assert_eq!(bench.come_up(Slot::A), "1.2.0");
    assert_eq!(bench.trust(&new()), Some(Trust::Good));
}

fn an_operator_goes_back_and_forward(make: Make) {
    let bench = Bench::proven(make);
    bench.boot.mark_bad(&new()).unwrap();
    bench.boot.mark_bad(&new()).unwrap();
    for _ in 0..5 {
        assert_eq!(bench.come_up(Slot::A), "1.0.0");
    }
    assert_eq!((bench.trust(&old()), bench.trust(&new())), (Some(Trust::Good), Some(Trust::Bad)));
    bench.boot.switch(&new(), 1).unwrap();
    assert_eq!(bench.start(), "1.1.0");
    assert_eq!(bench.come_up(Slot::A), "1.0.0", "the second trial was not counted");
    bench.boot.switch(&new(), 3).unwrap();
    assert_eq!(bench.start(), "1.1.0");
    bench.boot.mark_good(&new()).unwrap();
    assert_eq!(bench.come_up(Slot::B), "1.1.0");
    // A switch that is called off before anything was booted.
    bench.boot.mark_bad(&new()).unwrap();
    assert_eq!(bench.come_up(Slot::A), "1.0.0");
    bench.boot.switch(&new(), 3).unwrap();
    bench.boot.mark_bad(&new()).unwrap();
    assert_eq!(bench.come_up(Slot::A), "1.0.0");
}

fn removing_leaves_the_one_that_is_kept_whatever_was_known_of_it(make: Make) {
    // It ran its last trial boot, or was to be left for another one.
    let tried = Bench::updated(make);
    tried.boot.switch(&new(), 1).unwrap();
    assert_eq!(tried.start(), "1.1.0");
    let left = Bench::proven(make);
    left.boot.mark_bad(&new()).unwrap();
    for bench in [tried, left] {
        for _ in 0..2 {
            bench.boot.remove_others(&new()).unwrap();
            assert_eq!(bench.trust(&old()), None);
        }
        for _ in 0..5 {
            assert_eq!(bench.come_up(Slot::B), "1.1.0");
        }
        assert!(bench.boot.room(&new()).unwrap() > 0);
    }
}

fn what_cannot_be_is_refused_and_changes_nothing(make: Make) {
    let bench = make();
    let other = entry(Slot::B, "1.1.0");
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    assert_eq!(kind(bench.boot.remove_others(&other)), io::ErrorKind::NotFound);
    assert_eq!(kind(bench.boot.switch(&other, 3)), io::ErrorKind::NotFound);
    assert_eq!(kind(bench.boot.mark_good(&other)), io::ErrorKind::NotFound);
    bench.boot.mark_bad(&other).expect("what is not there is passed over");
    assert_eq!(kind(bench.boot.mark_bad(&old())), io::ErrorKind::NotFound, "the only entry was left");
    assert_eq!(kind(bench.boot.switch(&old(), 0)), io::ErrorKind::InvalidInput);
    assert_eq!(kind(bench.stage(&old())), io::ErrorKind::AlreadyExists);
    assert!(bench.boot.room(&other).is_err() && bench.boot.staged(&other).is_err());
    for bad in [&b""[..], b"M", b"ZM and more"] {
        assert!(bench.boot.stage(&other, &mut &bad[..]).is_err());
        assert!(bench.boot.staged(&other).is_err());
    }
    for _ in 0..3 {
        assert_eq!(bench.come_up(Slot::A), "1.0.0");
    }
    assert_eq!(bench.trust(&old()), Some(Trust::Good));
}

/// As systemd-boot does: both models of it must.
#[test]
fn a_boot_of_what_has_no_tries_left_is_counted_as_well() {
    for make in [benches::systemd_boot, benches::simulated] {
        let bench = make();
        let folder = bench.root.path().join("esp/EFI/Linux");
        fs::rename(folder.join("acme_1.0.0.efi"), folder.join("acme_1.0.0+0.efi")).unwrap();
        for name in ["acme_1.0.0+0-1.efi", "acme_1.0.0+0-2.efi"] {
            assert_eq!(bench.start(), "1.0.0");
            assert!(folder.join(name).exists(), "no {name}");
            assert_eq!(bench.trust(&old()), Some(Trust::Bad));
        }
        assert_eq!(bench.come_up(Slot::A), "1.0.0");
        assert_eq!(bench.trust(&old()), Some(Trust::Good), "it is all there is");
    }
}

/// From the first of its steps on that changes what is booted, it stays so.
fn what_is_in_force_says_what_it_would_start(make: Make) {
    let bench = make();
    let said = || {
        let lines = bench.boot.command_lines().unwrap();
        let version = |line: &String| pe::argument(line, "upright.version").unwrap_or_default().to_owned();
        lines.iter().map(version).collect::<std::collections::BTreeSet<_>>()
    };
    let versions = |versions: &[&str]| versions.iter().map(|version| (*version).to_owned()).collect();
    bench.prepare(&old(), &new()).unwrap();
    assert_eq!(said(), versions(&["1.0.0"]), "what is staged is not in force");
    bench.boot.switch(&new(), 3).unwrap();
    assert_eq!(said(), versions(&["1.0.0", "1.1.0"]));
}

fn an_entry_that_cannot_be_read_is_left_and_not_gone_to(make: Make) {
    let bench = Bench::proven(make);
    bench.lose(&new());
    assert!(bench.boot.content(&new()).is_err());
    bench.boot.mark_bad(&new()).unwrap();
    assert_eq!(bench.come_up(Slot::A), "1.0.0");
    assert_eq!(bench.trust(&old()), Some(Trust::Good));

    let bench = Bench::proven(make);
    bench.lose(&old());
    assert!(bench.boot.content(&old()).is_err());
    assert!(bench.boot.mark_bad(&new()).is_err() && bench.boot.switch(&old(), 3).is_err());
    assert_eq!(bench.come_up(Slot::B), "1.1.0");
    let newest = entry(Slot::A, "1.2.0");
    bench.prepare(&new(), &newest).unwrap();
    bench.boot.switch(&newest, 3).unwrap();
    assert_eq!(bench.start(), "1.2.0");
}

pub(super) fn entry(slot: Slot, version: &str) -> Entry {
    Entry { slot, os: OS.parse().unwrap(), version: version.parse().unwrap() }
}

fn old() -> Entry {
    entry(Slot::A, "1.0.0")
}

fn new() -> Entry {
    entry(Slot::B, "1.1.0")
}

/// A release's UKI.
pub(super) fn uki(version: &str) -> Vec<u8> {
    let line = format!("upright.os={OS} upright.version={version} roothash=00");
    let body = version.as_bytes().repeat(3000);
    uki_with(&[(".cmdline", line.as_bytes()), (".linux", &body), (".initrd", &body[..700])])
}

/// A UKI of those sections.
pub(super) fn uki_with(sections: &[(&str, &[u8])]) -> Vec<u8> {
    const SECTOR: usize = 512;
    let mut bytes = vec![0; 2 * SECTOR];
    let put = |bytes: &mut Vec<u8>, at: usize, field: &[u8]| {
        bytes[at..at + field.len()].copy_from_slice(field);
    };
    put(&mut bytes, 0, b"MZ");
    put(&mut bytes, 0x3c, &[0x80]);
    put(&mut bytes, 0x80, b"PE\0\0");
    put(&mut bytes, 0x86, &[sections.len() as u8]);
    put(&mut bytes, 0x94, &[0xf0]);
    put(&mut bytes, 0x98, &0x20bu16.to_le_bytes());
    for (number, (name, content)) in sections.iter().enumerate() {
        let header = 0x80 + 24 + 0xf0 + number * 40;
        let (size, padded) = (content.len(), content.len().next_multiple_of(SECTOR));
        let at = bytes.len();
        put(&mut bytes, header, name.as_bytes());
        for (offset, value) in [(8, size), (16, padded), (20, at)] {
            put(&mut bytes, header + offset, &(value as u32).to_le_bytes());
        }
        bytes.extend_from_slice(content);
        bytes.resize(at + padded, 0);
    }
    bytes
}

/// A folder in memory where there is one: thousands of syncs need no disk.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn copy_folder(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_folder(&file.path(), &target);
        } else {
            // What cannot be read is not started either.
            let copied = fs::copy(file.path(), target);
            assert!(copied.is_ok() || file.path().is_symlink(), "{copied:?}");
        }
    }
}
