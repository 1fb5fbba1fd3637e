//! The state machine: states, events, and the pure step between them.
