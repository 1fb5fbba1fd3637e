//! Power cuts: a disk that keeps what was synced, and of the rest as much or as little as is worst.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::*;

/// A folder as names and the numbers of what they name.
type Names = BTreeMap<PathBuf, usize>;

/// A disk in memory whose power goes after so many steps.
struct CutDisk {
    left: RefCell<usize>,
    files: RefCell<Vec<Content>>,
    /// The folder's names as they were last made durable, and after each change since; the last is what is seen.
    names: RefCell<Vec<Names>>,
}

struct Content {
    bytes: Vec<u8>,
    synced: bool,
}

impl CutDisk {
    /// A disk with `old` at `path`, durable.
    fn with(path: &Path, old: &[u8], steps: usize) -> Self {
        Self {
            left: RefCell::new(steps),
            files: RefCell::new(vec![Content { bytes: old.to_vec(), synced: true }]),
            names: RefCell::new(vec![[(path.to_owned(), 0)].into()]),
        }
    }

    fn step(&self) -> io::Result<()> {
        let mut left = self.left.borrow_mut();
        *left = left.checked_sub(1).ok_or(io::ErrorKind::Interrupted)?;
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut Names)) {
        let mut names = self.names.borrow_mut();
        let mut next = names.last().unwrap().clone();
        change(&mut next);
        names.push(next);
    }

    /// All that may be found at `path` after power has gone: any of the changes to the folder may have got through, and
    /// of a file that was not synced nothing, a part, or everything.
    fn after_a_cut(&self, path: &Path) -> Vec<Option<Vec<u8>>> {
        let files = self.files.borrow();
        let mut found = vec![];
        for names in self.names.borrow().iter() {
            let Some(file) = names.get(path).map(|number| &files[*number]) else {
                found.push(None);
                continue;
            };
            let lengths = if file.synced { vec![file.bytes.len()] } else { vec![0, file.bytes.len() / 2] };
            found.extend(lengths.into_iter().map(|length| Some(file.bytes[..length].to_vec())));
        }
        found
    }
}

impl Disk for CutDisk {
    type File = usize;

    fn create(&self, path: &Path) -> io::Result<usize> {
        self.step()?;
        let mut files = self.files.borrow_mut();
        files.push(Content { bytes: vec![], synced: false });
        let number = files.len() - 1;
        self.change(|names| {
            names.insert(path.to_owned(), number);
        });
        Ok(number)
    }

    fn write(&self, file: &mut usize, bytes: &[u8]) -> io::Result<()> {
        self.step()?;
        self.files.borrow_mut()[*file].bytes.extend(bytes);
        Ok(())
    }

    fn sync(&self, file: &usize) -> io::Result<()> {
        self.step()?;
        self.files.borrow_mut()[*file].synced = true;
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        self.change(|names| {
            let file = names.remove(from).unwrap();
            names.insert(to.to_owned(), file);
        });
        Ok(())
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        self.step()?;
        let mut names = self.names.borrow_mut();
        let last = names.len() - 1;
        names.drain(..last);
        Ok(())
    }

    /// There is no power for it.
    fn remove(&self, _: &Path) {}
}

#[test]
fn whenever_power_goes_the_old_file_or_the_new_one_is_there() {
    let path = Path::new("tuf/timestamp.json");
    let [old, new] = [&b"the old one"[..], b"the new one"];
    let mut steps = 0;
    loop {
        let disk = CutDisk::with(path, old, steps);
        let done = replace(&disk, path, new).is_ok();
        for found in disk.after_a_cut(path) {
            let found = found.as_deref();
            let whole = found == Some(new) || found == Some(old) && !done;
            assert!(whole, "after {steps} steps: {:?}", found.map(String::from_utf8_lossy));
        }
        if done {
            break;
        }
        steps += 1;
    }
    assert_eq!(steps, 5);
}

#[test]
fn what_a_power_cut_left_aside_is_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root.json");
    fs::write(aside(&path), b"half of a r").unwrap();
    replace(&FileSystem, &path, b"whole").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"whole");
    assert!(!aside(&path).exists());
}

#[test]
fn nothing_stays_of_a_file_that_could_not_be_written() {
    struct Full;
    impl Disk for Full {
        type File = File;
        fn create(&self, path: &Path) -> io::Result<File> {
            FileSystem.create(path)
        }
        fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
            FileSystem.write(file, &bytes[..2])?;
            Err(io::ErrorKind::StorageFull.into())
        }
        fn sync(&self, file: &File) -> io::Result<()> {
            FileSystem.sync(file)
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            FileSystem.rename(from, to)
        }
        fn sync_folder(&self, folder: &Path) -> io::Result<()> {
            FileSystem.sync_folder(folder)
        }
        fn remove(&self, path: &Path) {
            FileSystem.remove(path);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    assert!(replace(&Full, &path, b"whole").is_err());
    assert!(!aside(&path).exists());
}

#[test]
fn a_folder_in_a_files_place_is_kept_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fresh");
    for place in [aside(&path), path.clone()] {
        fs::create_dir_all(place.join("inside")).unwrap();
    }
    replace(&FileSystem, &path, b"b").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"b");
    assert!(folder.path().join("fresh.left-0/inside").is_dir());
    assert!(folder.path().join("fresh.new.left-0/inside").is_dir());
}

#[test]
fn a_link_in_the_store_leads_no_write_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let victim = folder.path().join("victim");
    fs::write(&victim, b"untouched").unwrap();
    let path = folder.path().join("root.json");
    for link in [aside(&path), path.clone()] {
        std::os::unix::fs::symlink(&victim, link).unwrap();
    }
    replace(&FileSystem, &path, b"root").unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"untouched");
    assert!(fs::symlink_metadata(&path).unwrap().is_file());
}
