//! Writes the chunk index of an image.
