//! Writes an index.

use super::format::*;

impl Index {
    /// The index's bytes. Equal indices give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED + self.chunks.len() * ENTRY);
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend([0; 2]);
        out.extend((self.chunks.len() as u32).to_le_bytes());
        out.extend(self.blocks.to_le_bytes());
        out.extend(self.salt.as_bytes());
        out.extend(self.chunks.iter().map(|chunk| chunk.blocks));
        out.extend(self.chunks.iter().flat_map(|chunk| chunk.last));
        out.extend(self.chunks.iter().flat_map(|chunk| chunk.id));
        out
    }
}
