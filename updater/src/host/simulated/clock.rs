//! A simulated host's clock: this machine's, or one that stands still at a time of the user's choice.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use crate::host::Clock;
use crate::host::clock::SystemClock;

/// A simulated host's clock.
pub(super) struct SimulatedClock {
    system: SystemClock,
    stands_at: Option<Timestamp>,
}

impl SimulatedClock {
    /// The clock that stands at the time in the file at `path`, or goes with this machine's if there is none.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let stands_at = match fs::read_to_string(path) {
            Ok(text) => Some(text.trim().parse().map_err(|error| {
                io::Error::other(format!("{} holds no RFC 3339 time: {error}", path.display()))
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { system: SystemClock::default(), stands_at })
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        self.stands_at.unwrap_or_else(|| self.system.now())
    }

    fn monotonic(&self) -> Duration {
        self.system.monotonic()
    }

    fn sleep(&self, time: Duration) {
        self.system.sleep(time);
    }
}
