//! What happened to a disk.

/// What a disk writes whole or not at all, in bytes.
pub const SECTOR: u64 = 512;

/// A write of whole sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write {
    /// The first sector.
    pub sector: u64,
    /// How many.
    pub count: u64,
    /// The number of its first sector among all sectors that were ever written: where its content is kept.
    pub content: u64,
}

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Sectors were written; they may be on stable storage from now on.
    Write(Write),
    /// Everything that was written to these sectors before is on stable storage.
    Sync {
        /// The first sector.
        sector: u64,
        /// How many.
        count: u64,
    },
    /// Everything that was written before is on stable storage.
    Flush,
}
