//! The chunk index: which runs of blocks an image is made of, for hosts that hold some of them.
//!
//! `payloads/<sha256>.chunks`. Every slot carries a dm-verity tree whose lowest level is a SHA-256 of each block, and
//! the salt is the same for all releases of an OS: that level is a free index of what a host holds, so nothing
//! is hashed to find out. The publisher cuts the new image where its files and frames begin, and lists for each
//! chunk the hash of its last block, shortened, to find candidates by, and a hash over the hashes of all its blocks, to
//! decide. A host reads the hashes of its slots once, in order, and keeps no table of them.
//!
//! Nothing here is proof: the hashes in a slot may be stale. What was written is read back and compared with
//! the signed root hash in the end.

mod format;
mod plan;
mod reader;
mod search;
mod writer;

pub use format::{Chunk, Index, Leaf, MAX_CHUNK_BLOCKS, id_of};
pub use plan::{PlanError, Step, fetched, plan};
pub use reader::IndexError;
pub use search::{Found, Holding, Scan, Search};

#[cfg(test)]
mod tests;
