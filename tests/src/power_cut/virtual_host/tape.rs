//! The disk of a virtual host, with everything that happens to it on tape; power goes when it is told to.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use upright_updater::host::BlockDevice;

use super::super::disk::Content;
use super::super::event::{Event, SECTOR, Write};
use super::super::random::Random;

/// The files of a state folder, by their path in it.
pub type StateFiles = BTreeMap<PathBuf, Vec<u8>>;

/// A disk and the state folder beside it. Clones are the same one.
///
/// The agent replaces each file of its state in one durable step (proven in `updater/src/store/replace_tests.rs`), so the folder
/// as it is between two events is all that a cut can leave of it.
#[derive(Clone)]
pub struct Tape(Arc<Mutex<Inner>>);

struct Inner {
    disk: Vec<u8>,
    folder: PathBuf,
    events: Vec<Event>,
    /// What was written, by the number of its sector.
    written: Vec<u8>,
    /// The state folder from an event on.
    states: Vec<(usize, StateFiles)>,
    /// Whether the state folder is looked at.
    watched: bool,
    stable: Vec<u8>,
    pending: Vec<Write>,
    /// Events until the power goes.
    power: Option<u64>,
    /// Writes to these bytes fail, or are not done although the disk says so.
    faults: Vec<(DiskFault, Range<u64>)>,
    /// How often something went wrong.
    struck: u64,
}

/// What is wrong with a place of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFault {
    /// Reading fails.
    Read,
    /// Writing fails.
    Write,
    /// Writes are dropped.
    Drop,
}

impl Tape {
    /// A disk with this content, and a state folder with these files at `folder`.
    pub fn new(disk: Vec<u8>, folder: &Path, files: &StateFiles) -> io::Result<Self> {
        put(folder, files)?;
        Ok(Self(Arc::new(Mutex::new(Inner {
            stable: disk.clone(),
            disk,
            folder: folder.to_owned(),
            events: Vec::new(),
            written: Vec::new(),
            states: vec![(0, files.clone())],
            watched: true,
            pending: Vec::new(),
            power: None,
            faults: Vec::new(),
            struck: 0,
        }))))
    }

    /// Looks at the state folder no more, which takes time: for a life that nobody cuts.
    pub fn unwatch(&self) {
        self.lock().watched = false;
    }

    /// What happened so far, and what was written.
    pub fn events(&self) -> (Vec<Event>, Vec<u8>) {
        let inner = self.lock();
        (inner.events.clone(), inner.written.clone())
    }

    /// The state folder before event `at`, and after it if it has changed by then: a cut may leave either.
    pub fn states_at(&self, at: usize) -> Vec<StateFiles> {
        let inner = self.lock();
        let before = inner.states.partition_point(|(since, _)| *since < at).saturating_sub(1);
        inner.states[before..]
            .iter()
            .take_while(|(since, _)| *since <= at)
            .map(|(_, files)| files.clone())
            .collect()
    }

    /// Power goes at the event after `events` more.
    pub fn lose_power_after(&self, events: u64) {
        self.lock().power = Some(events);
    }

    /// Power does not go any more.
    pub fn stay_on(&self) {
        self.lock().power = None;
    }

    /// Whether the power is gone.
    pub fn is_dark(&self) -> bool {
        self.lock().power == Some(0)
    }

    /// Power comes back: of what was not synced, each sector is there or not, as `seed` decides.
    pub fn restart(&self, seed: u64) -> io::Result<()> {
        let mut inner = self.lock();
        let mut random = Random::new(seed);
        let mut stable = std::mem::take(&mut inner.stable);
        for write in std::mem::take(&mut inner.pending) {
            for index in 0..write.count {
                if random.below(2) == 1 {
                    copy_sector(&inner.written, write.content + index, &mut stable, write.sector + index);
                }
            }
        }
        inner.disk.clone_from(&stable);
        inner.stable = stable;
        inner.power = None;
        let files = inner.states.last().map(|(_, files)| files.clone()).unwrap_or_default();
        put(&inner.folder, &files)
    }

    /// What reads give now.
    pub fn disk(&self) -> Vec<u8> {
        self.lock().disk.clone()
    }

    /// The state folder's files as they are now.
    pub fn files(&self) -> io::Result<StateFiles> {
        let folder = self.lock().folder.clone();
        gather(&folder)
    }

    /// Gives a place of the disk a fault.
    pub fn fault(&self, fault: DiskFault, bytes: Range<u64>) {
        self.lock().faults.push((fault, bytes));
    }

    /// Takes all faults away.
    pub fn mend(&self) {
        self.lock().faults.clear();
    }

    /// How often power went, a place of the disk failed or a request met trouble.
    pub fn struck(&self) -> u64 {
        self.lock().struck
    }

    /// Something went wrong elsewhere than on the disk.
    pub(super) fn note_fault(&self) {
        self.lock().struck += 1;
    }

