//! Which release to take, when, and when to reboot: pure decisions that carry their reasons.
//!
//! Nothing here touches a clock, a file or the network: the time and the host's identity are arguments.
//! `status`, `why`, the log and the history all print the same [`Decision`].

mod freshness;
mod reboot;
mod release;
#[cfg(test)]
mod sample;
mod wave;
mod window;

pub use freshness::{Freshness, freshness, taken_until};
pub use reboot::{RebootDecision, RebootPolicy, reboot};
pub use release::{Decision, HostFacts, Overrides, Refusal, Wait, choose, take_first};
#[cfg(test)]
pub(crate) use sample::sample;
pub use wave::{open_from, place};
pub use window::{is_open, next_opening};
