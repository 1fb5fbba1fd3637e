//! Slots as block devices: partitions and files in their place, read and written past the page cache.
//!
//! | file | holds |
//! |---|---|
//! | `partition` | a partition or a file as a [`BlockDevice`](crate::host::BlockDevice) |
//! | `image` | a root partition as the EROFS reader wants it |
//! | `fake` | a device in memory that loses power, fails and lies on request |

pub mod fake;
mod image;
mod partition;

pub use image::Image;
pub use partition::Partition;
pub use upright_manifests::aligned::AlignedBuffer;

/// How much is read or written at once, in bytes.
pub const IO_SIZE: usize = 1 << 20;

#[cfg(test)]
mod tests;
