//! Maintenance windows: weekly, in UTC.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use upright_manifests::channel::{Day, Window};

/// Whether any of `windows` is open at `now`. No windows at all means that it is always open.
pub fn is_open(windows: &[Window], now: Timestamp) -> bool {
    windows.is_empty() || windows.iter().any(|window| last_opening(window, now).is_some())
}

/// When a window opens next, if none is open now; `None` if one is open or there are none.
pub fn next_opening(windows: &[Window], now: Timestamp) -> Option<Timestamp> {
    if is_open(windows, now) {
        return None;
    }
    windows.iter().filter_map(|window| openings(window, now).find(|opening| *opening > now)).min()
}

/// The opening that `now` falls behind, as long as the window is still open.
fn last_opening(window: &Window, now: Timestamp) -> Option<Timestamp> {
    let length = SignedDuration::from_mins(i64::from(window.minutes));
    openings(window, now).find(|opening| *opening <= now && now.duration_since(*opening) < length)
}

/// The openings around `now`: from yesterday, whose window may reach into today, to a week ahead.
fn openings(window: &Window, now: Timestamp) -> impl Iterator<Item = Timestamp> {
    let today = TimeZone::UTC.to_datetime(now).date();
    let start = SignedDuration::from_mins(i64::from(window.start));
    (-1..=7).filter_map(move |offset| {
        let date = today.checked_add(SignedDuration::from_hours(24 * offset)).ok()?;
        let opens = window.days.is_empty() || window.days.iter().any(|day| weekday(*day) == date.weekday());
        let midnight = TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()?;
        opens.then(|| midnight.checked_add(start).ok()).flatten()
    })
}

fn weekday(day: Day) -> Weekday {
    match day {
        Day::Mon => Weekday::Monday,
        Day::Tue => Weekday::Tuesday,
        Day::Wed => Weekday::Wednesday,
        Day::Thu => Weekday::Thursday,
        Day::Fri => Weekday::Friday,
        Day::Sat => Weekday::Saturday,
        Day::Sun => Weekday::Sunday,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Saturdays from 23:00 for two hours, so into Sunday.
    fn saturday_night() -> Vec<Window> {
        vec![Window { days: vec![Day::Sat], start: 23 * 60, minutes: 120 }]
    }

    #[test]
    fn a_window_is_open_from_its_start_to_before_its_end_past_midnight() {
        // 2026-11-21 is a Saturday.
        for (time, open) in [
            ("2026-11-21T22:59:59Z", false),
            ("2026-11-21T23:00:00Z", true),
            ("2026-11-22T00:59:59Z", true),
            ("2026-11-22T01:00:00Z", false),
            ("2026-11-22T23:30:00Z", false),
        ] {
            assert_eq!(is_open(&saturday_night(), at(time)), open, "{time}");
        }
    }

    #[test]
    fn the_next_opening_is_found_within_the_week() {
        assert_eq!(
            next_opening(&saturday_night(), at("2026-11-22T01:00:00Z")),
            Some(at("2026-11-28T23:00:00Z"))
        );
        assert_eq!(next_opening(&saturday_night(), at("2026-11-21T23:30:00Z")), None);
    }

    #[test]
    fn without_windows_it_is_always_open() {
        assert!(is_open(&[], at("1970-01-01T00:00:00Z")));
    }

    #[test]
    fn the_ends_of_time_do_not_panic() {
        for now in [Timestamp::MIN, Timestamp::MAX] {
            let _ = is_open(&saturday_night(), now);
            let _ = next_opening(&saturday_night(), now);
        }
    }
}
