//! What commands print: JSON or lines, and progress on a terminal.

use std::io::{self, IsTerminal, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use upright_manifests::bytes::human;

use super::Failure;
use super::exit::Exit;
use crate::agent::{Agent, Reporter};
use crate::machine::State;

/// Prints `value` as JSON, or `text`.
pub(super) fn print<T: Serialize>(
    json: bool,
    value: &T,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    if json {
        let line = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot write JSON: {error}")))?;
        write(&line)
    } else {
        write(text().trim_end())
    }
}

/// Writes a line to standard output. A reader that went away, such as `head`, is not an error.
pub(super) fn write(line: &str) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error. Nobody can be told that this failed, and what is under way goes on without it.
pub(super) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Tells when what was brought along is taken although it has expired.
pub(super) fn tell_expired(agent: &Agent<'_>) {
    if let Some(brought) = agent.record().medium.as_ref().filter(|brought| brought.expired.is_some()) {
        note(&format!("note: this is taken from {brought}: `offline-expiry` in the configuration allows it"));
    }
}

/// Tells where the next boot takes another release than what runs.
pub(super) fn tell_next_boot(agent: &Agent<'_>) {
    let record = agent.record();
    match &record.state {
        State::Switched { target, .. } => note(&format!(
            "note: the next boot takes {}: run `reboot`, or `upright rollback`, which takes it back",
            target.version
        )),
        State::RollingBack { from, slot, .. } if *slot == agent.booted().slot => {
            let other = record.slots.get(&slot.other());
            let next = other.map_or("the other slot's release".to_owned(), |other| other.version.to_string());
            note(&format!("note: {} was left, and the next boot takes {next}: run `reboot`", from.version));
        }
        _ => {}
    }
}

/// Steps and bytes on standard error: a bar with rate and time left on a terminal, plain lines elsewhere.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    /// The tenth of the current step that was last printed where there is no terminal.
    tenth: u64,
}

impl Progress {
    pub(super) fn new(json: bool) -> Self {
        Self { bar: None, quiet: json, tenth: 0 }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Reporter for Progress {
    fn step(&mut self, line: &str) {
        self.finish();
        self.tenth = 0;
        if !self.quiet {
            note(line);
        }
    }

    fn bytes(&mut self, done: u64, total: u64) {
        if self.quiet || total == 0 {
            return;
        }
        if io::stderr().is_terminal() {
            let bar = self.bar.get_or_insert_with(|| bar(total));
            bar.set_length(total);
            bar.set_position(done);
            return;
        }
        let tenth = done.saturating_mul(10) / total;
        if tenth > self.tenth {
            self.tenth = tenth;
            let percent = done.saturating_mul(100) / total;
            note(&format!("  {} of {} ({percent} %)", human(done), human(total)));
        }
    }
}

fn bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(5));
    let template = "  {bar:30} {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
