//! The host's configuration, `/etc/upright/upright.toml`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use upright_manifests::channel::{Day, Window};
use upright_manifests::name::{ChannelName, OsName};

use crate::policy::RebootPolicy;

/// What a host is told by its administrator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where releases come from.
    pub repository: Repository,
    /// Which releases are taken, and when.
    #[serde(default)]
    pub update: Update,
    /// How a release proves itself.
    #[serde(default)]
    pub health: Health,
    /// The boot loader.
    #[serde(default)]
    pub boot: Boot,
    /// Bounds on what an update may use.
    #[serde(default)]
    pub limits: Limits,
}

/// Where releases come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Repository {
    /// The repository's address: `https://`, `http://` or `file://`.
    pub url: String,
    /// The OS; taken from the kernel's command line (`upright.os=`) if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<OsName>,
    /// A PEM file of certificate authorities to trust instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The TUF root that the image ships with.
    #[serde(default = "default_root")]
    pub root: PathBuf,
}

fn default_root() -> PathBuf {
    PathBuf::from("/usr/share/upright/root.json")
}

/// Which releases are taken, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Update {
    /// The channel.
    pub channel: ChannelName,
    /// How often the server is asked.
    pub poll: Time,
    /// At most how much later than that, at random.
    pub jitter: Time,
    /// When the host may reboot by itself.
    pub reboot: RebootPolicy,
    /// Maintenance windows, instead of those in the channel file.
    pub windows: Vec<HostWindow>,
    /// While set, no release is taken by the agent; the text says why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
}

impl Default for Update {
    fn default() -> Self {
        Self {
            channel: default_channel(),
            poll: Time(Duration::from_secs(3600)),
            jitter: Time(Duration::from_secs(600)),
            reboot: RebootPolicy::default(),
            windows: Vec::new(),
            hold: None,
        }
    }
}

#[expect(clippy::expect_used, reason = "a constant")]
fn default_channel() -> ChannelName {
    "stable".parse().expect("a valid name")
}

/// A maintenance window as people write it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HostWindow {
    /// The days it opens on, `mon` to `sun`; none means every day.
    #[serde(default)]
    pub days: Vec<Day>,
    /// When it opens, `HH:MM` in UTC.
    pub start: TimeOfDay,
    /// How many minutes it stays open, 1 to 1440.
    pub minutes: u16,
}

impl Update {
    /// The windows in the form of the channel file.
    pub fn windows(&self) -> Vec<Window> {
        let window = |w: &HostWindow| Window { days: w.days.clone(), start: w.start.0, minutes: w.minutes };
        self.windows.iter().map(window).collect()
    }
}

/// How a release proves itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Health {
    /// How long all required checks must keep holding once they hold.
    pub settle: Time,
    /// After how long a trial that has not ended counts as failed.
    pub deadline: Time,
    /// How many boots a trial may take.
    pub tries: u32,
    /// Whether a failed systemd unit makes the system unhealthy.
    pub failed_units: bool,
    /// Failed units that do not count.
    pub ignore_units: Vec<String>,
    /// Folders with executables in `required.d` and `wanted.d`.
    pub folders: Vec<PathBuf>,
    /// Declared checks.
    #[serde(rename = "check")]
    pub checks: Vec<Check>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            settle: Time(Duration::from_secs(30)),
            deadline: Time(Duration::from_secs(600)),
            tries: 3,
            failed_units: true,
            ignore_units: Vec::new(),
            folders: ["/usr/lib/upright/health", "/etc/upright/health"].map(PathBuf::from).to_vec(),
            checks: Vec::new(),
        }
    }
}

/// A declared check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Check {
    /// Its name.
    pub name: String,
    /// What is looked at.
    #[serde(flatten)]
    pub probe: Probe,
    /// Whether the system is unhealthy without it.
    #[serde(default = "yes")]
    pub required: bool,
    /// How long one try may take.
    #[serde(default = "default_timeout")]
    pub timeout: Time,
    /// How many times it is tried again before it counts as failed.
    #[serde(default = "default_retries")]
    pub retries: u32,
    /// How long to wait between tries.
    #[serde(default = "default_interval")]
    pub interval: Time,
}

/// What a check looks at; exactly one of these keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// A program and its arguments; exit status 0 is a pass.
    Command(Vec<String>),
    /// A systemd unit that must be active and not restarting.
    Unit(String),
    /// An address that must answer with a 2xx status.
    Http(String),
    /// The update server must answer.
    UpdateServer(bool),
}

fn yes() -> bool {
    true
}

fn default_timeout() -> Time {
    Time(Duration::from_secs(30))
}

fn default_retries() -> u32 {
    5
}

fn default_interval() -> Time {
    Time(Duration::from_secs(5))
}

/// The boot loader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Boot {
    /// Where the ESP is mounted; looked for at `/efi`, `/boot/efi` and `/boot` if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub esp: Option<PathBuf>,
    /// Whether to take a release although its signer's certificate is not in the firmware's database, as with one that is issued
    /// by an authority that is.
    pub any_signer: bool,
}

/// Bounds on what an update may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Limits {
    /// Ways not to use: `delta`, `chunks`.
    pub without: Vec<String>,
    /// How long to wait, in all, for a server that has stopped answering in the middle of an update, before the update is put
    /// off until the next poll.
    pub patience: Time,
}

