//! `upright-build rollout`: waves, hold and windows of a channel; and how they are written on the command line.

use std::str::FromStr;

use clap::builder::NonEmptyStringValueParser;
use jiff::{SignedDuration, Timestamp};
use upright_manifests::channel::{Wave, Window};
use upright_manifests::name::ChannelName;

use super::publish::{Signing, report};
use super::window::WindowFlag;
use super::{Common, output};
use crate::repo::publish;

/// Change how a channel's releases reach hosts: its waves, its maintenance windows, or a hold
#[derive(Debug, clap::Args)]
pub(super) struct Rollout {
    /// The channel
    channel: ChannelName,
    /// Replace the waves: a share of the fleet and when it may start, such as 5%@now or 100%@+2d; repeatable, growing
    #[arg(long = "wave", value_name = "SHARE@TIME")]
    waves: Vec<WaveFlag>,
    /// Let everyone take the release now
    #[arg(long, conflicts_with = "waves")]
    everyone: bool,
    /// Replace the maintenance windows, in UTC, in which hosts may reboot: sat,sun@02:30+90m or daily@03:00+2h; repeatable
    #[arg(long = "window", value_name = "DAYS@HH:MM+LENGTH")]
    windows: Vec<WindowFlag>,
    /// Let hosts reboot at any time
    #[arg(long, conflicts_with = "windows")]
    any_time: bool,
    /// Let no host start, and say why
    #[arg(long, value_name = "REASON", value_parser = NonEmptyStringValueParser::new())]
    hold: Option<String>,
    /// Lift the hold
    #[arg(long, conflicts_with = "hold")]
    resume: bool,
    /// Print the outcome as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// A wave as the command line has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WaveFlag {
    share: u16,
    from: When,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    At(Timestamp),
    In(SignedDuration),
}

impl WaveFlag {
    /// The wave, for a command that runs at `now`.
    pub(super) fn at(self, now: Timestamp) -> Wave {
        let from = match self.from {
            When::At(time) => time,
            When::In(span) => now.checked_add(span).unwrap_or(Timestamp::MAX),
        };
        // Hosts compare seconds; fractions would only make the file longer.
        let from = Timestamp::from_second(from.as_second()).unwrap_or(from);
        Wave { share: self.share, from }
    }
}

impl FromStr for WaveFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "{text:?} is not a wave; expected SHARE@TIME: 5%@now, 25%@+12h or 100%@2030-01-31T08:00:00Z"
            )
        };
        let (share, time) = text.split_once('@').unwrap_or((text, "now"));
        let share = share.strip_suffix('%').and_then(hundredths).filter(|share| (1..=10_000).contains(share));
        let from = match time.strip_prefix('+') {
            Some(span) => span_of(span).map(When::In),
            None if time == "now" => Some(When::In(SignedDuration::ZERO)),
            None => time.parse().ok().map(When::At),
        };
        match (share, from) {
            (Some(share), Some(from)) => Ok(Self { share, from }),
            _ => Err(expected()),
        }
    }
}

/// `12h`, `90m` or, which jiff leaves to calendars, `2d` of 24 hours each.
fn span_of(text: &str) -> Option<SignedDuration> {
    match text.strip_suffix('d').map(str::parse::<u32>) {
        Some(days) => Some(SignedDuration::from_hours(i64::from(days.ok()?) * 24)),
        None => text.parse().ok().filter(|span| *span >= SignedDuration::ZERO),
    }
}

/// `12.5` as 1250, without a detour over floating point.
fn hundredths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || fraction.len() > 2 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction: u16 = format!("{fraction:0<2}").parse().ok()?;
    whole.parse::<u16>().ok()?.checked_mul(100)?.checked_add(fraction)
}

impl Rollout {
    pub(super) fn run(&self, common: &Common) -> anyhow::Result<()> {
        let now = common.now();
        let waves: Vec<Wave> = self.waves.iter().map(|wave| wave.at(now)).collect();
        let windows: Vec<Window> = self.windows.iter().map(|window| window.0.clone()).collect();
        let change = publish::Rollout {
            windows: (self.any_time || !windows.is_empty()).then_some(windows),
            waves: (self.everyone || !waves.is_empty()).then_some(waves),
            hold: match (&self.hold, self.resume) {
                (Some(reason), _) => Some(Some(reason.clone())),
                (None, true) => Some(None),
                (None, false) => None,
            },
        };
        let signing = Signing::open(common, Some(&self.channel))?;
        let channel = publish::rollout(&signing.bench(now), &self.channel, &change)?;
        match self.json {
            true => output::json(&channel),
            false => output::print(&report::channel(&channel)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_are_shares_and_times() {
        let now: Timestamp = "2030-01-01T00:00:00.5Z".parse().unwrap();
        for (text, share, from) in [
            ("5%@now", 500, "2030-01-01T00:00:00Z"),
            ("12.5%@+12h", 1250, "2030-01-01T12:00:00Z"),
            ("20%@+2d", 2000, "2030-01-03T00:00:00Z"),
            ("0.01%@2030-01-31T08:00:00Z", 1, "2030-01-31T08:00:00Z"),
            ("100%", 10_000, "2030-01-01T00:00:00Z"),
        ] {
            let wave = text.parse::<WaveFlag>().unwrap().at(now);
            assert_eq!((wave.share, wave.from), (share, from.parse().unwrap()), "{text}");
        }
        for bad in [
            "", "5", "0%", "101%", "5%@", "5%@later", "5.001%", "-5%", "5%@+", "5%@+-2h", "5%@+d", "700%",
            "65536%",
        ] {
            assert!(bad.parse::<WaveFlag>().is_err(), "{bad}");
        }
    }
}
