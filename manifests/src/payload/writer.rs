//! Writes heads.

use super::format::*;

impl Head {
    /// The head's bytes: what stands in front of the frames.
    pub fn to_bytes(&self) -> Vec<u8> {
        let size = head_bytes(self.frames.len());
        let mut out = Vec::with_capacity(size);
        out.extend(SKIPPABLE.to_le_bytes());
        out.extend((size as u32 - 8).to_le_bytes());
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend([0; 2]);
        out.extend((self.frames.len() as u32).to_le_bytes());
        out.extend(self.blocks.to_le_bytes());
        for frame in &self.frames {
            out.extend(frame.packed.to_le_bytes());
            out.extend(frame.blocks.to_le_bytes());
            out.extend(frame.prefix.far.to_le_bytes());
            out.extend(frame.prefix.far_start.to_le_bytes());
            out.extend(frame.prefix.near.to_le_bytes());
            out.extend(frame.sha256.as_bytes());
        }
        out
    }
}
