//! Sequences of events that a host goes through, and random ones that it must survive.
