//! A simulated host that updates itself from a server that counts, by the way it is told to.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use upright_image_builder::repo::build::Build;
use upright_manifests::digest::Digest;

use super::kept::sha256;
use super::measure::{Cost, Shell};
use super::pair::Tree;
use super::publisher::{OS, Publisher};
use crate::server::Server;
use crate::simulated::{Sizes, install};

/// The command line that is measured.
pub(super) const UPDATE: &str = "upright --root host update";

/// What reads the new slot alone.
pub(super) const READ: &str = "upright --root host verify b";

/// The slot's partitions, which take what [`super::publisher`] publishes.
const SIZES: Sizes = Sizes { root: 6 << 30, verity: 64 << 20 };

/// An update to be made.
pub(super) struct Journey {
    /// What the host runs, in slot a.
    pub(super) runs: Tree,
    /// What slot b holds before; nothing if none.
    pub(super) holds: Option<Tree>,
    /// What it is to run.
    pub(super) takes: Tree,
    /// The channel that offers it.
    pub(super) channel: &'static str,
    /// The way it must come by.
    pub(super) way: Way,
}

/// A way to a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The delta from what runs.
    Delta,
    /// The chunks that are not there.
    Chunks,
    /// The full payload.
    Full,
    /// Whichever the agent takes.
    Cheapest,
}

impl Way {
    /// Each by itself.
    pub(super) const EACH: [Self; 3] = [Self::Delta, Self::Chunks, Self::Full];

    /// Its name in the agent's words.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Delta => "delta",
            Self::Chunks => "chunks",
            Self::Full => "full",
            Self::Cheapest => "cheapest",
        }
    }

    /// The configuration that leaves only this way, or this and those that come after it.
    pub(super) fn configuration(self) -> &'static str {
        match self {
            Self::Delta | Self::Cheapest => "",
            Self::Chunks => "[limits]\nwithout = [\"delta\"]\n",
            Self::Full => "[limits]\nwithout = [\"delta\", \"chunks\"]\n",
        }
    }
}

/// What an update came to.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Arrival {
    /// Every byte of every answer that the server sent: metadata, manifest, index, image, UKI.
    pub(super) fetched: u64,
    /// What the agent took from the machine, as a whole process.
    pub(super) cost: Cost,
    /// Seconds of CPU time for reading the new slot alone, with its hash tree, which is part of every update.
    pub(super) reading_cpu_s: f64,
    /// Whether the slot and the ESP hold what was published, by SHA-256.
    pub(super) verified: bool,
}

/// How often an update is made, each time on a new host: what the kernel does for other programs counts for whichever runs.
const TIMES: usize = 3;

/// Installs new hosts and lets each update itself; tells of the one that took neither least nor most CPU time.
pub(super) fn travel(shell: &Shell, publisher: &Publisher<'_>, journey: &Journey) -> Result<Arrival> {
    let arrivals = (0..TIMES).map(|_| travel_once(shell, publisher, journey));
    let mut arrivals = arrivals.collect::<Result<Vec<_>>>()?;
    arrivals.sort_by(|one, other| one.cost.cpu_s.total_cmp(&other.cost.cpu_s));
    let verified = arrivals.iter().all(|arrival| arrival.verified);
    let middle = arrivals.swap_remove(TIMES / 2);
    Ok(Arrival { verified, ..middle })
}

fn travel_once(shell: &Shell, publisher: &Publisher<'_>, journey: &Journey) -> Result<Arrival> {
    let server = Server::start(&publisher.repository())?;
    let target = publisher.record(journey.takes)?;
    let host = Installed { folder: shell.at("host") };
    host.install(shell, publisher, journey, &server.url())?;
    let line = update_line(journey);
    super::say(&format!("{line} ({} to {} by {})", journey.runs, journey.takes, journey.way.name()));
    let cost = shell.measure(&line)?;
    let fetched = server.sent("");
    host.require_way(shell, journey)?;
    let verified = host.holds(&target)?;
    let reading_cpu_s = shell.measure(READ)?.cpu_s;
    fs::remove_dir_all(&host.folder).with_context(|| format!("removing {}", host.folder.display()))?;
    Ok(Arrival { fetched, cost, reading_cpu_s, verified })
}

/// The command line of a journey.
pub(super) fn update_line(journey: &Journey) -> String {
    let is_older = journey.takes.version() < journey.runs.version();
    format!("{UPDATE}{}", if is_older { " --allow-downgrade" } else { "" })
}

struct Installed {
    folder: PathBuf,
}

impl Installed {
    fn install(&self, shell: &Shell, publisher: &Publisher<'_>, journey: &Journey, url: &str) -> Result<()> {
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)?;
        }
        let configuration = format!(
            "[repository]\nurl = \"{url}\"\n\n[update]\nchannel = \"{}\"\n\n{}",
            journey.channel,
            journey.way.configuration()
        );
        install(&self.folder, &publisher.workspace(), journey.runs.version(), &configuration, SIZES)?;
        if let Some(tree) = journey.holds {
            ensure!(tree == journey.runs, "slot b can only hold what slot a does");
            for part in ["root", "root-verity"] {
                let (from, to) = (part.replace("root", "root-a"), part.replace("root", "root-b"));
                shell.run(&format!("cp --sparse=always host/dev/{from} host/dev/{to}"))?;
            }
        }
        // The first command boots the host, and a boot reads the whole image: that is no part of an update.
        shell.run("upright --root host status")?;
        // What was written here must not be written out while the agent is measured.
        rustix::fs::sync();
        Ok(())
    }

    /// An update that changed its way in the middle says nothing about the way it began with.
    fn require_way(&self, shell: &Shell, journey: &Journey) -> Result<()> {
        let history = shell.run("upright --root host --json history")?;
        let history: Value = serde_json::from_str(&history).context("the history is not JSON")?;
        let entries = history.as_array().context("the history is no list")?;
        let applied = entries.iter().rfind(|entry| entry["outcome"]["event"] == "applied");
        let way = applied.and_then(|entry| entry["outcome"]["way"]["way"].as_str());
        let is_it = journey.way == Way::Cheapest || way == Some(journey.way.name());
        ensure!(is_it, "the update came by {way:?}, not by {}", journey.way.name());
        Ok(())
    }

    /// Whether slot b holds the image of `target`, and the ESP its UKI.
    fn holds(&self, target: &Build) -> Result<bool> {
        let image = sha256(&self.at("dev/root-b"), Some(target.root.size))?;
        Ok(image == target.root.sha256 && self.uki(target)? == Some(target.uki.sha256))
    }

    fn uki(&self, target: &Build) -> Result<Option<Digest>> {
        let entries = self.at("esp/EFI/Linux");
        let prefix = format!("{OS}_{}", target.version);
        let is_it = |path: &Path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            name.strip_prefix(&prefix).is_some_and(|rest| rest.starts_with(['+', '.']))
        };
        for entry in fs::read_dir(&entries).with_context(|| format!("listing {}", entries.display()))? {
            let path = entry?.path();
            if is_it(&path) {
                return sha256(&path, None).map(Some);
            }
        }
        Ok(None)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
