//! The root partition being written.

use std::io::{self, Write};
use std::ops::Range;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::delta::{Output, Source};
use upright_manifests::digest::Digest;
use upright_manifests::verity::BLOCK;

use super::first::First;
use super::readback::Partitions;
use crate::slot::AlignedBuffer;

/// How much is written at once, in bytes.
pub(super) const WRITE: usize = if cfg!(test) { 32 << 10 } else { 4 << 20 };

/// How much is written at once of what comes in small pieces.
const STREAM: usize = WRITE / 4;

/// How much is written between two syncs with a note of how far it got, in bytes.
const CHECKPOINT: u64 = if cfg!(test) { 128 << 10 } else { 32 << 20 };

/// How far the writing got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Noted {
    /// The bytes of the image, from its start, that are on stable storage; whole blocks.
    pub(super) durable: u64,
    /// A delta, by its SHA-256, and how many of its segments are on stable storage.
    pub(super) segments: Option<(Digest, u64)>,
    /// The bytes written, this time.
    pub(super) written: u64,
}

/// Keeps how far the writing got.
pub(super) type Checkpoint<'a> = &'a mut dyn FnMut(Noted) -> io::Result<()>;

/// The root partition being written: front to back, or a run at a time with [`Target::seek`].
pub(super) struct Target<'a> {
    at: Partitions<'a>,
    first: &'a First<'a>,
    buffer: AlignedBuffer,
    /// Where the slot may hold some of it: for what the device holds already.
    held: Option<AlignedBuffer>,
    /// Which blocks are those of the slot that runs already; none beyond the end.
    common: Vec<bool>,
    /// How much of the buffer is in use.
    filled: usize,
    /// Where the buffer starts in the image; a multiple of the block size.
    flushed: u64,
    durable: u64,
    /// Bytes written since the last note.
    unnoted: u64,
    /// Bytes written, this time.
    written: u64,
    checkpoint: Checkpoint<'a>,
}

impl<'a> Target<'a> {
    /// A target of which everything before `durable` is there already. If it `may_hold` more, that is read before it is written, and
    /// blocks that have the right content already are left alone.
    pub(super) fn new(
        at: Partitions<'a>,
        first: &'a First<'a>,
        durable: u64,
        may_hold: bool,
        checkpoint: Checkpoint<'a>,
    ) -> Self {
        let buffer = AlignedBuffer::new(WRITE);
        let held = may_hold.then(|| AlignedBuffer::new(WRITE));
        let (filled, unnoted, written) = (0, 0, 0);
        let common = Vec::new();
        Self {
            at,
            first,
            buffer,
            held,
            common,
            filled,
            flushed: durable,
            durable,
            unnoted,
            written,
            checkpoint,
        }
    }

    /// Leaves alone what is copied from the slot that runs to where it stands already. The read-back tells whether that was so.
    pub(super) fn believe(&mut self, common: Vec<bool>) {
        self.common = common;
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
        self.flushed + self.filled as u64
    }

    /// Goes to `position`, to write from there: what is buffered gets its place, and what is in a block before the position or
    /// after the last byte written keeps its content.
    pub(super) fn seek(&mut self, position: u64) -> io::Result<()> {
        self.settle()?;
        self.flushed = position / BLOCK_SIZE * BLOCK_SIZE;
        self.filled = (position - self.flushed) as usize;
        if self.filled > 0 {
            self.read_block(self.flushed, 0)?;
        }
        Ok(())
    }

