//! The channel file: which release a channel points at, and who may take it when. A TUF target.
//!
//! Stored at `channels/<os>/<arch>/<channel>.json`; a new version of the file replaces the old one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::{Arch, ChannelName, OsName};
use crate::version::Version;

/// The largest channel file that is accepted, in bytes.
pub const MAX_BYTES: u64 = 1 << 16;

/// The most waves a channel file may have.
pub const MAX_WAVES: usize = 64;

/// The most former releases a channel file may name.
pub const MAX_HISTORY: usize = 64;

/// The version of the format that this crate reads and writes.
pub const FORMAT: u32 = 1;

/// A channel's pointer at a release, with its rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// [`FORMAT`].
    pub format: u32,
    /// The OS of the release.
    pub os: OsName,
    /// The architecture of the release.
    pub arch: Arch,
    /// The channel's own name.
    pub channel: ChannelName,
    /// The release that hosts on this channel should run.
    pub version: Version,
    /// The SHA-256 of that release's manifest.
    pub manifest: Digest,
    /// The releases the channel pointed at before, newest first, each once and without the current one: where its
    /// hosts may come from, so what deltas are made against.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Version>,
    /// While set, no host starts an update to the release; the text says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// Shares of the fleet and the time each may take the release from; none means everyone, now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waves: Vec<Wave>,
    /// When hosts may reboot into a release by themselves, unless their own config says otherwise; none
    /// means any time. In the notation of [`crate::channel::Window`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
}

/// A share of the fleet that may take a release from a point in time on.
///
/// A host's place in the fleet is a number in 0..10000 from its machine id and the release's digest, so
/// that it is another host's turn to go first each time. Shares are cumulative: a host belongs to the
/// first wave whose share is above its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave {
    /// The share of the fleet up to and including this wave, in hundredths of a percent: 1 to 10000.
    pub share: u16,
    /// From when on it may take the release.
    pub from: Timestamp,
}

