//! `upright why`.

use clap::Args;
use serde::Serialize;
use upright_manifests::version::Version;

use super::exit::{Exit, Failure};
use super::{Context, health, output};
use crate::machine::{Cause, HealthReport, Outcome, Record};
use crate::state::{Layout, Request};

/// Explain why a release was refused, failed or left; without a version, the last time that happened
#[derive(Debug, Args)]
pub(super) struct Why {
    /// The release
    version: Option<Version>,
}

/// An explanation.
#[derive(Debug, Default, Serialize)]
struct Explanation {
    /// The release, if it is about one.
    version: Option<Version>,
    /// What happened and why, in one line.
    summary: String,
    /// What the health checks said.
    report: Option<HealthReport>,
    /// The last warnings in the journal of the last boot of a trial that came to no end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    journal: Vec<String>,
    /// Why the last boot could not carry out the reset that is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    reset: Option<String>,
    /// What is in force now.
    now: Option<String>,
}

impl Why {
    pub(super) fn run(&self, context: &Context) -> Result<Exit, Failure> {
        let record = context.record()?;
        let (mut explanation, boot) = explain(&record, self.version.as_ref());
        if let Some(boot) = boot {
            explanation.journal = context.host.machine().journal(boot);
        }
        let layout = Layout::around(&context.folder);
        explanation.reset = Request::pending(&layout).ok().flatten().and_then(|_| Request::refused(&layout));
        output::print(context.json, &explanation, || describe(&explanation))?;
        Ok(Exit::Done)
    }
}

/// The explanation, and the boot whose journal may say more.
fn explain<'r>(record: &'r Record, version: Option<&Version>) -> (Explanation, Option<&'r str>) {
    let about = |candidate: &Version| version.is_none_or(|version| version == candidate);
    let entry = record
        .history
        .iter()
        .rev()
        .find(|entry| about(&entry.version) && (went_wrong(&entry.outcome) || version.is_some()));
    let failure =
        record.failure.as_ref().filter(|(time, _)| entry.is_none_or(|entry| entry.latest() < *time));
    let decided = record.decided.as_ref().map(|(_, decision)| decision.to_string());
    let mut boot = None;
    let explanation = match (failure, entry) {
        (Some((time, reason)), _) if version.is_none() => Explanation {
            version: record.state.target().map(|target| target.version.clone()),
            summary: format!("the last attempt failed at {time:.0}: {reason}"),
            now: decided,
            ..Explanation::default()
        },
        (_, Some(entry)) => {
            boot = last_boot(&entry.outcome);
            Explanation {
                version: Some(entry.version.clone()),
                summary: format!("{} at {:.0}: {}", entry.version, entry.latest(), entry.outcome),
                report: report(&entry.outcome),
                now: decided,
                ..Explanation::default()
            }
        }
        (_, None) => Explanation {
            version: version.cloned(),
            summary: match (version, record.state.target()) {
                (Some(version), Some(target)) if target.version == *version => {
                    format!("nothing has gone wrong with it: {}", super::status::state(&record.state))
                }
                (Some(version), _) => format!("nothing is known about {version} on this host"),
                (None, _) => "nothing has gone wrong on this host".to_owned(),
            },
            now: decided,
            ..Explanation::default()
        },
    };
    (explanation, boot)
}

fn went_wrong(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Applied { .. } | Outcome::Proven { .. } | Outcome::SwitchedBack => false,
        Outcome::Reset { reset } => !reset.left.is_empty(),
        _ => true,
    }
}

fn last_boot(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::RolledBack { cause: Cause::TrialsUsedUp { evidence }, .. } => evidence.last_boot(),
        _ => None,
    }
}

fn report(outcome: &Outcome) -> Option<HealthReport> {
    match outcome {
        Outcome::Proven { report, .. } | Outcome::Unhealthy { report } => Some(report.clone()),
        Outcome::RolledBack { report, .. } => report.clone(),
        _ => None,
    }
}

fn describe(explanation: &Explanation) -> String {
    let report =
        explanation.report.as_ref().map(|report| format!("\nhealth checks: {}", health::describe(report)));
    let now = explanation.now.as_ref().map(|now| format!("\nnow: {now}"));
    let mut journal = String::new();
    if !explanation.journal.is_empty() {
        journal.push_str("\nthe last warnings in the journal of its last boot:");
    }
    explanation.journal.iter().for_each(|line| journal.extend(["\n  | ", line]));
    let reset = explanation.reset.as_ref();
    let reset = reset.map(|reason| format!("\nreset: the last boot could not carry it out: {reason}"));
    let [report, now, reset] = [report, now, reset].map(Option::unwrap_or_default);
    format!("{}{report}{journal}{now}{reset}", explanation.summary)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use upright_manifests::digest::Digest;

    use super::*;
    use crate::machine::{State, Target};

    /// An attempt at 1.1.0 that stopped in the middle and goes on, as the machine leaves it.
    fn interrupted() -> Record {
        let target = Target {
            version: "1.1.0".parse().unwrap(),
            root_hash: Digest::of(b"root"),
            manifest: None,
            uki: None,
        };
        let mut record = Record::default();
        let reason = "the line dropped".to_owned();
        record.remember(Timestamp::UNIX_EPOCH, &target.version, Outcome::Interrupted { reason });
        record.state = State::Fetching { target, since: Timestamp::UNIX_EPOCH };
        record
    }

    #[test]
    fn an_attempt_that_is_to_go_on_is_known() {
        let (asked, other) = ("1.1.0".parse().unwrap(), "1.2.0".parse().unwrap());
        let says = |record: &Record, version| explain(record, version).0.summary;
        let record = interrupted();
        for version in [Some(&asked), None] {
            assert!(says(&record, version).contains("interrupted: the line dropped; what came is kept"));
        }
        assert_eq!(says(&record, Some(&other)), "nothing is known about 1.2.0 on this host");
        let under_way = Record { history: Vec::new(), ..record };
        assert_eq!(says(&under_way, Some(&asked)), "nothing has gone wrong with it: about to install 1.1.0");
    }
}
