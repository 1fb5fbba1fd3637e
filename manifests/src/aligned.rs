//! Buffers whose address is a multiple of the block size, as direct I/O wants them (open(2), `O_DIRECT`).

use std::ops::{Deref, DerefMut};

use crate::BLOCK_SIZE;

const ALIGNMENT: usize = BLOCK_SIZE as usize;

/// A zeroed buffer at an address that is a multiple of 4096.
pub struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    /// A buffer of `length` bytes. Takes a block more than that; the kernel provides pages as they are used.
    pub fn new(length: usize) -> Self {
        let bytes = vec![0; length + ALIGNMENT];
        let start = (ALIGNMENT - bytes.as_ptr().addr() % ALIGNMENT) % ALIGNMENT;
        Self { bytes, start, length }
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

/// Whether direct I/O takes a buffer as it is.
pub fn is_aligned(buffer: &[u8]) -> bool {
    buffer.as_ptr().addr().is_multiple_of(ALIGNMENT) && buffer.len().is_multiple_of(ALIGNMENT)
}