/// A weekly maintenance window in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The days it opens on, `mon` to `sun`; none means every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Day>,
    /// The minute of the day it opens at, in UTC: 0 to 1439.
    pub start: u16,
    /// How many minutes it stays open: 1 to 1440.
    pub minutes: u16,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// Why a channel file is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// Not JSON of the expected shape.
    #[error("channel file is malformed: {0}")]
    Malformed(String),
    /// Larger than [`MAX_BYTES`].
    #[error("channel file has {0} bytes, more than the {MAX_BYTES} allowed")]
    TooLarge(u64),
    /// A format newer than this program.
    #[error("channel file has format {0}, this program reads format {FORMAT}; update upright first")]
    Format(u32),
    /// Waves that are not in order, too many, or out of range.
    #[error("channel file has impossible waves: {0}")]
    Waves(&'static str),
    /// Former releases that are too many, repeated, or the current one.
    #[error("channel file has an impossible history: {0}")]
    History(&'static str),
    /// A maintenance window out of range.
    #[error("channel file has a maintenance window outside of a day")]
    Window,
}

impl Channel {
    /// Reads a channel file whose length and hash were verified.
    pub fn parse(bytes: &[u8]) -> Result<Self, ChannelError> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(ChannelError::TooLarge(bytes.len() as u64));
        }
        #[derive(Deserialize)]
        struct Header {
            format: u32,
        }
        let malformed = |error: serde_json::Error| ChannelError::Malformed(error.to_string());
        let Header { format } = serde_json::from_slice(bytes).map_err(malformed)?;
        if format != FORMAT {
            return Err(ChannelError::Format(format));
        }
        let channel: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        channel.check()?;
        Ok(channel)
    }

    /// The file's bytes: JSON, indented, ending in a newline. Equal channels give equal bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ChannelError> {
        self.check()?;
        let mut bytes =
            serde_json::to_vec_pretty(self).map_err(|error| ChannelError::Malformed(error.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The target path of a channel file.
    pub fn target_path(os: &OsName, arch: Arch, channel: &ChannelName) -> String {
        format!("channels/{os}/{arch}/{channel}.json")
    }

    fn check(&self) -> Result<(), ChannelError> {
        if self.waves.len() > MAX_WAVES {
            return Err(ChannelError::Waves("more than 64"));
        }
        if self.waves.iter().any(|wave| !(1..=10_000).contains(&wave.share)) {
            return Err(ChannelError::Waves("a share outside 1 to 10000"));
        }
        let ordered = |pair: &[Wave]| pair[0].share < pair[1].share && pair[0].from <= pair[1].from;
        if !self.waves.windows(2).all(ordered) {
            return Err(ChannelError::Waves("shares and times must grow"));
        }
        if self.history.len() > MAX_HISTORY {
            return Err(ChannelError::History("more than 64 releases"));
        }
        let once = |(i, version): (usize, &Version)| {
            *version != self.version && !self.history[..i].contains(version)
        };
        if !self.history.iter().enumerate().all(once) {
            return Err(ChannelError::History("a release is named twice"));
        }
        let in_a_day = |window: &Window| window.start < 1440 && (1..=1440).contains(&window.minutes);
        match self.windows.iter().all(in_a_day) {
            true => Ok(()),
            false => Err(ChannelError::Window),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel() -> Channel {
        let version = |text: &str| text.parse().unwrap();
        Channel {
            format: FORMAT,
            os: "acme".parse().unwrap(),
            arch: Arch::X86_64,
            channel: "stable".parse().unwrap(),
            version: version("1.2"),
            manifest: Digest::of(b"manifest"),
            history: vec![version("1.1"), version("1.0")],
            hold: None,
            waves: vec![Wave { share: 500, from: Timestamp::UNIX_EPOCH }],
            windows: vec![Window { days: vec![Day::Mon], start: 60, minutes: 120 }],
        }
    }

    #[test]
    fn a_channel_file_round_trips() {
        let bytes = channel().to_bytes().unwrap();
        assert_eq!(Channel::parse(&bytes), Ok(channel()));
        // What a newer publisher adds does not stop older hosts.
        let mut newer: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        newer["motto"] = "onwards".into();
        assert_eq!(Channel::parse(newer.to_string().as_bytes()), Ok(channel()));
    }

    #[test]
    fn what_cannot_be_is_neither_written_nor_read() {
        let spoilers: [fn(&mut Channel); 9] = [
            |c| c.waves[0].share = 0,
            |c| c.waves.push(c.waves[0].clone()),
            |c| c.history.push(c.version.clone()),
            |c| c.history.push(c.history[0].clone()),
            |c| c.waves = (1..=65).map(|share| Wave { share, from: Timestamp::UNIX_EPOCH }).collect(),
            |c| c.windows[0].start = 1440,
            |c| c.windows[0].minutes = 0,
            |c| c.windows[0].minutes = 1441,
            |c| c.history = (0..65).map(|i| format!("0.{i}").parse().unwrap()).collect(),
        ];
        for (i, spoil) in spoilers.iter().enumerate() {
            let mut channel = channel();
            spoil(&mut channel);
            assert!(channel.to_bytes().is_err(), "{i}");
            let bytes = serde_json::to_vec(&channel).unwrap();
            assert!(Channel::parse(&bytes).is_err(), "{i}");
        }
    }

    #[test]
    fn what_is_beyond_the_limit_is_not_read() {
        let mut long = channel().to_bytes().unwrap();
        long.resize(MAX_BYTES as usize, b' ');
        Channel::parse(&long).unwrap();
        long.push(b' ');
        assert_eq!(Channel::parse(&long), Err(ChannelError::TooLarge(MAX_BYTES + 1)));
    }

    #[test]
    fn a_newer_format_is_named_before_its_fields_are_judged() {
        assert_eq!(Channel::parse(br#"{"format":2,"new":1}"#), Err(ChannelError::Format(2)));
    }
}
