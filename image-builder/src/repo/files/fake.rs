//! Files that fail after a number of steps, as a kill or a power cut would have it.

use std::cell::Cell;
use std::io;
use std::path::Path;

use super::{Files, OnDisk};

/// The system's files for a number of steps; from then on every step fails. The write that is cut off leaves half of
/// its bytes.
#[derive(Debug)]
pub struct CutOff {
    left: Cell<u64>,
    steps: Cell<u64>,
}

impl CutOff {
    /// Lets `steps` steps through.
    pub fn after(steps: u64) -> Self {
        Self { left: Cell::new(steps), steps: Cell::new(0) }
    }

    /// How many steps went through.
    pub fn steps(&self) -> u64 {
        self.steps.get()
    }

    fn step(&self) -> io::Result<()> {
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                self.steps.set(self.steps.get() + 1);
                Ok(())
            }
            None => Err(io::Error::other("cut off")),
        }
    }
}

impl Files for CutOff {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        OnDisk.create_folder(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.step().inspect_err(|_| {
            // A dead publisher cannot tell how far it got.
            let _ = OnDisk.write(path, &bytes[..bytes.len() / 2]);
        })?;
        OnDisk.write(path, bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        OnDisk.sync(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        OnDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        OnDisk.remove(path)
    }
}
