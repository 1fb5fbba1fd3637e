//! Finds the difference between two images, file by file, and writes it as a delta.
