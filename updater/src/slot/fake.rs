//! A block device in memory that behaves like a bad one: what was not synced may be lost or torn when power goes,
//! blocks fail, and writes are dropped or changed without a word.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use upright_manifests::BLOCK_SIZE;

use crate::host::BlockDevice;

/// What a device writes in one go; larger writes can be torn between sectors.
const SECTOR: usize = 512;

/// A device in memory. Clones are the same device, as two openings of a partition are.
#[derive(Clone)]
pub struct FakeDevice {
    state: Arc<Mutex<State>>,
    /// What of the disk this device is.
    range: Range<usize>,
}

/// A fault that blocks have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Reading fails.
    Read,
    /// Writing fails.
    Write,
    /// Writing succeeds, and a bit is changed.
    Corrupt,
    /// Writing succeeds, and nothing is written.
    Drop,
}

struct State {
    durable: Vec<u8>,
    /// Writes since the last sync, in order.
    pending: Vec<(usize, Vec<u8>)>,
    faults: Vec<(Fault, Range<u64>)>,
    /// Writes and syncs until the power goes.
    power: Option<u64>,
    operations: u64,
    written: u64,
}

impl FakeDevice {
    /// A device of `size` bytes, a multiple of 4096, full of what was there before.
    pub fn new(size: u64) -> Self {
        Self::holding(vec![0xee; size as usize])
    }

    /// A device that holds `bytes`.
    pub fn holding(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        let state =
            State { durable: bytes, pending: vec![], faults: vec![], power: None, operations: 0, written: 0 };
        Self { state: Arc::new(Mutex::new(state)), range }
    }

    /// A partition of this disk: power goes for all of them, and a sync is for all of them. Faults are at places of the disk.
    pub fn partition(&self, bytes: Range<u64>) -> Self {
        let start = self.range.start + bytes.start as usize;
        Self { state: self.state.clone(), range: start..start + (bytes.end - bytes.start) as usize }
    }

    /// What reads give at this time.
    pub fn bytes(&self) -> Vec<u8> {
        self.lock().current()[self.range.clone()].to_vec()
    }

    /// What is certain to be there after a crash, ignoring what is not synced.
    pub fn durable(&self) -> Vec<u8> {
        self.lock().durable[self.range.clone()].to_vec()
    }

    /// The bytes that were written so far.
    pub fn written(&self) -> u64 {
        self.lock().written
    }

    /// The writes and syncs that were made so far.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Gives a range of bytes a fault, from now on.
    pub fn fault(&self, fault: Fault, bytes: Range<u64>) {
        self.lock().faults.push((fault, bytes));
    }

    /// Takes all faults away.
    pub fn mend(&self) {
        self.lock().faults.clear();
    }

    /// Flips bits of what is stored.
    pub fn damage(&self, offset: u64) {
        self.lock().durable[self.range.start + offset as usize] ^= 0x55;
    }

    /// The power goes at the write or sync after `operations` more of them: it is carried out in part or not at all, and
    /// all later ones fail until [`Self::restart`].
    pub fn lose_power_after(&self, operations: u64) {
        self.lock().power = Some(operations);
    }

    /// Power comes back: of what was not synced, each sector is there or not, as `seed` decides.
    pub fn restart(&self, seed: u64) {
        let mut state = self.lock();
        let mut random = seed;
        for (at, bytes) in std::mem::take(&mut state.pending) {
            for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                if next(&mut random) & 1 == 1 {
                    let at = at + number * SECTOR;
                    state.durable[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        state.power = None;
    }

    /// Where on the disk some blocks of this device are.
    fn on_disk(&self, length: usize, offset: u64) -> io::Result<Range<u64>> {
        let end = offset.checked_add(length as u64).filter(|end| *end <= self.range.len() as u64);
        let start = self.range.start as u64;
        match end {
            Some(end) if (offset | length as u64).is_multiple_of(BLOCK_SIZE) => {
                Ok(start + offset..start + end)
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{length} bytes at {offset} are not whole blocks inside of the device"),
            )),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn current(&self) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for (at, written) in &self.pending {
            bytes[*at..at + written.len()].copy_from_slice(written);
        }
        bytes
    }

    fn has(&self, fault: Fault, range: &Range<u64>) -> bool {
        !self.places(fault, range).is_empty()
    }

    /// The parts of `range` that have a fault, ascending.
    fn places(&self, fault: Fault, range: &Range<u64>) -> Vec<Range<u64>> {
        let overlap = |(kind, faulty): &(Fault, Range<u64>)| {
            let part = faulty.start.max(range.start)..faulty.end.min(range.end);
            (*kind == fault && part.start < part.end).then_some(part)
        };
        let mut places: Vec<_> = self.faults.iter().filter_map(overlap).collect();
        places.sort_unstable_by_key(|place| place.start);
        places
    }

    /// Counts a write or sync; true if the power goes with it.
    fn spend(&mut self) -> io::Result<bool> {
        self.operations += 1;
        match &mut self.power {
            None => Ok(false),
            Some(0) => Err(io::Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(*left == 0)
            }
        }
    }
}

impl BlockDevice for FakeDevice {
    fn size(&self) -> u64 {
        self.range.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.lock();
        let range = self.on_disk(buffer.len(), offset)?;
        if state.has(Fault::Read, &range) {
            return Err(io::Error::other(format!("input/output error at byte {offset}")));
        }
        buffer.copy_from_slice(&state.durable[range.start as usize..range.end as usize]);
        for (at, written) in &state.pending {
            let (start, end) = (range.start as usize, range.end as usize);
            let (from, to) = (start.max(*at), end.min(at + written.len()));
            if from < to {
                buffer[from - start..to - start].copy_from_slice(&written[from - at..to - at]);
            }
        }
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.lock();
        let range = self.on_disk(bytes.len(), offset)?;
        let last = state.spend()?;
        if state.has(Fault::Write, &range) {
            return Err(io::Error::other(format!("input/output error at byte {offset}")));
        }
        state.written += bytes.len() as u64;
        let mut bytes = bytes.to_vec();
        for at in state.places(Fault::Corrupt, &range) {
            bytes[(at.start - range.start) as usize] ^= 1;
        }
        let mut next = range.start;
        for dropped in
            state.places(Fault::Drop, &range).into_iter().chain(std::iter::once(range.end..range.end))
        {
            let kept = (next - range.start) as usize..(dropped.start.max(next) - range.start) as usize;
            if !kept.is_empty() {
                state.pending.push((next as usize, bytes[kept].to_vec()));
            }
            next = next.max(dropped.end);
        }
        if last { Err(io::Error::other("the power went")) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.lock();
        if state.spend()? {
            return Err(io::Error::other("the power went"));
        }
        for (at, bytes) in std::mem::take(&mut state.pending) {
            state.durable[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        Ok(())
    }
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
