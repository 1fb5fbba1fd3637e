//! `upright-build list`.

use jiff::Timestamp;

use super::publish::report;
use super::{Common, output};
use crate::repo::list::{Listing, Row, list};
use upright_manifests::bytes::human;

/// List releases, channels and how long the metadata is good
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl List {
    pub(super) fn run(&self, common: &Common) -> anyhow::Result<()> {
        let listing = list(&common.open()?)?;
        match self.json {
            true => output::json(&listing),
            false => output::print(&text(&listing, common.now())),
        }
    }
}

fn text(listing: &Listing, now: Timestamp) -> String {
    let head = ["version", "time", "image", "full", "channels", "deltas from"].map(str::to_owned).to_vec();
    let mut rows = vec![head];
    rows.extend(listing.releases.iter().map(row));
    let mut text = match listing.releases.is_empty() {
        true => {
            "nothing built or published yet; start with `upright-build build SOURCE --version VERSION`".into()
        }
        false => output::columns(&rows, &[2, 3]),
    };
    text += "\n";
    for channel in &listing.channels {
        text += &format!("\n{}", report::channel(channel));
    }
    for role in &listing.metadata {
        let left = role.expires.duration_since(now).as_hours();
        let when = match left {
            i64::MIN..=0 => "EXPIRED".to_owned(),
            1..=48 => format!("good for {left} hours"),
            _ => format!("good for {} days", left / 24),
        };
        text += &format!("\n{} version {}: {when}, until {}", role.role, role.version, role.expires);
    }
    text
}

fn row(row: &Row) -> Vec<String> {
    let edges: Vec<String> =
        row.edges.iter().map(|edge| format!("{} ({})", edge.from, human(edge.size))).collect();
    vec![
        row.version.to_string(),
        row.time.strftime("%Y-%m-%d %H:%M").to_string(),
        human(row.image),
        row.full.map_or("not published".into(), human),
        row.channels.join(" "),
        edges.join(", "),
    ]
}
