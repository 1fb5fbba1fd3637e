//! What keeps the record small whatever health checks print and however often things go wrong: it must fit where it is written, and be
//! read by every agent that may come after.

use upright_manifests::tuf::Seen;

use super::event::HealthReport;
use super::history::{HistoryEntry, Outcome};
use super::record::{Cause, Record, State};

/// How many releases that were left are remembered: what is offered again is not that old.
const MOST_BAD: usize = 256;

/// The most bytes that a text has, as JSON.
const MOST_TEXT: usize = 1 << 10;

/// The most bytes that the outputs of all checks of a report have, as JSON.
const MOST_OUTPUT: usize = 16 << 10;

impl Record {
    /// Cuts what is told to people to its most, and forgets the oldest of too many releases that were left.
    pub(crate) fn cut(&mut self) {
        if let State::RollingBack { cause, report, .. } = &mut self.state {
            cause.cut();
            report.iter_mut().for_each(HealthReport::cut);
        }
        let excess = self.bad.len().saturating_sub(MOST_BAD);
        self.bad.drain(..excess);
        self.bad.iter_mut().for_each(|bad| bad.reason.cut());
        self.history.iter_mut().for_each(|entry| entry.outcome.cut());
        if let Some((_, reason)) = &mut self.failure {
            cut_text(reason);
        }
        self.seen.iter_mut().for_each(Seen::cut);
    }

    /// Forgets `excess` bytes of what can best be done without: what checks printed, the oldest first, then what happened, the oldest
    /// first. Says whether there was any of that. What the agent is in the middle of, what the slots hold and which releases were left is
    /// never forgotten.
    pub(crate) fn shed(&mut self, excess: usize) -> bool {
        let mut freed = 0;
        for entry in &mut self.history {
            if freed < excess {
                freed += entry.shed_outputs();
            }
        }
        while freed < excess && !self.history.is_empty() {
            // At the least a byte, so that this ends.
            freed += serde_json::to_string(&self.history.remove(0)).map_or(1, |entry| entry.len());
        }
        match &mut self.state {
            State::RollingBack { report, .. } if freed < excess => report.take().is_some() || freed > 0,
            _ => freed > 0,
        }
    }
}

impl HistoryEntry {
    /// How many bytes of JSON went.
    fn shed_outputs(&mut self) -> usize {
        let Some(report) = self.outcome.report_mut() else { return 0 };
        let outputs = report.checks.iter_mut().map(|check| std::mem::take(&mut check.output));
        outputs.map(|output| fitting(output.chars(), usize::MAX).1).sum()
    }
}

impl Outcome {
    /// Cuts all texts in it.
    pub(super) fn cut(&mut self) {
        match self {
            Self::NotApplied { reason } | Self::Interrupted { reason } => cut_text(reason),
            Self::RolledBack { cause, .. } | Self::Stuck { cause } => cause.cut(),
            Self::Reset { reset } => reset.left.iter_mut().for_each(cut_text),
            _ => {}
        }
        if let Some(report) = self.report_mut() {
            report.cut();
        }
    }

    fn report_mut(&mut self) -> Option<&mut HealthReport> {
        match self {
            Self::Proven { report, .. } | Self::Unhealthy { report } => Some(report),
            Self::RolledBack { report, .. } => report.as_mut(),
            _ => None,
        }
    }
}

impl Cause {
    fn cut(&mut self) {
        match self {
            Self::Health { check, message } => [check, message].into_iter().for_each(cut_text),
            Self::TrialsUsedUp { evidence } => {
                evidence.panic.iter_mut().chain(&mut evidence.damage).for_each(cut_text);
            }
            Self::State { reason } | Self::BootLoader { reason } => cut_text(reason),
            Self::Operator | Self::Unknown => {}
        }
    }
}

impl HealthReport {
    /// Keeps what failed checks printed alone, the required ones' first.
    fn cut(&mut self) {
        let mut left = MOST_OUTPUT;
        self.checks.iter_mut().for_each(|check| cut_text(&mut check.message));
        for required in [true, false] {
            for check in self.checks.iter_mut().filter(|check| check.required == required) {
                let most = if check.passed { 0 } else { left };
                let (length, bytes) = fitting(check.output.chars().rev(), most);
                check.output.drain(..check.output.len() - length);
                left -= bytes;
            }
        }
    }
}

/// Keeps the beginning of a text.
fn cut_text(text: &mut String) {
    const MORE: &str = "…";
    if fitting(text.chars(), MOST_TEXT).0 < text.len() {
        text.truncate(fitting(text.chars(), MOST_TEXT - MORE.len()).0);
        text.push_str(MORE);
    }
}

/// How long the beginning of these characters is that has at most `most` bytes as JSON, and how many it has.
fn fitting(chars: impl Iterator<Item = char>, most: usize) -> (usize, usize) {
    let (mut length, mut bytes) = (0, 0);
    for char in chars {
        let more = bytes + escaped(char);
        if more > most {
            break;
        }
        (length, bytes) = (length + char.len_utf8(), more);
    }
    (length, bytes)
}

/// How many bytes a character has in a string of JSON.
fn escaped(char: char) -> usize {
    match char {
        '"' | '\\' | '\u{8}' | '\t' | '\n' | '\u{c}' | '\r' => 2,
        '\0'..='\u{1f}' => 6,
        char => char.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::super::event::{CheckResult, Verdict};
    use super::*;

    fn check(required: bool, passed: bool, output: &str) -> CheckResult {
        let (name, message) = ("app".to_owned(), "fine".to_owned());
        CheckResult { name, required, passed, message, output: output.to_owned(), tries: 1 }
    }

    #[test]
    fn a_report_keeps_the_end_of_what_failed_checks_printed_and_the_required_ones_first() {
        let long = format!("{}the end", "\u{1b}".repeat(8000));
        let checks = vec![
            check(false, false, &long),
            check(true, true, &long),
            check(true, false, "disk"),
            check(true, false, &long),
        ];
        let mut report = HealthReport { time: Timestamp::UNIX_EPOCH, verdict: Verdict::Unhealthy, checks };
        report.cut();
        let outputs: Vec<&str> = report.checks.iter().map(|check| check.output.as_str()).collect();
        assert_eq!((outputs[1], outputs[2]), ("", "disk"));
        assert!(outputs[3].ends_with("\u{1b}the end") && outputs[3].len() < long.len());
        let bytes: usize =
            outputs.iter().map(|output| serde_json::to_string(output).unwrap().len() - 2).sum();
        assert!(bytes <= MOST_OUTPUT && bytes > MOST_OUTPUT - 6, "{bytes}");
        let again = report.clone();
        report.cut();
        assert_eq!(report, again);
    }

    proptest! {
        #[test]
        fn what_a_text_has_as_json_is_known(text: String) {
            let (length, bytes) = fitting(text.chars(), usize::MAX);
            prop_assert_eq!((length, bytes + 2), (text.len(), serde_json::to_string(&text).unwrap().len()));
        }

        #[test]
        fn a_text_is_cut_once(text in "[\0-\u{ff}]{0,2000}") {
            let mut cut = text.clone();
            cut_text(&mut cut);
            prop_assert!(serde_json::to_string(&cut).unwrap().len() <= MOST_TEXT + 2);
            prop_assert!(cut == text || cut.ends_with('…'));
            let again = cut.clone();
            cut_text(&mut cut);
            prop_assert_eq!(cut, again);
        }
    }
}
