//! How fast an update may fetch and write.

use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::size::Size;

use crate::host::{BlockDevice, Clock};

/// Bytes that pass one after another, at a bounded rate.
pub struct Flow<'a> {
    clock: &'a dyn Clock,
    /// Bytes a second.
    rate: Option<u64>,
    /// When the time for all that has passed is over.
    free: Mutex<Duration>,
}

impl<'a> Flow<'a> {
    /// A flow of at most `rate` bytes a second, or of any number.
    pub fn new(clock: &'a dyn Clock, rate: Option<Size>) -> Self {
        Self { clock, rate: rate.map(|rate| rate.0.max(1)), free: Mutex::default() }
    }

    /// How many of `length` bytes should pass at once: what an eighth of a second has room for, but a block at least.
    fn piece(&self, length: usize) -> usize {
        let room = self.rate.map_or(u64::MAX, |rate| (rate / 8 / BLOCK_SIZE).max(1) * BLOCK_SIZE);
        length.min(usize::try_from(room).unwrap_or(usize::MAX))
    }

    /// Takes in that `bytes` have passed, and waits until more may. What was not used up before gives no credit.
    fn pass(&self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        let nanoseconds = (bytes as u128 * 1_000_000_000).div_ceil(u128::from(rate));
        let time = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let now = self.clock.monotonic();
        let wait = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            *free = (*free).max(now).saturating_add(time);
            free.saturating_sub(now)
        };
        if !wait.is_zero() {
            self.clock.sleep(wait);
        }
    }
}

/// What is read from a server.
pub struct Flowing<'f, R> {
    inner: R,
    flow: &'f Flow<'f>,
}

impl<'f, R> Flowing<'f, R> {
    /// `inner` at the rate of `flow`.
    pub fn new(inner: R, flow: &'f Flow<'f>) -> Self {
        Self { inner, flow }
    }
}

impl<R: Read> Read for Flowing<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.flow.piece(buffer.len());
        let length = self.inner.read(&mut buffer[..piece])?;
        self.flow.pass(length);
        Ok(length)
    }
}

/// A partition that is written slowly, so that whoever else uses the disk does not wait for an update.
pub struct GentleDevice<'a> {
    inner: Box<dyn BlockDevice + 'a>,
    flow: Flow<'a>,
}

impl<'a> GentleDevice<'a> {
    /// `inner`, with at most `rate` bytes written a second.
    pub fn new(inner: Box<dyn BlockDevice + 'a>, clock: &'a dyn Clock, rate: Option<Size>) -> Self {
        Self { inner, flow: Flow::new(clock, rate) }
    }
}

impl BlockDevice for GentleDevice<'_> {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            let end = at + self.flow.piece(bytes.len() - at);
            self.inner.write_at(&bytes[at..end], offset + at as u64)?;
            self.flow.pass(end - at);
            at = end;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::fake::FakeClock;
    use crate::slot::fake::FakeDevice;

    const RATE: Option<Size> = Some(Size(64 << 10));

    #[test]
    fn a_rate_holds_over_any_size_of_reads() {
        let clock = FakeClock::default();
        let flow = Flow::new(&clock, RATE);
        let mut read = Vec::new();
        Flowing::new(&[7; 640 << 10][..], &flow).read_to_end(&mut read).unwrap();
        assert_eq!(read.len(), 640 << 10);
        assert_eq!(clock.monotonic().as_millis(), 10_000);
        // An hour of silence is no credit.
        clock.sleep(Duration::from_secs(3600));
        let begin = clock.monotonic();
        io::copy(&mut Flowing::new(&[7; 64 << 10][..], &flow), &mut io::sink()).unwrap();
        assert_eq!(clock.monotonic() - begin, Duration::from_secs(1));
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        let clock = FakeClock::default();
        let flow = Flow::new(&clock, None);
        assert_eq!(flow.piece(100 << 20), 100 << 20);
        io::copy(&mut Flowing::new(&[7; 1 << 20][..], &flow), &mut io::sink()).unwrap();
        assert_eq!(clock.monotonic(), Duration::ZERO);
    }

    #[test]
    fn a_partition_is_written_in_pieces_and_wholly() {
        let clock = FakeClock::default();
        let disk = FakeDevice::new(1 << 20);
        let gentle = GentleDevice::new(Box::new(disk.clone()), &clock, RATE);
        let bytes: Vec<u8> = (0..640u32 << 10).map(|n| (n / 4096) as u8).collect();
        gentle.write_at(&bytes, 128 << 10).unwrap();
        assert_eq!(clock.monotonic(), Duration::from_secs(10));
        assert_eq!(&disk.bytes()[128 << 10..768 << 10], &bytes);
        assert_eq!(disk.operations(), 80, "8 KiB at once");
    }
}
