//! Looking at the real system: commands, systemd units, HTTP addresses.

use std::time::Duration;

use super::{Probed, Prober};
use crate::config::Probe;
use crate::host::Remote;
use crate::program;

/// The system this program runs on.
pub struct SystemProber<'a> {
    /// The update server.
    pub remote: &'a dyn Remote,
}

impl Prober for SystemProber<'_> {
    fn probe(&self, probe: &Probe, timeout: Duration) -> Probed {
        match probe {
            Probe::Command(words) => command(words, timeout),
            Probe::Unit(unit) => self::unit(unit, timeout),
            Probe::Http(url) => told(ask(url, timeout)),
            Probe::UpdateServer(_) => told(reach(self.remote)),
        }
    }

    fn failed_units(&self, timeout: Duration) -> Result<Vec<String>, String> {
        let words = ["systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager"];
        let probed = command(&words.map(str::to_owned), timeout);
        match probed.passed {
            true => Ok(parse_failed(&probed.output)),
            false => Err(probed.message),
        }
    }
}

/// Whether the update server has a repository to offer; what it says is not trusted for more than that.
fn reach(remote: &dyn Remote) -> Result<String, String> {
    let mut answer = remote.open("metadata/timestamp.json", 0..1).map_err(|error| error.to_string())?;
    let mut byte = [0];
    answer
        .read_exact(&mut byte)
        .map_err(|error| format!("{} stopped answering: {error}", remote.address()))?;
    Ok(format!("{} answers", remote.address()))
}

fn ask(url: &str, timeout: Duration) -> Result<String, String> {
    let status = crate::fetch::status_of(url, timeout)?;
    let line = format!("{url} answers with status {status}");
    if (200..300).contains(&status) { Ok(line) } else { Err(line) }
}

fn told(result: Result<String, String>) -> Probed {
    let passed = result.is_ok();
    Probed { passed, message: result.unwrap_or_else(|error| error), ..Probed::default() }
}

fn parse_failed(output: &str) -> Vec<String> {
    output.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn unit(unit: &str, timeout: Duration) -> Probed {
    let words = ["systemctl", "show", "-p", "ActiveState,SubState,Result,NRestarts", "--", unit];
    let probed = command(&words.map(str::to_owned), timeout);
    if probed.passed { parse_unit(unit, &probed.output) } else { probed }
}

/// Reads `systemctl show`: `KEY=value` lines.
fn parse_unit(unit: &str, output: &str) -> Probed {
    let value = |key: &str| {
        output.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
    };
    let (active, sub, result) = (value("ActiveState"), value("SubState"), value("Result"));
    Probed {
        passed: active == "active",
        message: match active {
            "active" => format!("{unit} is active ({sub})"),
            _ => format!("{unit} is {active} ({sub}, result {result}); see `journalctl -u {unit}`"),
        },
        output: String::new(),
        restarts: value("NRestarts").parse().ok(),
    }
}

/// Runs a program for at most `timeout`.
fn command(words: &[String], timeout: Duration) -> Probed {
    let program = words.first().map(String::as_str).unwrap_or_default();
    let ran = match program::run(words, timeout) {
        Ok(ran) => ran,
        Err(message) => return Probed { message, ..Probed::default() },
    };
    let output = format!("{}{}", ran.stdout, ran.stderr);
    match ran.status.is_some_and(|status| status.success()) {
        true => Probed { passed: true, message: format!("{program} exited with 0"), output, restarts: None },
        false => Probed { message: format!("{program} {}", ran.ended(timeout)), output, ..Probed::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::super::MAX_OUTPUT;
    use super::*;

    fn sh(script: &str, seconds: u64) -> Probed {
        command(&["sh", "-c", script].map(str::to_owned), Duration::from_secs(seconds))
    }

    #[test]
    fn the_exit_status_decides_and_the_last_line_explains() {
        assert!(sh("echo fine", 60).passed);
        let failed = sh("echo first; echo broken disk >&2; exit 3", 60);
        assert!(!failed.passed);
        assert_eq!(failed.message, "sh exited with 3: broken disk");
        assert_eq!(failed.output, "first\nbroken disk\n");
    }

    #[test]
    fn a_check_that_never_returns_is_killed_with_its_children() {
        let probed = sh("sleep 1000 & sleep 1000", 1);
        assert_eq!(probed.message, "sh did not end within 1 s and was killed");
    }

    #[test]
    fn endless_output_is_bounded() {
        let probed = sh("yes | head -c 3000000", 60);
        assert!(probed.passed && probed.output.len() <= MAX_OUTPUT, "{}", probed.output.len());
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let probed = command(&["/nowhere/check".to_owned()], Duration::from_secs(1));
        assert!(probed.message.starts_with("/nowhere/check cannot be run: "), "{}", probed.message);
    }

    #[test]
    fn systemds_answers_are_read() {
        let active = "ActiveState=active\nSubState=running\nResult=success\nNRestarts=2\n";
        let probed = parse_unit("app.service", active);
        assert!(probed.passed);
        assert_eq!(probed.restarts, Some(2));
        let failed = parse_unit("app.service", "ActiveState=failed\nSubState=failed\nResult=exit-code\n");
        assert!(!failed.passed);
        assert!(failed.message.starts_with("app.service is failed (failed, result exit-code)"));
        let units = "app.service loaded failed failed The app\ndb.service loaded failed failed\n";
        assert_eq!(parse_failed(units), ["app.service", "db.service"]);
    }
}
