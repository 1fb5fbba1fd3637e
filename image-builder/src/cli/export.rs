//! `upright-build export`.

use std::path::{Path, PathBuf};

use upright_manifests::name::ChannelName;
use upright_manifests::version::Version;

use super::{AT_ITS_WORD, Common, mirror, output};
use crate::repo::check::Source;
use crate::repo::copy::{Copied, Copy, Form, Pick, into_file, into_folder};
use crate::repo::files::OnDisk;

/// Write releases and what verifies them to a file or a folder, for hosts that no network reaches
///
/// Hosts take it with `upright update --from PATH`, by the rules that they have for a server; what expires when is told. The same
/// content makes the same file.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["channels", "versions"]))]
pub(super) struct Export {
    /// Releases to take along
    versions: Vec<Version>,
    /// Take along what this channel points at, and what its hosts must pass through; may be given several times
    #[arg(long = "channel", value_name = "NAME")]
    channels: Vec<ChannelName>,
    /// A file to write, or a folder, such as that of a mounted medium: one that is there, or is made, if the path ends in /
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    /// Take along only deltas from this version, which hosts run; may be given several times
    #[arg(long = "from-version", value_name = "VERSION", conflicts_with = "no_deltas")]
    from: Vec<Version>,
    /// Take along no deltas
    #[arg(long)]
    no_deltas: bool,
    /// The repository's folder or address [default: that of the workspace]
    #[arg(long, value_name = "REPOSITORY")]
    repository: Option<String>,
    /// The root.json that hosts ship with [default: the workspace's, or else the repository's own first one]
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Write it although hosts refuse it, as it has expired, unless `offline-expiry` in their configuration says otherwise
    #[arg(long)]
    allow_expired: bool,
    /// In a folder: remove what neither this export nor the one before it refers to
    #[arg(long)]
    prune: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Export {
    pub(super) fn run(&self, common: &Common) -> anyhow::Result<()> {
        let source = match &self.repository {
            Some(place) => Source::new(place)?,
            None => Source::folder(common.open()?.repository())?,
        };
        let bars = common.bars();
        let (root, unproven) = common.trusted_root(self.root.as_deref(), &source)?;
        if unproven {
            output::note(&format!("note: {AT_ITS_WORD}"));
        }
        let pick = Pick {
            channels: self.channels.clone(),
            versions: self.versions.clone(),
            from: self.from.clone(),
            without_deltas: self.no_deltas,
        };
        let copy = Copy {
            source: &source,
            root: Some(root),
            pick: &pick,
            allow_expired: self.allow_expired,
            prune: self.prune,
            now: common.now(),
            files: &OnDisk,
            progress: &bars,
        };
        let copied = match form_of(&self.output) {
            Form::Folder => into_folder(&copy, &self.output)?,
            Form::File => into_file(&copy, &self.output)?,
        };
        drop(bars);
        self.report(&copied, common)?;
        Ok(copied.require_all(&source.place())?)
    }

    fn report(&self, copied: &Copied, common: &Common) -> anyhow::Result<()> {
        if self.json {
            return output::json(copied);
        }
        mirror::tell_notes(copied, common);
        output::print(&format!("{}\n{}", mirror::text(copied), form_text(copied)))
    }
}

/// What a path means: a folder if one is there, or if it can be nothing else.
fn form_of(path: &Path) -> Form {
    let text = path.as_os_str().as_encoded_bytes();
    match path.is_dir() || text.ends_with(b"/") || text.ends_with(b"/.") {
        true => Form::Folder,
        false => Form::File,
    }
}

/// Says what was written: who meant a folder and named one that is not there finds out.
fn form_text(Copied { path, form, .. }: &Copied) -> String {
    let path = path.display();
    match form {
        Form::File => format!(
            "{path} is a single file; a path that ends in /, or that is there as a folder, makes a folder"
        ),
        Form::Folder => format!("{path} is a folder"),
    }
}
