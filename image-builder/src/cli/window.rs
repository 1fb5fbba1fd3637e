//! Maintenance windows as they are written on the command line: `sat,sun@02:30+90m`.

use std::str::FromStr;

use jiff::SignedDuration;
use upright_manifests::channel::{Day, Window};

/// A window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WindowFlag(pub(super) Window);

impl FromStr for WindowFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let window = parse(text).ok_or_else(|| {
            format!("{text:?} is not a window; expected DAYS@HH:MM+LENGTH in UTC: sat,sun@02:30+90m or daily@03:00+2h")
        })?;
        Ok(Self(window))
    }
}

fn parse(text: &str) -> Option<Window> {
    let (days, time) = text.split_once('@')?;
    let (start, length) = time.split_once('+')?;
    let days = match days {
        "daily" => Vec::new(),
        days => days.split(',').map(day).collect::<Option<_>>()?,
    };
    let (hours, minutes) =
        start.split_once(':').filter(|(hours, minutes)| hours.len() == 2 && minutes.len() == 2)?;
    let (hours, minutes) = (hours.parse::<u16>().ok()?, minutes.parse::<u16>().ok()?);
    let length = length.parse::<SignedDuration>().ok()?;
    let length = u16::try_from(length.as_mins()).ok().filter(|minutes| (1..=1440).contains(minutes))?;
    (hours < 24 && minutes < 60).then_some(Window { days, start: hours * 60 + minutes, minutes: length })
}

fn day(text: &str) -> Option<Day> {
    let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let days = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun];
    names.into_iter().zip(days).find(|(name, _)| *name == text).map(|(_, day)| day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_days_a_time_and_a_length() {
        for (text, days, start, minutes) in [
            ("sat,sun@02:30+90m", vec![Day::Sat, Day::Sun], 150, 90),
            ("daily@00:00+24h", vec![], 0, 1440),
            ("mon@23:59+1h30m", vec![Day::Mon], 1439, 90),
        ] {
            assert_eq!(text.parse::<WindowFlag>().unwrap().0, Window { days, start, minutes }, "{text}");
        }
        for bad in [
            "",
            "daily",
            "sat@02:30",
            "sat@2:30+1h",
            "sat@24:00+1h",
            "sat@02:60+1h",
            "@02:30+1h",
            "sat,@02:30+1h",
        ] {
            assert!(bad.parse::<WindowFlag>().is_err(), "{bad}");
        }
        for bad in
            ["sat@02:30+0m", "sat@02:30+25h", "sat@02:30+-1h", "sat@02:30+", "sat@02:30+90", "Sat@02:30+1h"]
        {
            assert!(bad.parse::<WindowFlag>().is_err(), "{bad}");
        }
    }
}
