//! When to reboot into a release that stands ready.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use upright_manifests::channel::Window;

use super::window::next_opening;

/// What the host's config says about reboots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RebootPolicy {
    /// As soon as a release stands ready.
    Now,
    /// In a maintenance window; any time if there is none.
    #[default]
    Window,
    /// Never by itself; an operator does.
    Never,
}

/// Whether to reboot, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reboot", rename_all = "kebab-case")]
pub enum RebootDecision {
    /// Now.
    Now,
    /// When the maintenance window opens.
    At {
        /// When it opens.
        time: Timestamp,
    },
    /// An operator has to.
    Operator,
}

impl fmt::Display for RebootDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => write!(f, "rebooting now"),
            Self::At { time } => write!(f, "the reboot waits for the maintenance window at {time}"),
            Self::Operator => {
                write!(f, "the reboot is left to an operator (reboot = \"never\"): run `reboot`")
            }
        }
    }
}

/// Decides about a reboot. The host's own windows count before those of the channel file.
pub fn reboot(
    policy: RebootPolicy,
    host_windows: &[Window],
    channel_windows: &[Window],
    now: Timestamp,
) -> RebootDecision {
    let windows = if host_windows.is_empty() { channel_windows } else { host_windows };
    match policy {
        RebootPolicy::Now => RebootDecision::Now,
        RebootPolicy::Never => RebootDecision::Operator,
        RebootPolicy::Window => match next_opening(windows, now) {
            Some(time) => RebootDecision::At { time },
            None => RebootDecision::Now,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIGHT: Window = Window { days: vec![], start: 120, minutes: 60 };

    #[test]
    fn the_hosts_windows_count_before_the_channels() {
        let noon: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let all_day = Window { days: vec![], start: 0, minutes: 1440 };
        let decide = |host: &[Window], channel: &[Window]| reboot(RebootPolicy::Window, host, channel, noon);
        assert_eq!(decide(std::slice::from_ref(&all_day), &[NIGHT]), RebootDecision::Now);
        let night = RebootDecision::At { time: "2026-11-22T02:00:00Z".parse().unwrap() };
        assert_eq!(decide(&[], &[NIGHT]), night);
        assert_eq!(decide(&[NIGHT], &[all_day]), night);
        assert_eq!(decide(&[], &[]), RebootDecision::Now);
    }

    #[test]
    fn never_is_never_and_now_is_now() {
        let noon: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        assert_eq!(reboot(RebootPolicy::Never, &[], &[], noon), RebootDecision::Operator);
        assert_eq!(reboot(RebootPolicy::Now, &[NIGHT], &[], noon), RebootDecision::Now);
    }
}
