//! The root partition being written, front to back.

use std::io::{self, Write};

use crate::host::BlockDevice;
use crate::slot::IO_SIZE;

/// How much is written between two syncs with a note of how far it got, in bytes.
const CHECKPOINT: u64 = 32 << 20;

/// Notes how far the writing got, in bytes that are on stable storage.
pub(super) type Checkpoint<'a> = &'a mut dyn FnMut(u64) -> io::Result<()>;

/// The root partition being written, front to back.
pub(super) struct Target<'a> {
    device: &'a dyn BlockDevice,
    /// Where the next byte of `buffer` goes; a multiple of the block size.
    flushed: u64,
    /// Everything before it is on stable storage.
    durable: u64,
    buffer: Vec<u8>,
    /// Bytes written, this time.
    written: u64,
    checkpoint: Checkpoint<'a>,
}

impl<'a> Target<'a> {
    /// A target of which everything before `durable` is there already.
    pub(super) fn new(device: &'a dyn BlockDevice, durable: u64, checkpoint: Checkpoint<'a>) -> Self {
        let buffer = Vec::with_capacity(IO_SIZE);
        Self { device, flushed: durable, durable, buffer, written: 0, checkpoint }
    }

    /// Everything before this is on stable storage.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// How many bytes were written, this time.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Where the next byte goes.
    pub(super) fn position(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    /// Goes back to `position`, a multiple of the block size at or before [`Self::durable`], to write from there again.
    pub(super) fn rewind(&mut self, position: u64) {
        self.buffer.clear();
        self.flushed = position;
    }

    /// Passes over blocks that hold the right content already.
    pub(super) fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.flush_buffer()?;
        self.flushed += bytes;
        self.note(CHECKPOINT)
    }

    /// Makes everything before [`Self::position`] durable; it is a multiple of the block size.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.flush_buffer()?;
        self.note(0)
    }

    /// The device.
    pub(super) fn device(&self) -> &'a dyn BlockDevice {
        self.device
    }

    /// Writes out what is buffered, so that it can be read from the device.
    pub(super) fn flush_buffer(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.device.write_at(&self.buffer, self.flushed)?;
            self.flushed += self.buffer.len() as u64;
            self.written += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    fn note(&mut self, after: u64) -> io::Result<()> {
        if self.flushed > self.durable && self.flushed - self.durable >= after {
            self.device.sync()?;
            self.durable = self.flushed;
            (self.checkpoint)(self.durable)?;
        }
        Ok(())
    }
}

impl Write for Target<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = bytes.len().min(IO_SIZE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..part]);
        if self.buffer.len() == IO_SIZE {
            self.flush_buffer()?;
            self.note(CHECKPOINT)?;
        }
        Ok(part)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
