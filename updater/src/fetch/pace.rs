//! Notices a server that feeds bytes so slowly that an update would never end.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use crate::alive::alive;

/// The lowest rate that is put up with, in bytes a second.
pub(super) const RATE: u64 = 1 << 10;

/// The slowest that is put up with, on average over a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Floor {
    /// Bytes a second.
    pub(super) rate: u64,
    /// The span it is judged over.
    pub(super) over: Duration,
}

impl Default for Floor {
    fn default() -> Self {
        Self { rate: RATE, over: Duration::from_secs(60) }
    }
}

/// The average since the span began; time that the caller spends between reads does not count.
#[derive(Debug, Default)]
pub(super) struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Takes in one read. An error tells that it was too slow.
    pub(super) fn note(&mut self, floor: Floor, waited: Duration, bytes: u64) -> io::Result<()> {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < floor.over {
            return Ok(());
        }
        let past = std::mem::take(self);
        let wanted = u128::from(floor.rate) * past.waited.as_millis() / 1000;
        match u128::from(past.bytes) < wanted {
            true => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "{} bytes in {} s, less than {} a second",
                    past.bytes,
                    past.waited.as_secs(),
                    floor.rate
                ),
            )),
            false => Ok(()),
        }
    }
}

/// A reader that fails when it is too slow.
pub(super) struct Paced<R> {
    pub(super) inner: R,
    pub(super) floor: Floor,
    pub(super) pace: Pace,
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let start = Instant::now();
        let length = self.inner.read(buffer)?;
        self.pace.note(self.floor, start.elapsed(), length as u64)?;
        alive();
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_fails_and_a_slow_line_does_not() {
        let floor = Floor::default();
        let second = Duration::from_secs(1);
        let run = |bytes: u64| {
            let mut pace = Pace::default();
            (0..600).try_for_each(|_| pace.note(floor, second, bytes))
        };
        assert_eq!(run(1023).map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        assert!(run(1024).is_ok());
        assert!(run(1 << 20).is_ok());
    }

    #[test]
    fn a_burst_long_ago_does_not_excuse_a_trickle_now() {
        let mut pace = Pace::default();
        let note = |pace: &mut Pace, bytes| pace.note(Floor::default(), Duration::from_secs(30), bytes);
        assert!(note(&mut pace, 1 << 30).is_ok());
        assert!(note(&mut pace, 10).is_ok());
        assert!(note(&mut pace, 10).is_ok());
        assert!(note(&mut pace, 10).is_err());
    }
}
