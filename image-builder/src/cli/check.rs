//! `upright-build check`.

use std::path::PathBuf;

use jiff::Timestamp;

use super::{AT_ITS_WORD, Common, output};
use crate::repo::check::{Report, Source, check, check_whole};
use crate::repo::error::Error;
use upright_manifests::bytes::human;

/// Audit a repository as a host would see it
///
/// Of an export, or a mirror of some channels, what it is to have must be there; what it leaves out is told. The workspace's own
/// repository has to be whole.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// A repository's folder or address, or what `export` wrote to a file [default: that of the workspace]
    repository: Option<String>,
    /// The root.json that hosts ship with [default: the workspace's, or else the repository's own first one]
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Take a copy that holds a part of its repository for damaged, too
    #[arg(long)]
    whole: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Check {
    pub(super) fn run(&self, common: &Common) -> anyhow::Result<()> {
        let (place, source) = match &self.repository {
            Some(place) => (place.clone(), Source::new(place)?),
            None => {
                let folder = common.open()?.repository();
                (folder.display().to_string(), Source::folder(folder)?)
            }
        };
        let (root, unproven) = common.trusted_root(self.root.as_deref(), &source)?;
        // A publisher has all that was published, whatever lies in the folder.
        let audit = if self.whole || self.repository.is_none() { check_whole } else { check };
        let mut report = audit(&source, root, common.now(), &common.bars())?;
        if unproven {
            report.warnings.push(AT_ITS_WORD.into());
        }
        match self.json {
            true => output::json(&report)?,
            false => output::print(&text(&place, &report, common.now()))?,
        }
        match report.errors.len() {
            0 => Ok(()),
            1 => Err(Error::Unverified(format!("{place} has an error")).into()),
            count => Err(Error::Unverified(format!("{place} has {count} errors")).into()),
        }
    }
}

fn text(place: &str, report: &Report, now: Timestamp) -> String {
    let mut lines: Vec<String> = report.errors.iter().map(|error| format!("error: {error}")).collect();
    lines.extend(report.warnings.iter().map(|warning| format!("warning: {warning}")));
    for role in &report.metadata {
        let until = if role.expires <= now { "expired on" } else { "is good until" };
        lines.push(format!("{} version {} {until} {}", role.role, role.version, role.expires));
    }
    let releases = match &report.part {
        Some(part) => {
            lines.push(format!("{place} is to have {part}, a part of its repository"));
            format!("{} of {}", report.releases, report.listed)
        }
        None => report.releases.to_string(),
    };
    let verdict = if report.errors.is_empty() { "all" } else { "the rest" };
    lines.push(format!(
        "{place}: channels {}, releases {releases}, objects {} of {}, {verdict} as signed",
        report.channels,
        report.objects,
        human(report.bytes)
    ));
    lines.join("\n")
}
