//! Harness for tests that need both sides: root file systems, virtual machines, servers, simulated hosts.

pub mod bench;
pub mod custody;
pub mod fixture;
pub mod forger;
pub mod namespace;
pub mod power_cut;
pub mod programs;
pub mod refusal;
pub mod rootfs;
pub mod server;
pub mod simulated;
pub mod story;
pub mod vm;
