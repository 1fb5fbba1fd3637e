//! The serial line of a machine: everything it says is logged, and can be waited for.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{ChildStdin, ChildStdout};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How many lines an error shows of what came last.
const TAIL_LINES: usize = 15;

/// Both directions of a serial line.
pub struct Console {
    input: ChildStdin,
    heard: Arc<Heard>,
    /// Up to where [`Self::wait_for`] has read.
    position: usize,
}

/// What came over the line so far.
#[derive(Default)]
struct Heard {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    ended: bool,
}

impl Console {
    /// A console on a program's standard streams, logged to `log`.
    pub(super) fn new(input: ChildStdin, output: ChildStdout, log: File) -> Self {
        let heard = Arc::new(Heard::default());
        let listener = Arc::clone(&heard);
        thread::spawn(move || listener.listen(output, log));
        Self { input, heard, position: 0 }
    }

    /// Types `text`.
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.input.write_all(text.as_bytes()).context("the machine's serial line is closed")
    }

    /// Waits until one of `patterns` is said, and gives which one and what was said before it. What is waited for next comes after
    /// it. Of several that are there, the earliest counts.
    pub fn wait_for(&mut self, patterns: &[&str], time: Duration) -> Result<(usize, String)> {
        let until = Instant::now() + time;
        let mut state = self.heard.lock();
        loop {
            let new = &state.bytes[self.position..];
            let found = patterns
                .iter()
                .enumerate()
                .filter_map(|(index, pattern)| Some((find(new, pattern.as_bytes())?, index, pattern.len())));
            if let Some((at, index, length)) = found.min() {
                let before = String::from_utf8_lossy(&new[..at]).into_owned();
                self.position += at + length;
                return Ok((index, before));
            }
            let left = until.saturating_duration_since(Instant::now());
            if state.ended {
                bail!(
                    "the machine ended while waiting for {patterns:?}; its last lines:\n{}",
                    tail(&state.bytes)
                );
            }
            if left.is_zero() {
                bail!("no {patterns:?} within {} s; the last lines:\n{}", time.as_secs(), tail(&state.bytes));
            }
            state = self.heard.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until nobody speaks on the line any more.
    pub(super) fn wait_until_closed(&self) {
        let state = self.heard.lock();
        drop(self.heard.changed.wait_while(state, |state| !state.ended));
    }

    /// How often `text` was said since the machine was started.
    pub fn count(&self, text: &str) -> usize {
        let state = self.heard.lock();
        state.bytes.windows(text.len()).filter(|window| *window == text.as_bytes()).count()
    }

    /// The last lines that were said.
    pub fn tail(&self) -> String {
        tail(&self.heard.lock().bytes)
    }
}

impl Heard {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(&self, mut output: ChildStdout, mut log: File) {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = output.read(&mut buffer) {
            // A full disk must not stop the machine.
            let _ = log.write_all(&buffer[..length]);
            self.lock().bytes.extend_from_slice(&buffer[..length]);
            self.changed.notify_all();
        }
        self.lock().ended = true;
        self.changed.notify_all();
    }
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len()).position(|window| window == pattern)
}

fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<String> = text.lines().map(printable).filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    lines[from..].iter().map(|line| format!("  | {line}")).collect::<Vec<_>>().join("\n")
}

/// The line without the terminal's control sequences (ECMA-48, `ESC [ ... letter`).
fn printable(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => drop(rest.by_ref().skip_while(|c| *c == '[').find(|c| ('@'..='~').contains(c))),
            c if c.is_control() && c != '\t' => {}
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    fn speaker(script: &str) -> (Child, Console) {
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let log = tempfile::tempfile().unwrap();
        let console = Console::new(child.stdin.take().unwrap(), child.stdout.take().unwrap(), log);
        (child, console)
    }

    #[test]
    fn the_earliest_of_several_patterns_counts_and_is_consumed() {
        let (mut child, mut console) = speaker("printf 'one two three two'");
        let time = Duration::from_secs(30);
        assert_eq!(console.wait_for(&["three", "two"], time).unwrap(), (1, "one ".to_owned()));
        assert_eq!(console.wait_for(&["two"], time).unwrap(), (0, " three ".to_owned()));
        assert_eq!(console.count("two"), 2);
        child.wait().unwrap();
    }

    #[test]
    fn a_machine_that_ends_is_an_error_with_its_last_lines() {
        let (mut child, mut console) = speaker("printf 'Kernel \\033[31mpanic\\033[0m\\r\\n'");
        let error = console.wait_for(&["login:"], Duration::from_secs(30)).unwrap_err().to_string();
        assert!(error.contains("| Kernel panic"), "{error}");
        child.wait().unwrap();
    }

    #[test]
    fn a_wait_ends_when_its_time_is_over() {
        let (mut child, mut console) = speaker("echo booting; read line");
        console.wait_for(&["booting"], Duration::from_secs(30)).unwrap();
        let error = console.wait_for(&["login:"], Duration::from_millis(50)).unwrap_err().to_string();
        assert!(error.starts_with("no [\"login:\"] within"), "{error}");
        console.send("done\n").unwrap();
        child.wait().unwrap();
    }
}
