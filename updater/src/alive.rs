//! The sign of life that the service manager's watchdog waits for.
//!
//! It is given where bytes have moved, from the network or from or to a partition, and where the agent sleeps for a reason of its own: a
//! slow line, a slow disk and a low rate must not look like an agent that hangs, and what hangs gives none.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// How often it is given at most.
const EVERY: Duration = Duration::from_secs(1);

/// Says so, unless that was said a moment ago (sd_notify(3), `WATCHDOG=1`). Where this is no service, nobody listens.
pub(crate) fn alive() {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.is_none_or(|last| last.elapsed() >= EVERY) {
        *last = Some(Instant::now());
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
    }
}
