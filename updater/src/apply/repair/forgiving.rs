//! A partition of which some blocks cannot be read: they hold nothing, and are remembered.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, PoisonError};

use upright_manifests::BLOCK_SIZE;
use upright_manifests::verity::BLOCK;

use crate::host::BlockDevice;

/// How many blocks at most are passed over.
const MOST: usize = 1 << 14;

/// The device, with zeros in place of what cannot be read.
pub(in crate::apply) struct Forgiving<'a> {
    device: &'a dyn BlockDevice,
    unreadable: Mutex<BTreeSet<u64>>,
}

impl<'a> Forgiving<'a> {
    pub(in crate::apply) fn new(device: &'a dyn BlockDevice) -> Self {
        Self { device, unreadable: Mutex::default() }
    }

    /// The blocks that could not be read so far.
    pub(in crate::apply) fn unreadable(&self) -> BTreeSet<u64> {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl BlockDevice for Forgiving<'_> {
    fn size(&self) -> u64 {
        self.device.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if self.device.read_at(buffer, offset).is_ok() {
            return Ok(());
        }
        for (block, number) in buffer.chunks_mut(BLOCK).zip(offset / BLOCK_SIZE..) {
            if let Err(error) = self.device.read_at(block, number * BLOCK_SIZE) {
                block.fill(0);
                let mut unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
                unreadable.insert(number);
                if unreadable.len() > MOST {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.device.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.device.sync()
    }
}
