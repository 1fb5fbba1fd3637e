//! The main job told step by step, on a real Debian in a machine and on a simulated host; every step is asserted.

mod counting;
mod debian;
mod faults;
mod guest;
mod loader;
mod machine;
mod payload;
mod publisher;
mod recorded;
mod secure;
mod simulated;
mod table;

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::time::Instant;

pub use counting::{grub_counts, uboot_counts};
pub use faults::{Ended, Table, faults};
pub use loader::Loader;
pub use machine::on_a_machine;
pub use recorded::{KEPT, LINES, RELEASES, Recording, Recovered, copy_sparse};
pub use secure::under_secure_boot;
pub use simulated::on_a_simulated_host;
pub use table::{Row, Summary};

/// Where a story works and what it uses.
#[derive(Debug, Clone)]
pub struct Place {
    /// The project's folder.
    pub project: PathBuf,
    /// Cargo's target folder.
    pub target: PathBuf,
    /// The static agent that goes onto hosts.
    pub agent: PathBuf,
    /// An empty folder for everything the story makes.
    pub work: PathBuf,
}

/// Says which step begins, with the time since the start.
#[derive(Debug, Clone, Copy)]
pub struct Teller {
    start: Instant,
}

impl Default for Teller {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Teller {
    /// One line.
    pub fn say(&self, line: &str) {
        println!("[{:4} s] {line}", self.seconds());
        let _ = stdout().flush();
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> u64 {
        self.start.elapsed().as_secs()
    }
}
