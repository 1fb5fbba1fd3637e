//! Files on an ESP whose sectors cannot be read, or whose names change meanwhile.

use std::cell::RefCell;
use std::fs;

use super::super::conformance::{entry, uki};
use super::super::systemd_boot::SystemdBoot;
use super::super::{BootLoader, Entry, Trust};
use super::*;

/// A folder in which some files cannot be read: their names and lengths can be had, as on a FAT with a bad sector. Each listing is followed
/// by a rename of what it lists first, as long as there are names, as while another process ends a trial.
struct Sick {
    folder: Mounted,
    files: Vec<&'static str>,
    names: RefCell<Vec<&'static str>>,
}

impl Sick {
    fn read<T>(&self, file: &str, read: impl FnOnce(&Mounted) -> io::Result<T>) -> io::Result<T> {
        match self.files.contains(&file) {
            true => Err(io::Error::from_raw_os_error(5)),
            false => read(&self.folder),
        }
    }
}

impl Medium for Sick {
    fn path(&self) -> PathBuf {
        self.folder.path()
    }
    fn names(&self) -> io::Result<Vec<String>> {
        let listed = self.folder.names()?;
        if let Some(name) = self.names.borrow_mut().pop() {
            self.folder.rename(&listed[0], name)?;
        }
        Ok(listed)
    }
    fn length(&self, file: &str) -> io::Result<u64> {
        self.folder.length(file)
    }
    fn read_at(&self, file: &str, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read(file, |folder| folder.read_at(file, buffer, offset))
    }
    fn open(&self, file: &str) -> io::Result<Box<dyn Read>> {
        self.read(file, |folder| folder.open(file))
    }
    fn make(&self) -> io::Result<()> {
        self.folder.make()
    }
    fn create(&self, file: &str) -> io::Result<()> {
        self.folder.create(file)
    }
    fn write_at(&self, file: &str, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.read(file, |folder| folder.write_at(file, bytes, offset))
    }
    fn set_length(&self, file: &str, length: u64) -> io::Result<()> {
        self.folder.set_length(file, length)
    }
    fn sync_file(&self, file: &str) -> io::Result<()> {
        self.folder.sync_file(file)
    }
    fn sync(&self) -> io::Result<()> {
        self.folder.sync()
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.folder.rename(from, to)
    }
    fn remove(&self, file: &str) -> io::Result<()> {
        self.folder.remove(file)
    }
    fn free(&self) -> io::Result<(u64, u64)> {
        Ok((1 << 20, 4096))
    }
}