    /// Takes a look at the state folder, in case that it has changed.
    pub fn look(&self) -> io::Result<()> {
        self.lock().look()
    }

    /// Writes whole sectors.
    pub fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.lock();
        inner.spend()?;
        let range = offset..offset + bytes.len() as u64;
        if inner.has(DiskFault::Write, &range) {
            return Err(io::Error::other(format!("input/output error at byte {offset}")));
        }
        if inner.has(DiskFault::Drop, &range) {
            return Ok(());
        }
        let content = inner.written.len() as u64 / SECTOR;
        let write = Write { sector: offset / SECTOR, count: bytes.len() as u64 / SECTOR, content };
        inner.written.extend_from_slice(bytes);
        inner.events.push(Event::Write(write));
        inner.pending.push(write);
        let start = offset as usize;
        inner.disk[start..start + bytes.len()].copy_from_slice(bytes);
        inner.end()
    }

    /// Returns when these bytes are on stable storage.
    pub fn sync(&self, bytes: Range<u64>) -> io::Result<()> {
        let mut inner = self.lock();
        inner.spend()?;
        if inner.power == Some(0) {
            return inner.end();
        }
        let (first, end) = (bytes.start / SECTOR, bytes.end.div_ceil(SECTOR));
        inner.events.push(Event::Sync { sector: first, count: end - first });
        for write in std::mem::take(&mut inner.pending) {
            for index in 0..write.count {
                let (sector, content) = (write.sector + index, write.content + index);
                if (first..end).contains(&sector) {
                    let mut stable = std::mem::take(&mut inner.stable);
                    copy_sector(&inner.written, content, &mut stable, sector);
                    inner.stable = stable;
                } else {
                    inner.pending.push(Write { sector, count: 1, content });
                }
            }
        }
        Ok(())
    }

    /// Reads bytes.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut inner = self.lock();
        let range = offset..offset + buffer.len() as u64;
        if inner.has(DiskFault::Read, &range) {
            return Err(io::Error::other(format!("input/output error at byte {offset}")));
        }
        inner.disk.read_at(buffer, offset)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn has(&mut self, fault: DiskFault, range: &Range<u64>) -> bool {
        let overlaps = |faulty: &Range<u64>| faulty.start < range.end && range.start < faulty.end;
        let has = self.faults.iter().any(|(kind, faulty)| *kind == fault && overlaps(faulty));
        self.struck += u64::from(has);
        has
    }

    /// Counts an event; those after the power went fail and leave nothing.
    fn spend(&mut self) -> io::Result<()> {
        match &mut self.power {
            Some(0) => return Err(io::Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                self.struck += u64::from(*left == 0);
            }
            None => {}
        }
        self.look_lit()
    }

    fn end(&self) -> io::Result<()> {
        if self.power == Some(0) { Err(io::Error::other("the power went")) } else { Ok(()) }
    }

    fn look(&mut self) -> io::Result<()> {
        if self.power == Some(0) { Ok(()) } else { self.look_lit() }
    }

    fn look_lit(&mut self) -> io::Result<()> {
        if !self.watched {
            return Ok(());
        }
        let files = gather(&self.folder)?;
        if self.states.last().is_none_or(|(_, last)| *last != files) {
            self.states.push((self.events.len(), files));
        }
        Ok(())
    }
}

fn copy_sector(from: &[u8], content: u64, to: &mut [u8], sector: u64) {
    let (from_at, to_at) = ((content * SECTOR) as usize, (sector * SECTOR) as usize);
    to[to_at..to_at + SECTOR as usize].copy_from_slice(&from[from_at..from_at + SECTOR as usize]);
}

/// Replaces what is in a folder.
fn put(folder: &Path, files: &StateFiles) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    for (path, bytes) in files {
        let path = folder.join(path);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, bytes)?;
    }
    Ok(())
}

/// All files below a folder; the lock is none of the state.
fn gather(folder: &Path) -> io::Result<StateFiles> {
    fn below(folder: &Path, top: &Path, files: &mut StateFiles) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                below(&path, top, files)?;
            } else if let Ok(name) = path.strip_prefix(top)
                && name != Path::new("lock")
            {
                files.insert(name.to_owned(), fs::read(&path)?);
            }
        }
        Ok(())
    }
    let mut files = StateFiles::new();
    below(folder, folder, &mut files)?;
    Ok(files)
}

/// A partition of the disk.
pub struct Partition {
    tape: Tape,
    bytes: Range<u64>,
}

impl Partition {
    /// These bytes of the disk.
    pub fn new(tape: &Tape, bytes: Range<u64>) -> Self {
        Self { tape: tape.clone(), bytes }
    }
}

impl BlockDevice for Partition {
    fn size(&self) -> u64 {
        self.bytes.end - self.bytes.start
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.tape.read(buffer, self.bytes.start + offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.tape.write(bytes, self.bytes.start + offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.tape.sync(self.bytes.clone())
    }
}
