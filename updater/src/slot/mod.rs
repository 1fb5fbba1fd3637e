//! Slots as block devices.

mod partition;

pub use partition::Partition;

/// How much is read or written at once, in bytes.
pub const IO_SIZE: usize = 1 << 20;
