//! Archives of every kind, whole and broken.
