//! The system's clock.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Clock;
use crate::alive::alive;

/// The clock of the machine this program runs on.
#[derive(Debug)]
pub(super) struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, time: Duration) {
        alive();
        std::thread::sleep(time);
    }
}
