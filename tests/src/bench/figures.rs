//! `figures.json`: what a build and a full install take, the agent's size, and the machine it was measured on.

use std::fs;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::delta_row::DeltaRow;
use super::measure::Cost;

/// One command of a part, with what it took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// The command line.
    pub command: String,
    /// What it took.
    #[serde(flatten)]
    pub cost: Cost,
    /// Bytes that it fetches, or that come out of it, where that is what it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

impl Figure {
    /// A figure without bytes.
    pub(super) fn new(name: &str, command: String, cost: Cost) -> Self {
        Self { name: name.to_owned(), command, cost, bytes: None }
    }
}

/// A limit and what was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Limit {
    /// What is limited.
    pub what: String,
    /// What was measured.
    pub measured: f64,
    /// The most it may be.
    pub most: f64,
    /// What both are in.
    pub unit: Unit,
    /// Whether it holds.
    pub holds: bool,
}

/// What a limit is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Seconds of CPU time.
    CpuSeconds,
    /// Bytes.
    Bytes,
    /// A ratio.
    Ratio,
}

impl Limit {
    /// A limit.
    pub(super) fn new(what: &str, measured: f64, most: f64, unit: Unit) -> Self {
        Self { what: what.to_owned(), measured, most, unit, holds: measured <= most }
    }
}

/// A hotfix for an image of some size, by its delta.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sized {
    /// Bytes of the new image.
    pub image_bytes: u64,
    /// Seconds of CPU time that reading the new slot takes, with its hash tree.
    pub reading_cpu_s: f64,
    /// What it takes.
    #[serde(flatten)]
    pub row: DeltaRow,
}

/// The machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hardware {
    /// The processor's name.
    pub processor: String,
    /// How many of its cores there are.
    pub cores: usize,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// Everything but the deltas.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figures {
    /// What it was measured on.
    pub machine: Hardware,
    /// Bytes of the agent, static and stripped.
    pub agent_bytes: u64,
    /// Part 1: from A's tar to tree, image and verity.
    pub build: Vec<Figure>,
    /// Part 2: A into an empty slot.
    pub install: Vec<Figure>,
    /// The same hotfix on images of three sizes.
    pub sizes: Vec<Sized>,
    /// The next Debian, by the way that the agent takes and by the full payload.
    pub major: Vec<DeltaRow>,
    /// All limits, with what was measured.
    pub limits: Vec<Limit>,
}

impl Hardware {
    /// This machine.
    pub fn here() -> Result<Self> {
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let processor = field(&fs::read_to_string("/proc/cpuinfo")?, "model name");
        let memory = field(&fs::read_to_string("/proc/meminfo")?, "MemTotal");
        let kibibytes = memory.and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok());
        Ok(Self {
            processor: processor.unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism()?.get(),
            memory_bytes: kibibytes.unwrap_or_default() << 10,
        })
    }
}
