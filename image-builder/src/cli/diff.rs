//! `upright-build diff`.

use upright_manifests::version::Version;

use super::{Common, output};
use crate::repo::diff::{Change, Diff as Changes, diff};
use upright_manifests::bytes::human;

/// List the files that differ between two builds
#[derive(Debug, clap::Args)]
pub(super) struct Diff {
    /// The version before
    from: Version,
    /// The version after
    to: Version,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Diff {
    pub(super) fn run(&self, common: &Common) -> anyhow::Result<()> {
        let changes = diff(&common.open()?, &self.from, &self.to)?;
        match self.json {
            true => output::json(&changes),
            false => output::print(&text(&changes)),
        }
    }
}

/// A line a path, marked `A`, `M` or `D` as version control does, and the totals.
fn text(diff: &Changes) -> String {
    let size = |change: &Change| match (change.before, change.after) {
        (before, after) if before == after && change.attributes_only => "attributes".to_owned(),
        (0, after) => human(after),
        (before, 0) => human(before),
        (before, after) => format!("{} to {}", human(before), human(after)),
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (mark, changes) in [("A", &diff.added), ("M", &diff.changed), ("D", &diff.removed)] {
        rows.extend(changes.iter().map(|change| vec![mark.to_owned(), size(change), change.path.clone()]));
    }
    rows.sort_by(|a, b| a[2].cmp(&b[2]));
    let total = |changes: &[Change], bytes: fn(&Change) -> u64| human(changes.iter().map(bytes).sum());
    let mut text = output::columns(&rows, &[1]);
    text += &format!(
        "{}{} added ({}), {} changed ({} to {}), {} removed ({})",
        if rows.is_empty() { "" } else { "\n" },
        diff.added.len(),
        total(&diff.added, |change| change.after),
        diff.changed.len(),
        total(&diff.changed, |change| change.before),
        total(&diff.changed, |change| change.after),
        diff.removed.len(),
        total(&diff.removed, |change| change.before)
    );
    text
}
