//! The driver: persists the record, then runs the effect; everything here may happen twice.
