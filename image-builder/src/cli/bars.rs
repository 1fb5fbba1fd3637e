//! Progress on standard error: a bar for what takes more than a second at a terminal, plain lines elsewhere.

use std::io::{IsTerminal, stderr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::note;
use crate::repo::progress::Progress;

/// Steps shorter than this are not worth a line.
const SHORT: Duration = Duration::from_secs(1);

/// Shows steps to whoever started the command.
pub(super) struct Bars {
    quiet: bool,
    terminal: bool,
    step: Mutex<Option<Step>>,
}

struct Step {
    name: String,
    total: Option<u64>,
    since: Instant,
    bar: Option<ProgressBar>,
}

impl Bars {
    /// Shows nothing at all if `quiet`.
    pub(super) fn new(quiet: bool) -> Self {
        Self { quiet, terminal: stderr().is_terminal(), step: Mutex::new(None) }
    }

    fn with(&self, act: impl FnOnce(&mut Option<Step>)) {
        // A poisoned lock means that a thread panicked while drawing, which hurts the drawing only.
        act(&mut self.step.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl Progress for Bars {
    fn begin(&self, step: &str, total: Option<u64>) {
        let bar = (self.terminal && !self.quiet).then(|| bar(step, total));
        self.with(|slot| *slot = Some(Step { name: step.to_owned(), total, since: Instant::now(), bar }));
    }

    fn reached(&self, bytes: u64) {
        self.with(|slot| {
            if let Some(bar) = slot.as_ref().and_then(|step| step.bar.as_ref()) {
                bar.set_position(bytes);
            }
        });
    }

    fn end(&self, summary: &str) {
        self.with(|slot| {
            let Some(step) = slot.take() else { return };
            if let Some(bar) = &step.bar {
                bar.finish_and_clear();
            }
            let took = step.since.elapsed();
            if !self.quiet && took > SHORT {
                note(&format!("{}: {summary} in {:.0} s", step.name, took.as_secs_f64()));
            }
        });
    }

    fn note(&self, line: &str) {
        self.with(|slot| match slot.as_ref().and_then(|step| step.bar.as_ref()) {
            Some(bar) => bar.suspend(|| note(&format!("note: {line}"))),
            None if !self.quiet => note(&format!("note: {line}")),
            None => {}
        });
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(step: &str, total: Option<u64>) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(5);
    let bar = ProgressBar::with_draw_target(total, target).with_message(step.to_owned());
    let template = match total {
        Some(_) => "{msg} {wide_bar} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}",
        None => "{msg} {spinner} {decimal_bytes} {decimal_bytes_per_sec} {elapsed}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {:?}", self.name, self.total)
    }
}
