//! A host in memory whose power goes at any instant: the real agent and boot back end over a disk that forgets and tears.
//!
//! | file | holds |
//! |---|---|
//! | `tape` | the disk, with everything that happens to it recorded |
//! | `vfat` | the folder of boot entries, sector by sector as Linux and the firmware change it |
//! | `host` | the outside as the agent sees it |
//! | `world` | the releases, and what is on the host's disk |
//! | `life` | a host's life: boots, updates, faults |

mod host;
mod life;
mod tape;
mod vfat;
mod world;

pub use host::{Trouble, VirtualHost};
pub use life::{End, Life};
pub use tape::{DiskFault, Partition, StateFiles, Tape};
pub use vfat::Vfat;
pub use world::{BAD, Files, Known, World};