/// An ESP with 1.0.0 and 1.1.0, both proven, and those files beside them; and which of all cannot be read.
fn esp(beside: &[&str], sick: &[&'static str]) -> (tempfile::TempDir, SystemdBoot) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("EFI/Linux");
    fs::create_dir_all(&folder).unwrap();
    for (file, version) in [("acme_1.0.0.efi", "1.0.0"), ("acme_1.1.0.efi", "1.1.0")] {
        fs::write(folder.join(file), uki(version)).unwrap();
    }
    beside.iter().for_each(|file| fs::write(folder.join(file), "MZ").unwrap());
    let (folder, files, names) = (Mounted(folder), sick.to_vec(), RefCell::default());
    let boot = SystemdBoot::on(Box::new(Sick { folder, files, names }));
    (root, boot)
}

fn old() -> Entry {
    entry(upright_manifests::name::Slot::A, "1.0.0")
}

fn new() -> Entry {
    entry(upright_manifests::name::Slot::B, "1.1.0")
}

fn files(root: &tempfile::TempDir) -> Vec<String> {
    let mut names = Mounted(root.path().join("EFI/Linux")).names().unwrap();
    names.sort();
    names
}

#[test]
fn another_systems_file_that_cannot_be_read_is_in_nobodys_way_and_left_alone() {
    const THEIRS: [&str; 3] = ["ARCH~1.EFI", "debian_12+3.efi", "debian_12.efi"];
    let (root, boot) = esp(&THEIRS, &THEIRS);
    boot.mark_bad(&new()).unwrap();
    boot.switch(&new(), 3).unwrap();
    boot.mark_good(&new()).unwrap();
    assert_eq!(boot.trust(&new()).unwrap(), Some(Trust::Good));
    boot.remove_others(&new()).unwrap();
    assert_eq!(files(&root), [THEIRS[0], "acme_1.1.0.efi", THEIRS[1], THEIRS[2]]);
    boot.stage(&old(), &mut &uki("1.0.0")[..]).unwrap();
    boot.switch(&old(), 3).unwrap();
    assert!(matches!(boot.trust(&old()).unwrap(), Some(Trust::Trial { left: 3, done: 0 })));
    assert!(THEIRS.iter().all(|file| files(&root).contains(&(*file).to_owned())));
}

#[test]
fn a_release_whose_entry_cannot_be_read_can_be_left() {
    let leave: [fn(&SystemdBoot) -> io::Result<()>; 2] =
        [|boot| boot.mark_bad(&new()), |boot| boot.switch(&old(), 3)];
    for leave in leave {
        let (root, boot) = esp(&[], &["acme_1.1.0.efi", "acme_1.1.0+0.efi"]);
        assert!(boot.content(&new()).is_err());
        leave(&boot).unwrap();
        // It is passed over should the firmware be able to read it.
        assert!(files(&root).contains(&"acme_1.1.0+0.efi".to_owned()), "{:?}", files(&root));
        assert_ne!(boot.trust(&old()).unwrap(), Some(Trust::Bad));
    }
}

#[test]
fn a_way_back_that_cannot_be_read_is_there_and_not_gone_to() {
    let (root, boot) = esp(&[], &["acme_1.0.0.efi"]);
    assert_eq!(boot.trust(&old()).unwrap(), Some(Trust::Bad));
    assert!(boot.content(&old()).is_err());
    let error = boot.mark_bad(&new()).unwrap_err().to_string();
    assert!(error.contains("(that of acme 1.0.0 cannot: Input/output error"), "{error}");
    assert_eq!(boot.trust(&new()).unwrap(), Some(Trust::Good));
    assert_eq!(files(&root), ["acme_1.0.0.efi", "acme_1.1.0.efi"]);
    boot.remove_others(&new()).unwrap();
    assert_eq!(files(&root), ["acme_1.1.0.efi"]);
}

#[test]
fn what_a_mend_that_was_cut_off_leaves_counts_as_free() {
    let (root, boot) = esp(&[], &[]);
    let room = boot.room_beside(&new()).unwrap();
    fs::write(root.path().join("EFI/Linux").join(COPY), vec![0; 5000]).unwrap();
    assert_eq!(boot.room_beside(&new()).unwrap(), room + 8192);
}

#[test]
fn what_cannot_be_read_is_told() {
    let (root, _boot) = esp(&[], &[]);
    assert_eq!(unreadable(root.path()), []);
    std::os::unix::fs::symlink("nowhere", root.path().join("EFI/Linux/debian_12.efi")).unwrap();
    let concerns = unreadable(root.path());
    assert!(
        concerns.len() == 1 && concerns[0].says.contains("debian_12.efi cannot be read ("),
        "{concerns:?}"
    );
}

#[test]
fn an_entry_that_is_renamed_while_it_is_looked_at_is_found() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("acme_1.1.0+2-1.efi"), uki("1.1.0")).unwrap();
    let names = RefCell::new(vec!["acme_1.1.0.efi", "acme_1.1.0+1-2.efi"]);
    let folder = Mounted(root.path().to_owned());
    let looking = SystemdBoot::on(Box::new(Sick { folder, files: Vec::new(), names }));
    assert_eq!(looking.trust(&new()).unwrap(), Some(Trust::Good));
}
