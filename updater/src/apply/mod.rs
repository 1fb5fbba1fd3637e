//! Writes a release into the inactive slot: delta, chunks or full, resumable, read back and compared.
