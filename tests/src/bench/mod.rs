//! `make bench`: what builds, installs and updates take, ours and those of what Debian has, on three real Debian trees.
//!
//! | file | holds |
//! |---|---|
//! | `measure`, `kept` | a command line and what it cost; results that stand as long as their inputs |
//! | `trees`, `pair` | the input, and the updates through it |
//! | `publisher`, `host` | our side: a workspace, and simulated hosts that count what they fetch |
//! | `images`, `peers`, `block_index` | their side |
//! | `builds`, `installs`, `deltas`, `growth` | the parts |
//! | `figures`, `delta_row`, `limits` | what comes out of them |
//! | `docs`, `chart` | the same for people |

mod block_index;
mod builds;
mod chart;
mod delta_row;
mod deltas;
mod docs;
mod figures;
mod growth;
mod host;
mod images;
mod installs;
mod kept;
mod limits;
mod measure;
mod pair;
mod peers;
mod publisher;
mod trees;

use std::fs;
use std::io::{Write, stderr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

pub use block_index::{apply as apply_block_index, make as make_block_index};
pub use delta_row::DeltaRow;
pub use figures::{Figure, Figures, Hardware, Limit, Sized, Unit};
pub use measure::Cost;

use delta_row::Measured;
use deltas::Deltas;
use images::Images;
use installs::Installs;
use kept::{Kept, sha256};
use measure::Shell;
use pair::Pair;
use peers::Peer;
use publisher::{Catalogue, Publisher};
use trees::{Set, Trees};

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// From a tar to tree, image and verity.
    Build,
    /// A whole image over the network into an empty slot.
    Install,
    /// From A to B and from A to C.
    Deltas,
    /// A to C for images of three sizes, and A to the next Debian.
    Growth,
}

/// What is to be measured, and where.
#[derive(Debug, Clone)]
pub struct Order {
    /// The project's folder.
    pub project: PathBuf,
    /// Where everything goes and results are kept.
    pub work: PathBuf,
    /// A folder with A.tar, B.tar and C.tar; they are made if there is none.
    pub trees: Option<PathBuf>,
    /// The static agent.
    pub agent: PathBuf,
    /// The parts.
    pub parts: Vec<Part>,
    /// The names of the peers, or `all` or `none`.
    pub peers: Vec<String>,
}

/// What was measured.
#[derive(Debug)]
pub struct Outcome {
    figures: Figures,
    deltas: Vec<Measured>,
    installed: bool,
}

/// Says on standard error what takes long.
fn say(line: &str) {
    let _ = writeln!(stderr(), "bench: {line}");
}

/// Measures, and writes `figures.json` and `deltas.json` into the order's folder, as far as its parts make them.
pub fn run(order: &Order) -> Result<Outcome> {
    let peers = Peer::chosen(&order.peers)?;
    let folder = |path: &Path| path.parent().map(Path::to_owned).context("a program without a folder");
    let programs = [folder(&order.agent)?, crate::programs::folder()?];
    let programs: Vec<&Path> = programs.iter().map(PathBuf::as_path).collect();
    let ours = Shell::new(&order.work.join("ours"), &programs)?;
    let theirs = Shell::new(&order.work.join("theirs"), &programs)?;
    let kept = Kept::new(&order.work.join("results"));
    let script = order.project.join("tests/bench/make-trees");
    let mut sets = vec![Set::Pairs, Set::Major];
    if order.parts.contains(&Part::Growth) {
        sets.push(Set::Sizes);
    }
    let trees = Trees::find(order.trees.as_deref(), &order.work.join("trees"), &script, &sets)?;
    let agent = sha256(&order.agent, None)?.to_string();
    let publisher = Publisher::open(&ours, &trees, Catalogue::MAIN)?;

    let (mut build, mut install, mut deltas, mut installed) = (Vec::new(), Vec::new(), Vec::new(), true);
    if order.parts.contains(&Part::Build) {
        let images = Images::new(&theirs, &trees, &kept);
        build = builds::measure(&publisher, (!peers.is_empty()).then_some(&images))?;
    }
    if order.parts.contains(&Part::Install) {
        let part = Installs { shell: &ours, kept: &kept, agent: &agent, publisher: &publisher };
        let (figure, verified) = part.ours()?;
        (install, installed) = (vec![figure], verified);
        if !peers.is_empty() {
            let solid = part.solid()?;
            install.extend(part.theirs(&solid)?);
            install.push(solid);
        }
    }
    let part = Deltas {
        ours: &ours,
        theirs: &theirs,
        trees: &trees,
        kept: &kept,
        agent: &agent,
        publisher: &publisher,
    };
    if order.parts.contains(&Part::Deltas) {
        // The peers' results stand whatever becomes of ours.
        for pair in Pair::COMPARED {
            let theirs = part.theirs(pair, &peers)?;
            deltas.extend(part.ours(pair)?);
            deltas.extend(theirs);
        }
    }
    let (mut sizes, mut major) = (Vec::new(), Vec::new());
    if order.parts.contains(&Part::Growth) {
        major = growth::major(&part)?;
        sizes = growth::sizes(&part)?;
    }
    let agent_bytes = fs::metadata(&order.agent)?.len();
    let machine = Hardware::here()?;
    let mut figures = Figures { machine, agent_bytes, build, install, sizes, major, limits: Vec::new() };
    figures.limits = limits::limits(&figures, &deltas, &publisher)?;
    let outcome = Outcome { figures, deltas, installed };
    outcome.write(&order.work, &order.parts)?;
    Ok(outcome)
}

impl Outcome {
    /// What came out wrong: the updates whose outcome is not what it should be.
    pub fn wrong(&self) -> Vec<String> {
        let rows = self.deltas.iter().map(|measured| &measured.row);
        let mut wrong: Vec<String> =
            rows.filter(|row| !row.verified).map(|row| format!("{} by {}", row.pair, row.method)).collect();
        let others = self.figures.sizes.iter().map(|sized| &sized.row).chain(&self.figures.major);
        let others = others.filter(|row| !row.verified);
        wrong.extend(others.map(|row| format!("{} by {}", row.pair, row.method)));
        if !self.installed {
            wrong.push("the full install of A".to_owned());
        }
        wrong
    }

    /// All tables, in Markdown.
    pub fn tables(&self) -> String {
        docs::tables(&self.figures, &self.deltas)
    }

    /// Writes the page and the charts for people.
    pub fn write_docs(&self, folder: &Path) -> Result<()> {
        docs::write(folder, &self.figures, &self.deltas)
    }

    fn write(&self, work: &Path, parts: &[Part]) -> Result<()> {
        if parts.contains(&Part::Deltas) {
            let rows: Vec<&DeltaRow> = self.deltas.iter().map(|measured| &measured.row).collect();
            write_json(&work.join("deltas.json"), &rows)?;
        }
        write_json(&work.join("figures.json"), &self.figures)
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
