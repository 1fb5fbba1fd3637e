//! Looking at the real system: commands, systemd units, HTTP addresses.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::{MAX_OUTPUT, Probed, Prober};
use crate::config::Probe;
use crate::host::Remote;
use crate::memory;

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
            _ => format!("{unit} is {active} ({sub}, result {result}); see `journalctl -b -u {unit}`"),
        },
        output: String::new(),
        restarts: value("NRestarts").parse().ok(),
    }
}

/// Runs a program in a process group of its own, which is killed when the time is over.
fn command(words: &[String], timeout: Duration) -> Probed {
    let failed = |message| Probed { message, ..Probed::default() };
    let Some((program, arguments)) = words.split_first() else {
        return failed("no program to run".to_owned());
    };
    let spawned = Command::new(program)
        .args(arguments)
        .env_remove(memory::TUNABLES)
        .env_remove(memory::STARTED)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return failed(format!("{program} cannot be run: {error}")),
    };
    let output = collect(&mut child);
    let status = wait(&mut child, timeout);
    // A grandchild that left the group may hold the pipe open for ever; what came so far is enough then.
    let output =
        output.into_iter().flat_map(|pipe| pipe.recv_timeout(Duration::from_secs(1))).collect::<Vec<_>>();
    let output = output.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect::<String>();
    match status {
        Ok(Some(status)) if status.success() => {
            Probed { passed: true, message: format!("{program} exited with 0"), output, restarts: None }
        }
        Ok(Some(status)) => Probed { message: ended(program, status, &output), output, ..Probed::default() },
        Ok(None) => {
            let message = format!("{program} did not end within {} s and was killed", timeout.as_secs());
            Probed { message, output, ..Probed::default() }
        }
        Err(error) => failed(format!("{program} cannot be waited for: {error}")),
    }
}

fn ended(program: &str, status: ExitStatus, output: &str) -> String {
    let last = output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let status = match status.code() {
        Some(code) => format!("exited with {code}"),
        None => status.to_string(),
    };
    match last.is_empty() {
        true => format!("{program} {status}"),
        false => format!("{program} {status}: {}", last.trim().chars().take(200).collect::<String>()),
    }
}

/// Reads both pipes in threads and keeps the end of each.
fn collect(child: &mut Child) -> Vec<mpsc::Receiver<Vec<u8>>> {
    let stdout = child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>);
    let stderr = child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>);
    [stdout, stderr].into_iter().flatten().map(tail).collect()
}

fn tail(mut pipe: Box<dyn Read + Send>) -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            kept.extend_from_slice(&buffer[..count]);
            let excess = kept.len().saturating_sub(MAX_OUTPUT);
            kept.drain(..excess);
        }
        // The receiver is gone if the wait for the output was given up.
        let _ = send.send(kept);
    });
    receive
}

/// Waits for the child; `None` if it had to be killed. The group is killed either way, so that nothing stays behind.
fn wait(child: &mut Child, timeout: Duration) -> std::io::Result<Option<ExitStatus>> {
    let Some(pid) = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0)) else {
        return child.wait().map(Some);
    };
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let until = Instant::now() + timeout;
    let mut ended = false;
    while !ended {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(std::io::Error::other)?;
        let mut fds = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(0) => break,
            Ok(_) => ended = true,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // ESRCH: all of the group has ended.
    let _ = kill_process_group(pid, Signal::KILL);
    let status = child.wait()?;
    Ok(ended.then_some(status))
}

#[cfg(test)]
mod tests {
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
