//! Which release to take, when, and when to reboot: pure decisions with their reasons.
