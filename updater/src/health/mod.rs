//! Health checks of a trial boot.
