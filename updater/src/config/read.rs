//! Reads the configuration; a mistake is named with its line and what was expected.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use upright_manifests::size::Size;

use super::{Check, Config, Probe};

/// The largest configuration that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The lowest rate that an update can be held to, in bytes a second.
const MIN_RATE: Size = Size(4 << 10);

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}; it must be a file with at least `[repository]` and its `url`")]
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
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(failed)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(failed(io::Error::other(format!("it has more than {MAX_BYTES} bytes"))));
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => Self::parse(text, path),
            Err(error) => Err(ConfigError::Malformed {
                path: path.to_owned(),
                line: line_at(&bytes, error.valid_up_to()),
                reason: "a byte that is not UTF-8; expected TOML, which is UTF-8 text".to_owned(),
            }),
        }
    }

    /// Reads a configuration; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let malformed = |line, reason| ConfigError::Malformed { path: path.to_owned(), line, reason };
        let config: Self = toml::from_str(text).map_err(|error| {
            let line = line_at(text.as_bytes(), error.span().map_or(0, |span| span.start));
            malformed(line, in_words(error.message()))
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
        if self.boot.timeout.0.is_zero() {
            return Err(("timeout", "timeout in [boot] must be longer than 0s".to_owned()));
        }
        if self.limits.stall.0.is_zero() {
            return Err(("stall", "stall must be longer than 0s".to_owned()));
        }
        for (key, rate) in [("fetch-rate", self.limits.fetch_rate), ("write-rate", self.limits.write_rate)] {
            if rate.is_some_and(|rate| rate < MIN_RATE) {
                return Err((
                    key,
                    format!("{key} must be {MIN_RATE} a second at least, or an update would take days"),
                ));
            }
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

/// A parser's message in one line, without the names that this program's language has for numbers.
fn in_words(message: &str) -> String {
    let line = message.lines().collect::<Vec<_>>().join(" ");
    ["u8", "u16", "u32", "u64"]
        .iter()
        .fold(line, |line, name| line.replace(&format!("expected {name}"), "expected a whole number"))
}

/// The line, from 1, of the byte at `offset`.
fn line_at(bytes: &[u8], offset: usize) -> usize {
    bytes.iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
            (
                "[repository]\nurl = \"https://x\"\n[health]\ntries = \"3\"\n",
                "upright.toml:4: invalid type: string \"3\", expected a whole number",
            ),
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
            (
                "[repository]\nurl = \"http://x\"\n[[health.check]]\nname = \"app\"\n",
                "upright.toml:3: check \"app\" needs one of `command`, `unit`, `http`, `update-server`",
            ),
            (
                "[repository]\nurl = \"http://x\"\n[[health.check]]\nname = \"app\"\nunit = \"a\"\nhttp = \"b\"\n",
                "upright.toml:3: check \"app\" has several of `command`, `unit`, `http`, `update-server`",
            ),
            (
                "[repository]\nurl = \"http://x\"\n[[health.check]]\nname = \"app\"\nunits = \"a\"\n",
                "upright.toml:5: unknown field `units`, expected one of `name`, `command`, `unit`",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
