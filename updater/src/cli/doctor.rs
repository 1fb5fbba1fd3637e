//! `upright doctor`.

use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::exit::{Exit, Failure};
use super::{Context, output};
use crate::doctor::{Facts, Finding, Level, examine, gather};

/// See whether this host has what updates need, and say how to mend what is missing
///
/// Looks at the configuration, what runs, partitions, boot loader, room on the ESP and for state, watchdog, clock and trusted metadata.
/// Nothing is changed. Exits with 6 if something is wrong; what is merely weaker than it could be is no failure.
#[derive(Debug, Args)]
pub(super) struct Doctor {}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    healthy: bool,
    findings: Vec<Finding>,
}

impl Doctor {
    /// Works on a host that cannot be worked on as well: that is what it is for.
    pub(super) fn run(
        &self,
        root: Option<&Path>,
        config: Option<&Path>,
        json: bool,
    ) -> Result<Exit, Failure> {
        let path = Context::configuration(root, config);
        let facts = match Context::new(root, config, json) {
            Ok(context) => {
                let hardware = root.is_none().then_some(Path::new("/sys"));
                let host = gather(context.host.as_ref(), &context.config, &context.folder, hardware);
                Facts { configuration: Ok(path.display().to_string()), host: Ok(host) }
            }
            Err(failure) => match crate::config::Config::load(&path) {
                Ok(_) => Facts::without_host(Ok(path.display().to_string()), failure.line().to_owned()),
                Err(error) => {
                    Facts::without_host(Err(error.to_string()), "it needs the configuration".to_owned())
                }
            },
        };
        let findings = examine(&facts);
        let wrong = findings.iter().filter(|finding| finding.level == Level::Wrong).count();
        let report = Report { healthy: wrong == 0, findings };
        output::print(json, &report, || report.findings.iter().map(describe).collect())?;
        match wrong {
            0 => Ok(Exit::Done),
            // The findings say it in JSON already.
            _ if json => Ok(Exit::Host),
            1 => Err(Failure::new(
                Exit::Host,
                "one thing is wrong with this host, and has to be mended for updates and the way back",
            )),
            _ => {
                let line = format!(
                    "{wrong} things are wrong with this host, and have to be mended for updates and the way back"
                );
                Err(Failure::new(Exit::Host, line))
            }
        }
    }
}

fn describe(finding: &Finding) -> String {
    let mark = match finding.level {
        Level::Fine => "ok   ",
        Level::Weak => "weak ",
        Level::Wrong => "WRONG",
    };
    let mend = finding.mend.as_ref().map(|mend| format!("       mend: {mend}\n")).unwrap_or_default();
    format!("{mark}  {}: {}\n{mend}", finding.subject, finding.says)
}
