//! The agent on each host: policy, state machine, fetch, apply, slots, boot back ends and health.

pub mod agent;
mod alive;
pub mod apply;
pub mod boot;
pub mod cli;
pub mod config;
pub mod doctor;
mod efivars;
pub mod fetch;
pub mod flow;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod health;
pub mod host;
pub mod machine;
pub mod memory;
pub mod plan;
pub mod policy;
mod program;
mod room;
pub mod slot;
pub mod state;
pub mod store;
