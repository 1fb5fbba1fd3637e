//! The delta that makes a UKI out of the root image that holds its kernel and initrd.

use std::fs::File;

use upright_manifests::delta::{Head, Input, Kind, Source};
use upright_manifests::digest::Digest;

use super::edit::{Edit, What, push};
use super::encode::DeltaError;
use super::segments::{self, Bytes, Images, Stretch};
use crate::payload::Parted;

/// Bytes of a UKI that stand in the root image too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Where they start in the UKI.
    pub at: u64,
    /// How many there are.
    pub length: u64,
    /// Where they start in the root image.
    pub root_offset: u64,
}

/// Writes the delta that makes `uki` out of the image `root` with `root_hash` into the empty file `out`, open for reading and
/// writing. `parts` are ascending and do not overlap; what is in none of them is brought along.
pub fn compose(
    uki: &[u8],
    root: &File,
    root_hash: Digest,
    parts: &[Part],
    level: i32,
    out: &File,
) -> Result<Parted, DeltaError> {
    let size = root.metadata().map_err(|error| DeltaError::Read { offset: 0, length: 0, error })?.len();
    let mut edits = Vec::new();
    let mut end = 0;
    for part in parts {
        let apart = part.at.checked_sub(end);
        let apart =
            apart.ok_or_else(|| DeltaError::Layout(format!("part at byte {} of the UKI", part.at)))?;
        let here = Bytes::Memory(uki).read(part.at, part.length)?;
        if here != Bytes::File(root).read(part.root_offset, part.length)? {
            return Err(DeltaError::Part { at: part.at, root_offset: part.root_offset });
        }
        push(&mut edits, Edit { what: What::Literal, length: apart });
        push(&mut edits, Edit { what: What::Copy(Source::Root, part.root_offset), length: part.length });
        end = part.at + part.length;
    }
    push(&mut edits, Edit { what: What::Literal, length: uki.len() as u64 - end });
    let stretch = Stretch { start: 0, end: uki.len() as u64, edits };
    let head = Head {
        kind: Kind::Uki,
        memory: 0,
        target_size: uki.len() as u64,
        target_id: Digest::of(uki),
        inputs: vec![Input { source: Source::Root, size, id: root_hash }],
        segments: Vec::new(),
    };
    let images = Images { base: None, root: Some(root), target: Bytes::Memory(uki) };
    segments::write(head, &[stretch], images, level, out, &|_| {})
}
