//! Programs that an administrator named: run with a limit to their time and to what is kept of what they say.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::memory;

/// How much of each stream is kept, in bytes, from its end.
pub(crate) const MAX_OUTPUT: usize = 4096;

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit status; none if it was killed because its time was over.
    pub(crate) status: Option<ExitStatus>,
    /// The end of what it wrote to standard output.
    pub(crate) stdout: String,
    /// The end of what it wrote to standard error.
    pub(crate) stderr: String,
}

impl Ran {
    /// How it ended, and the last line that it wrote, for people; `time` is what it was given.
    pub(crate) fn ended(&self, time: Duration) -> String {
        let Some(status) = self.status else {
            return format!("did not end within {} s and was killed", time.as_secs());
        };
        let status = match status.code() {
            Some(code) => format!("exited with {code}"),
            None => status.to_string(),
        };
        let lines = self.stdout.lines().chain(self.stderr.lines());
        match lines.rev().find(|line| !line.trim().is_empty()) {
            None => status,
            Some(last) => format!("{status}: {}", last.trim().chars().take(200).collect::<String>()),
        }
    }
}

/// Runs a program in a process group of its own, which is killed when the time is over. An error says why it could not be run.
pub(crate) fn run(words: &[String], time: Duration) -> Result<Ran, String> {
    let (program, arguments) = words.split_first().ok_or("no program to run")?;
    let mut child = Command::new(program)
        .args(arguments)
        .env_remove(memory::TUNABLES)
        .env_remove(memory::STARTED)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{program} cannot be run: {error}"))?;
    let stdout = child.stdout.take().map(tail);
    let stderr = child.stderr.take().map(tail);
    let status =
        wait(&mut child, time).map_err(|error| format!("{program} cannot be waited for: {error}"))?;
    Ok(Ran { status, stdout: text(stdout), stderr: text(stderr) })
}

/// The end of what came through a pipe so far.
struct Tail {
    kept: Arc<Mutex<Vec<u8>>>,
    /// Hung up at the pipe's end.
    ended: mpsc::Receiver<()>,
}

/// A grandchild that left the group may hold the pipe open for ever; what came so far is enough then.
fn text(tail: Option<Tail>) -> String {
    let Some(Tail { kept, ended }) = tail else { return String::new() };
    let _ = ended.recv_timeout(Duration::from_secs(1));
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&kept).into_owned()
}

/// Reads a pipe in a thread and keeps the end.
fn tail(mut pipe: impl Read + Send + 'static) -> Tail {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let (send, ended) = mpsc::channel();
    let ours = Arc::clone(&kept);
    std::thread::spawn(move || {
        // Dropped at the end.
        let _send = send;
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            let mut kept = ours.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend_from_slice(&buffer[..count]);
            let excess = kept.len().saturating_sub(MAX_OUTPUT);
            kept.drain(..excess);
        }
    });
    Tail { kept, ended }
}

/// Waits for the child; `None` if it had to be killed. The group is killed either way, so that nothing stays behind.
fn wait(child: &mut Child, time: Duration) -> std::io::Result<Option<ExitStatus>> {
    let Some(pid) = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0)) else {
        return child.wait().map(Some);
    };
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let until = Instant::now() + time;
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

    #[test]
    fn what_was_said_is_kept_though_somebody_holds_the_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join("left").display().to_string();
        // Once it has left the group that is killed.
        let script = "echo said; echo told >&2; setsid sh -c 'touch \"$0\"; exec sleep 20' \"$0\" &
            until [ -e \"$0\" ]; do sleep 0.05; done";
        let words = ["sh", "-c", script, &left].map(str::to_owned);
        let begin = Instant::now();
        let ran = run(&words, Duration::from_secs(10)).unwrap();
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("said\n", "told\n"));
        assert!(
            ran.status.is_some_and(|status| status.success()) && begin.elapsed() < Duration::from_secs(10)
        );
    }
}