    /// Passes over blocks that hold the right content already.
    pub(super) fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.flush_blocks()?;
        self.flushed += bytes;
        self.note_front()
    }

    /// Reads what was written before: whole blocks, none after the last byte written.
    pub(super) fn read_back(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        self.flush_blocks()?;
        self.at.root.read_at(buffer, offset)?;
        self.first.overlay(buffer, offset..offset + buffer.len() as u64);
        Ok(())
    }

    /// Room for the next `length` bytes, at most 4 MiB: whole blocks, at the start of one. They count once [`Self::commit`] is
    /// called.
    pub(super) fn reserve(&mut self, length: usize) -> io::Result<&mut [u8]> {
        if !self.filled.is_multiple_of(BLOCK) || length > WRITE {
            return Err(io::Error::other("blocks are written at a place where none can start"));
        }
        if self.filled + length > WRITE {
            self.flush_blocks()?;
        }
        Ok(&mut self.buffer[self.filled..self.filled + length])
    }

    /// Takes the bytes that were put where [`Self::reserve`] said, writing front to back.
    pub(super) fn commit(&mut self, length: usize) -> io::Result<()> {
        self.filled += length;
        if self.filled == WRITE {
            self.flush_blocks()?;
        }
        self.note_front()
    }

    /// Makes the whole image durable, written front to back.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.settle()?;
        if self.flushed > self.durable {
            self.note(self.flushed, None)?;
        }
        Ok(())
    }

    /// Notes, now and then or because it `must` be, that a delta got to a segment, so that everything before `durable` is there.
    pub(super) fn note_segments(
        &mut self,
        delta: Digest,
        segments: u64,
        durable: u64,
        must: bool,
    ) -> io::Result<()> {
        self.settle()?;
        if must || self.unnoted >= CHECKPOINT {
            let durable = durable / BLOCK_SIZE * BLOCK_SIZE;
            self.note(durable, Some((delta, segments)))?;
        }
        Ok(())
    }

    /// Writes out everything that is buffered, so that the device has it; a block that is not full keeps its other bytes.
    fn settle(&mut self) -> io::Result<()> {
        self.flush_blocks()?;
        if self.filled > 0 {
            let filled = self.filled;
            self.read_block(self.flushed, filled)?;
            self.filled = BLOCK;
            self.flush_blocks()?;
        }
        Ok(())
    }

    /// Writes out the whole blocks that are buffered.
    fn flush_blocks(&mut self) -> io::Result<()> {
        let whole = self.filled / BLOCK * BLOCK;
        if whole == 0 {
            return Ok(());
        }
        let mut start = 0;
        if self.flushed == 0 {
            self.first.set(&self.buffer[..BLOCK]);
            start = BLOCK;
        }
        let runs = if start < whole { self.runs_to_write(start..whole) } else { Vec::new() };
        for run in runs {
            self.at.root.write_at(&self.buffer[run.clone()], self.flushed + run.start as u64)?;
            self.written += run.len() as u64;
        }
        self.buffer.copy_within(whole..self.filled, 0);
        self.filled -= whole;
        self.flushed += whole as u64;
        self.unnoted += whole as u64;
        Ok(())
    }

    /// The runs of blocks in `range` of the buffer that the device does not hold yet; all of it where that cannot be told.
    fn runs_to_write(&mut self, range: Range<usize>) -> Vec<Range<usize>> {
        let at = self.flushed + range.start as u64;
        let Some(held) = &mut self.held else { return vec![range] };
        match self.at.root.read_at(&mut held[range.clone()], at) {
            Ok(()) => differing(&self.buffer, held, range),
            // Writing heals what a disk cannot read any more; the read-back tells.
            Err(_) => vec![range],
        }
    }

    /// Reads what the block at `offset` has from its byte `keep` on into the buffer's first block.
    fn read_block(&mut self, offset: u64, keep: usize) -> io::Result<()> {
        let mut block = [0; BLOCK];
        self.at.root.read_at(&mut block, offset)?;
        self.first.overlay(&mut block, offset..offset + BLOCK_SIZE);
        self.buffer[keep..BLOCK].copy_from_slice(&block[keep..]);
        Ok(())
    }

    fn note_front(&mut self) -> io::Result<()> {
        if self.flushed.saturating_sub(self.durable) >= CHECKPOINT {
            self.note(self.flushed, None)?;
        }
        Ok(())
    }

    fn note(&mut self, durable: u64, segments: Option<(Digest, u64)>) -> io::Result<()> {
        self.at.root.sync()?;
        self.unnoted = 0;
        self.durable = durable;
        if First::can_wait(self.at) {
            self.first.keep()?;
            (self.checkpoint)(Noted { durable, segments, written: self.written })?;
        }
        Ok(())
    }
}

/// The runs of blocks in `range`, which are whole blocks, that are not the same in both.
fn differing(new: &[u8], held: &[u8], range: Range<usize>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for start in range.step_by(BLOCK) {
        let block = start..start + BLOCK;
        if new[block.clone()] == held[block.clone()] {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.end == start => run.end = block.end,
            _ => runs.push(block),
        }
    }
    runs
}

impl Output for Target<'_> {
    fn pass(&mut self, source: Source, offset: u64, length: u64) -> io::Result<u64> {
        let in_place =
            source == Source::Base && offset == self.position() && offset.is_multiple_of(BLOCK_SIZE);
        let blocks = if in_place { length / BLOCK_SIZE } else { 0 };
        let rest = self.common.iter().skip((offset / BLOCK_SIZE) as usize).take(blocks as usize);
        let there = rest.take_while(|there| **there).count() as u64 * BLOCK_SIZE;
        if there > 0 {
            self.flush_blocks()?;
            self.flushed += there;
        }
        Ok(there)
    }
}

impl Write for Target<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.filled >= STREAM {
            self.flush_blocks()?;
        }
        let part = bytes.len().min(STREAM - self.filled);
        self.buffer[self.filled..self.filled + part].copy_from_slice(&bytes[..part]);
        self.filled += part;
        Ok(part)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_that_differ_are_one_run() {
        let held = vec![0; 6 * BLOCK];
        let mut new = held.clone();
        for block in [0, 2, 3, 5] {
            new[block * BLOCK + 7] = 1;
        }
        let run = |blocks: Range<usize>| blocks.start * BLOCK..blocks.end * BLOCK;
        assert_eq!(differing(&new, &held, run(0..6)), [run(0..1), run(2..4), run(5..6)]);
        assert_eq!(differing(&new, &held, run(3..5)), [run(3..4)]);
        assert!(differing(&held, &held, run(0..6)).is_empty());
    }
}
