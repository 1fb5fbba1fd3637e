//! `upright health`.

use clap::Args;

use super::exit::{Exit, Failure};
use super::{Context, output};
use crate::agent::{TrialOutcome, run_trial};
use crate::machine::{HealthReport, Verdict};

/// Run the health checks of a release on trial, and keep or leave it; started at each boot by systemd
#[derive(Debug, Args)]
pub(super) struct Health {}

impl Health {
    pub(super) fn run(&self, context: &Context) -> Result<Exit, Failure> {
        match run_trial(context.host.as_ref(), &context.config, &context.folder)? {
            TrialOutcome::NoTrial => {
                output::print(context.json, &serde_json::json!({ "trial": false }), || {
                    "no release is on trial".to_owned()
                })?;
                Ok(Exit::Done)
            }
            TrialOutcome::Ended(report) => {
                output::print(context.json, &report, || describe(&report))?;
                Ok(if report.verdict == Verdict::Healthy { Exit::Done } else { Exit::Failed })
            }
        }
    }
}

/// The verdict and a line a check.
pub(super) fn describe(report: &HealthReport) -> String {
    let verdict = match report.verdict {
        Verdict::Healthy => "healthy",
        Verdict::Unhealthy => "not healthy",
    };
    let line = |check: &crate::machine::CheckResult| {
        let mark = match (check.passed, check.required) {
            (true, _) => "pass",
            (false, true) => "FAIL",
            (false, false) => "warn",
        };
        let output: String = match check.passed {
            true => String::new(),
            false => check.output.lines().map(|line| format!("\n        | {line}")).collect(),
        };
        format!("\n  {mark}  {}: {}{output}", check.name, check.message)
    };
    format!("{verdict}{}", report.checks.iter().map(line).collect::<String>())
}
