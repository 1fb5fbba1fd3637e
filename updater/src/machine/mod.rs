//! The state machine: what the agent knows, what happens, and the pure step between them.
//!
//! [`Record`] is what is kept on disk. [`step`] takes it and an [`Event`] to the next record; what has to
//! be done in a state is [`State::effect`]. The driver in `agent` persists the record first and runs the
//! effect afterwards, so that whatever instant power goes, the effect is found again in the persisted
//! state and runs (a second time, perhaps).

mod bounds;
mod event;
mod evidence;
mod history;
mod record;
mod started;
mod step;

pub use event::{Beside, CheckResult, Event, HealthReport, Observation, Verdict, WayTaken};
pub use evidence::{Doubt, Evidence, NotesPlace};
pub(crate) use history::counted;
pub use history::{Again, HistoryEntry, Outcome, Repair, Reset};
pub use record::{BadRelease, Brought, Cause, Installed, Progress, Record, State, Target};
pub use step::{Effect, StepError, step};

#[cfg(test)]
mod lives_tests;
#[cfg(test)]
mod tests;
