//! The chunk index: which runs of blocks an image is made of.
