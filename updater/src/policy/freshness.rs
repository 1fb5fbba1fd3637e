//! How metadata stands, by this host's clock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

/// How the metadata of the last contact stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Freshness {
    /// There is none.
    Unknown,
    /// It is good.
    Good,
    /// It came on a medium and has expired, no longer ago than the configuration allows.
    Late,
    /// It has expired.
    Expired,
    /// It has expired so long ago that the clock may be what is wrong.
    ClockSuspect,
}

/// From how long after the last contact on the clock is suspected.
const LONG: SignedDuration = SignedDuration::from_hours(24 * 365);

/// Of how many lifetimes of the metadata that must be more.
const LIFETIMES: i32 = 10;

/// How metadata that is good `until` then stands at `now`, after a last contact. If it came on a medium, it is taken that much longer.
pub fn freshness(
    until: Option<Timestamp>,
    last_contact: Option<Timestamp>,
    grace: Option<Duration>,
    now: Timestamp,
) -> Freshness {
    let Some(until) = until else { return Freshness::Unknown };
    if now < until {
        return Freshness::Good;
    }
    if now < taken_until(until, grace) {
        return Freshness::Late;
    }
    let is_suspect = last_contact.is_some_and(|contact| {
        let (away, lifetime) = (now.duration_since(contact), until.duration_since(contact));
        away > LONG && away > lifetime.saturating_mul(LIFETIMES)
    });
    if is_suspect { Freshness::ClockSuspect } else { Freshness::Expired }
}

/// Until when metadata is taken that is good `until` then; if it came on a medium, that much longer.
pub fn taken_until(until: Timestamp, grace: Option<Duration>) -> Timestamp {
    until.checked_add(grace.unwrap_or_default()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn metadata_that_has_expired_is_told_and_a_clock_that_is_years_ahead_is_suspected() {
        let day = |days: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * days);
        let at = |days| freshness(Some(day(7)), Some(day(0)), None, day(days));
        assert_eq!(freshness(None, None, None, day(0)), Freshness::Unknown);
        assert_eq!(at(6), Freshness::Good);
        assert_eq!(at(7), Freshness::Expired);
        assert_eq!(at(365), Freshness::Expired);
        assert_eq!(at(366), Freshness::ClockSuspect);
        // A year is not long for what is signed for a year.
        assert_eq!(freshness(Some(day(365)), Some(day(0)), None, day(730)), Freshness::Expired);
        // What came on a medium may come late.
        let brought = |days| freshness(Some(day(7)), Some(day(0)), Some(DAY * 10), day(days));
        assert_eq!((brought(16), brought(17)), (Freshness::Late, Freshness::Expired));
    }
}