impl Default for Limits {
    fn default() -> Self {
        Self { without: Vec::new(), patience: Time(Duration::from_secs(120)) }
    }
}

/// A span of time, written `90s`, `10m`, `1h`, `2d` or a sum such as `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Duration);

/// A time of day in minutes from midnight, written `HH:MM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOfDay(pub u16);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() % 1000 {
            0 => write!(f, "{}s", self.0.as_secs()),
            _ => write!(f, "{}ms", self.0.as_millis()),
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        span(&text).map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!("{text:?} is not a span of time such as 90s, 10m or 1h30m"))
        })
    }
}

fn span(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u32 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        let end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let one = match &unit[..end] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            "d" => Duration::from_secs(86_400),
            _ => return None,
        };
        total = total.checked_add(one.checked_mul(number)?)?;
        rest = &unit[end..];
    }
    (!text.is_empty()).then_some(total)
}

impl Serialize for TimeOfDay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:02}:{:02}", self.0 / 60, self.0 % 60))
    }
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        time_of_day(&text).map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!("{text:?} is not a time of day from 00:00 to 23:59"))
        })
    }
}

fn time_of_day(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |digits: &str, below: u16| match digits.len() {
        2 => digits.parse::<u16>().ok().filter(|number| *number < below),
        _ => None,
    };
    Some(number(hours, 24)? * 60 + number(minutes, 60)?)
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}; it needs at least `[repository]` with `url`")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not what is expected.
    #[error("{path}:{line}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what was expected.
        reason: String,
    },
}

impl Config {
    /// Reads the configuration in `path`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Reads a configuration; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let malformed = |line, reason| ConfigError::Malformed { path: path.to_owned(), line, reason };
        let config: Self = toml::from_str(text).map_err(|error| {
            let before = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.as_bytes()[..before].iter().filter(|byte| **byte == b'\n').count() + 1;
            malformed(line, error.message().lines().collect::<Vec<_>>().join(" "))
        })?;
        let line_of = |key: &str| text.lines().position(|line| line.contains(key)).map_or(1, |line| line + 1);
        config.check().map_err(|(key, reason)| malformed(line_of(key), reason))?;
        Ok(config)
    }

    /// What the types cannot say: the key in question and what is expected of it.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let url = &self.repository.url;
        if !["https://", "http://", "file://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(("url", format!("url {url:?} must start with https://, http:// or file://")));
        }
        if self.update.windows.iter().any(|window| !(1..=1440).contains(&window.minutes)) {
            return Err(("minutes", "minutes of a window must be 1 to 1440".to_owned()));
        }
        if !(1..=99).contains(&self.health.tries) {
            return Err(("tries", "tries must be 1 to 99".to_owned()));
        }
        if let Some(way) = self.limits.without.iter().find(|way| !["delta", "chunks"].contains(&way.as_str()))
        {
            return Err(("without", format!("way {way:?} in `without` must be \"delta\" or \"chunks\"")));
        }
        let commandless = |check: &Check| matches!(&check.probe, Probe::Command(words) if words.is_empty());
        match self.health.checks.iter().find(|check| commandless(check)) {
            Some(check) => Err(("command", format!("command of check {:?} must name a program", check.name))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("upright.toml"))
    }

    const WHOLE: &str = r#"
[repository]
url = "https://updates.example"
[update]
channel = "beta"
poll = "1h30m"
reboot = "window"
[[update.windows]]
days = ["sat", "sun"]
start = "02:30"
minutes = 90
[health]
settle = "10s"
[[health.check]]
name = "app"
unit = "app.service"
[[health.check]]
name = "answers"
http = "http://localhost:8080/ready"
required = false
timeout = "2s"
"#;

    #[test]
    fn everything_an_administrator_may_write_is_read() {
        let config = parse(WHOLE).unwrap();
        assert_eq!(config.update.poll.0, Duration::from_secs(5400));
        assert_eq!(config.update.windows()[0].start, 150);
        assert_eq!(config.health.checks[0].probe, Probe::Unit("app.service".to_owned()));
        assert!(config.health.checks[0].required && !config.health.checks[1].required);
        assert_eq!(config.health.tries, 3);
    }

    #[test]
    fn a_mistake_is_named_with_its_line_and_what_was_expected() {
        for (text, expected) in [
            ("[repository]\n", "upright.toml:1: missing field `url`"),
            ("[repository]\nurl = \"ftp://x\"\n", "upright.toml:2: url \"ftp://x\" must start with https://"),
            ("[repository]\nurl = 7\n", "upright.toml:2: invalid type: integer `7`, expected a string"),
            (
                "[repository]\nurl = \"http://x\"\n[update]\npol = \"1h\"\n",
                "upright.toml:4: unknown field `pol`, expected one of",
            ),
            (
                "[repository]\nurl = \"http://x\"\n[update]\npoll = \"soon\"\n",
                "upright.toml:4: \"soon\" is not a span of time such as",
            ),
            ("[repository\n", "upright.toml:1:"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn spans_of_time_are_exact_and_bounded() {
        assert_eq!(span("1d2h3m4s5ms"), Some(Duration::from_millis(93_784_005)));
        for bad in ["", "5", "5x", "-5s", "99999999999s", "s"] {
            assert_eq!(span(bad), None, "{bad}");
        }
    }
}
