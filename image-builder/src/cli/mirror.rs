//! `upright-build mirror`.

use std::path::PathBuf;
use std::time::Duration;

use upright_manifests::bytes::human;
use upright_manifests::name::ChannelName;

use super::{Common, output, read_root};
use crate::repo::check::Source;
use crate::repo::copy::{Copied, Copy, Pick, into_folder};
use crate::repo::files::OnDisk;

/// Bring a repository over into a folder that can be served, or bring that up to date
///
/// Everything is verified as a host would, and nothing that is not signed is kept. What was cut off goes on where it stopped. Hosts may
/// read the folder meanwhile: they find the last state, or the new one.
#[derive(Debug, clap::Args)]
pub(super) struct Mirror {
    /// The repository's address, its folder, or what `export` wrote
    repository: String,
    /// The folder of the copy
    folder: PathBuf,
    /// Copy only what this channel's hosts need; may be given several times
    #[arg(long = "channel", value_name = "NAME")]
    channels: Vec<ChannelName>,
    /// The root.json to trust, which the publisher has given you; needed the first time
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Remove what neither this state nor the one before it refers to
    #[arg(long)]
    prune: bool,
    /// For how many seconds the server may say nothing
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    stall: u64,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Mirror {
    pub(super) fn run(&self, common: &Common) -> anyhow::Result<()> {
        let source = Source::patient(&self.repository, Duration::from_secs(self.stall))?;
        let root = self.root.as_deref().map(read_root).transpose()?;
        let pick = Pick { channels: self.channels.clone(), ..Pick::default() };
        let bars = common.bars();
        let copy = Copy {
            source: &source,
            root,
            pick: &pick,
            allow_expired: false,
            prune: self.prune,
            now: common.now(),
            files: &OnDisk,
            progress: &bars,
        };
        let copied = into_folder(&copy, &self.folder)?;
        drop(bars);
        report(&copied, self.json, common)?;
        Ok(copied.require_all(&source.place())?)
    }
}

/// Tells what a copy holds.
fn report(copied: &Copied, json: bool, common: &Common) -> anyhow::Result<()> {
    if json {
        return output::json(copied);
    }
    tell_notes(copied, common);
    output::print(&text(copied))
}

/// Tells what is worth knowing of a copy.
pub(super) fn tell_notes(copied: &Copied, common: &Common) {
    for note in copied.notes.iter().filter(|_| !common.quiet) {
        output::note(&format!("note: {note}"));
    }
}

/// What a copy holds, in words.
pub(super) fn text(copied: &Copied) -> String {
    let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let part = copied
        .part
        .as_ref()
        .map_or(String::new(), |part| format!("\nit is to have {part}; `upright-build check` goes by that"));
    let pruned = if copied.pruned > 0 { format!(", {} files removed", copied.pruned) } else { String::new() };
    let first = copied.metadata.iter().min_by_key(|role| role.expires).map_or("", |role| role.role.as_str());
    format!(
        "{}: channels {}, releases {}, objects {} of {}, {} of them copied now{pruned}\ngood until {:.0} ({first}){part}",
        copied.path.display(),
        list(&copied.channels),
        list(&copied.releases),
        copied.objects,
        human(copied.bytes),
        human(copied.copied),
        copied.good_until,
    )
}
