//! The full payload: an image as independent zstd frames behind a frame table.
