//! An edit: one step of making new bytes out of old ones.

use std::ops::Range;
use std::sync::Arc;

use upright_manifests::delta::{Numbers, Rebuild, Source};

/// Where the next `length` bytes of the target come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) what: What,
    pub(super) length: u64,
}

/// What makes the bytes of an [`Edit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// The delta brings them along.
    Literal,
    /// Zeros.
    Zero,
    /// Equal to the source at this offset.
    Copy(Source, u64),
    /// Similar to the source at this offset; the delta brings the difference.
    Add(Source, u64, Numbers),
    /// Compressed out of what other edits make. It is never split.
    Rebuild(Arc<Rebuilt>),
}

/// How compressed bytes are made again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rebuilt {
    pub(super) rebuild: Rebuild,
    /// How its content is made.
    pub(super) edits: Vec<Edit>,
    /// What the delta brings along for it, in the order of the edits.
    pub(super) literal: Vec<u8>,
    /// How the content differs from what it is similar to, in the order of the edits.
    pub(super) difference: Vec<u8>,
    /// How many bytes shorter that is than what it makes, about.
    pub(super) saves: u64,
}

impl Edit {
    pub(super) fn new(what: What, length: usize) -> Self {
        Self { what, length: length as u64 }
    }

    /// The edit without its first `length` bytes.
    pub(super) fn after(&self, length: u64) -> Self {
        let what = match &self.what {
            What::Copy(source, offset) => What::Copy(*source, offset + length),
            What::Add(source, offset, numbers) => What::Add(*source, offset + length, *numbers),
            other => other.clone(),
        };
        Self { what, length: self.length - length }
    }

    /// Whether it reads any of these bytes of the target itself.
    pub(super) fn takes(&self, range: &Range<u64>) -> bool {
        match &self.what {
            What::Copy(Source::Root, at) | What::Add(Source::Root, at, _) => {
                *at < range.end && at + self.length > range.start
            }
            What::Rebuild(rebuilt) => rebuilt.edits.iter().any(|edit| edit.takes(range)),
            _ => false,
        }
    }

    fn goes_on_with(&self, next: &Self) -> bool {
        match (&self.what, &next.what) {
            (What::Literal, What::Literal) | (What::Zero, What::Zero) => true,
            (What::Copy(a, at), What::Copy(b, next)) => a == b && at + self.length == *next,
            (What::Add(a, at, as_a), What::Add(b, next, as_b)) => {
                (a, as_a) == (b, as_b) && at + self.length == *next
            }
            _ => false,
        }
    }
}

/// The part of `edits`, none of which is a rebuild, that makes the bytes in `range`.
pub(super) fn slice(edits: &[Edit], range: Range<u64>) -> Vec<Edit> {
    let mut part = Vec::new();
    let mut start = 0;
    for edit in edits {
        let end = start + edit.length;
        if end > range.start && start < range.end {
            let mut edit = edit.after(range.start.saturating_sub(start));
            edit.length -= end.saturating_sub(range.end);
            part.push(edit);
        }
        start = end;
    }
    part
}

/// Appends an edit, as part of the last one where it continues it.
pub(super) fn push(edits: &mut Vec<Edit>, edit: Edit) {
    if edit.length == 0 {
        return;
    }
    match edits.last_mut() {
        Some(last) if last.goes_on_with(&edit) => last.length += edit.length,
        _ => edits.push(edit),
    }
}
