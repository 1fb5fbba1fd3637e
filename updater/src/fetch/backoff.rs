//! How long to wait between attempts: longer each time, never all hosts at once, and not for ever.

use std::time::Duration;

/// How much trouble with a server is put up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The longest first wait.
    pub first: Duration,
    /// The longest wait.
    pub most: Duration,
    /// All waits together, counted anew whenever enough was received.
    pub total: Duration,
    /// Makes this host's waits differ from those of others.
    pub seed: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            most: Duration::from_secs(30),
            total: Duration::from_secs(120),
            seed: 0,
        }
    }
}

/// The waits of one fetch.
#[derive(Debug, Clone)]
pub struct Backoff {
    patience: Patience,
    random: u64,
    attempts: u32,
    waited: Duration,
}

impl Backoff {
    /// Nothing was waited for yet.
    pub fn new(patience: Patience) -> Self {
        Self { patience, random: patience.seed, attempts: 0, waited: Duration::ZERO }
    }

    /// How long to wait before the next attempt: between half of a span that doubles each time, and all of it. None when patience
    /// is at its end.
    pub fn next_wait(&mut self) -> Option<Duration> {
        let span = self.patience.first.saturating_mul(1 << self.attempts.min(20)).min(self.patience.most);
        let wait = span / 2 + span.mul_f64(self.fraction() / 2.0);
        if self.waited + wait > self.patience.total {
            return None;
        }
        self.attempts += 1;
        self.waited += wait;
        Some(wait)
    }

    /// Something was received: the next trouble is a new one.
    pub fn reset(&mut self) {
        self.attempts = 0;
        self.waited = Duration::ZERO;
    }

    /// The next number in 0..1, by xorshift64*.
    fn fraction(&mut self) -> f64 {
        self.random |= u64::from(self.random == 0) << 32;
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_stay_within_their_bounds_and_end() {
        let patience = Patience { seed: 7, ..Patience::default() };
        let mut backoff = Backoff::new(patience);
        let waits: Vec<Duration> = std::iter::from_fn(|| backoff.next_wait()).collect();
        for (number, wait) in waits.iter().enumerate() {
            let span = Duration::from_secs(1 << number).min(patience.most);
            assert!(*wait >= span / 2 && *wait <= span, "{number}: {wait:?}");
        }
        let total: Duration = waits.iter().sum();
        assert!(total <= patience.total && total > patience.total / 2, "{total:?}");
        backoff.reset();
        assert!(backoff.next_wait().is_some_and(|wait| wait <= patience.first));
    }

    #[test]
    fn hosts_wait_differently_and_each_as_its_seed_says() {
        let first = |seed| Backoff::new(Patience { seed, ..Patience::default() }).next_wait();
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
        assert!(first(0).is_some());
    }
}
