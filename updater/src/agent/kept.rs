//! Where the record is: on the state disk, and in memory from when that disk cannot be written until it can.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::host::Host;
use crate::machine::Record;
use crate::store::{RecordFile, StoreError};

/// The record's places.
pub(super) struct Kept {
    pub(super) disk: RecordFile,
    /// In a folder that is empty at each boot.
    memory: Option<RecordFile>,
}

impl Kept {
    /// Those of the agent whose state is in `folder`.
    pub(super) fn new(host: &dyn Host, folder: &Path) -> Self {
        let memory = host.machine().memory().map(|folder| RecordFile::in_folder(&folder));
        Self { disk: RecordFile::in_folder(folder), memory }
    }

    /// The latest record of this boot, or the last that was kept.
    pub(super) fn load(&self) -> Result<Record, StoreError> {
        match self.remembered() {
            Some(record) => Ok(record),
            None => Ok(self.disk.load()?.unwrap_or_default()),
        }
    }

    /// Keeps a record, durably.
    pub(super) fn save(&self, record: &Record) -> Result<(), StoreError> {
        self.disk.save(record)?;
        self.forget();
        Ok(())
    }

    /// Keeps for the rest of this boot what cannot be kept for longer. Without it, it is known to this process alone.
    pub(super) fn remember(&self, record: &Record) {
        if let Some(Err(error)) = self.memory.as_ref().map(|memory| memory.save(record)) {
            tracing::warn!("{error}");
        }
    }

    /// Keeps what was remembered, now that the disk can perhaps be written again.
    pub(super) fn catch_up(&self) {
        if let Some(record) = self.remembered()
            && let Err(error) = self.save(&record)
        {
            tracing::warn!("{error}; what this host knows is in memory until then");
        }
    }

    /// Drops what was remembered.
    pub(super) fn forget(&self) {
        let Some(memory) = &self.memory else { return };
        match fs::remove_file(memory.path()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!("cannot remove {}: {error}", memory.path().display());
            }
            _ => {}
        }
    }

    fn remembered(&self) -> Option<Record> {
        let found = self.memory.as_ref()?.load();
        found.unwrap_or_else(|error| {
            tracing::warn!("{error}");
            None
        })
    }
}
