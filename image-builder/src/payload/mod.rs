//! Writes the full payload: an image as independent zstd frames.
