//! What becomes of a host's state when the other slot boots: which local changes hide which changed defaults, what follows, what is
//! copied. Nothing is changed by looking.
//!
//! | file | holds |
//! |---|---|
//! | `compare` | what follows from two images and what was changed here (pure) |
//! | `gather` | reading them |

mod compare;
mod gather;

pub use compare::{Because, Fact, Files, Found, Local, compare};
pub use gather::{Difference, Follows, Plan, PlanError, plan};
