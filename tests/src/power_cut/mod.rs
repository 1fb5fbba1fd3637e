//! Power cuts: what a disk may hold after one, and whether a host comes back from it.
//!
//! | file | holds |
//! |---|---|
//! | `event` | what happened to a disk: writes of sectors, and flushes |
//! | `log` | the same as QEMU's `blklogwrites` records it |
//! | `cuts` | every state that a cut may leave: prefixes, torn writes, other orders between two flushes |
//! | `disk` | a state's content: what was there, and what of the writes reached it |
//! | `gpt`, `fat` | where partitions are; files on a FAT, as firmware reads them |
//! | `loader` | what systemd-boot would start |
//! | `judge` | whether that is a complete, verified system, and in which class of outcomes a state falls |
//! | `run` | all of it over one recording
//! | `virtual_host` | the same without a machine |
//!
//! Nothing here uses the agent's own readers, but to see whether it would read its record: who judges must not share the mistakes of who is
//! judged.

mod cuts;
mod disk;
mod event;
mod fat;
mod gpt;
mod judge;
mod loader;
mod log;
mod print;
mod random;
mod run;
mod var;
pub mod virtual_host;

pub use cuts::{Cut, Effort, Step, cuts};
pub use disk::{Content, Disk, View};
pub use event::{Event, SECTOR, Write};
pub use fat::{Fat, FatError, File};
pub use loader::{Choice, next_boot};
pub use random::Random;
pub use run::{Tally, judge_all};
