//! Declared health checks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Time;

/// A declared check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", rename_all = "kebab-case")]
pub struct Check {
    /// Its name.
    pub name: String,
    /// What is looked at.
    #[serde(flatten)]
    pub probe: Probe,
    /// Whether the system is unhealthy without it.
    pub required: bool,
    /// How long one try may take.
    pub timeout: Time,
    /// How many times it is tried again before it counts as failed.
    pub retries: u32,
    /// How long to wait between tries.
    pub interval: Time,
}

/// What a check looks at; exactly one of these keys.
#[derive(Debug, Clone, PartialEq, Serialize)]
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

/// A check as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    name: String,
    command: Option<Vec<String>>,
    unit: Option<String>,
    http: Option<String>,
    update_server: Option<bool>,
    #[serde(default = "yes")]
    required: bool,
    #[serde(default = "default_timeout")]
    timeout: Time,
    #[serde(default = "default_retries")]
    retries: u32,
    #[serde(default = "default_interval")]
    interval: Time,
}

const PROBES: &str = "`command`, `unit`, `http`, `update-server`";

impl TryFrom<Written> for Check {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { name, command, unit, http, update_server, required, timeout, retries, interval } =
            written;
        let probes = [
            command.map(Probe::Command),
            unit.map(Probe::Unit),
            http.map(Probe::Http),
            update_server.map(Probe::UpdateServer),
        ];
        let mut probes = probes.into_iter().flatten();
        match (probes.next(), probes.next()) {
            (Some(probe), None) => Ok(Self { name, probe, required, timeout, retries, interval }),
            (None, _) => Err(format!("check {name:?} needs one of {PROBES}")),
            (Some(_), Some(_)) => {
                Err(format!("check {name:?} has several of {PROBES}; make a check of each"))
            }
        }
    }
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
