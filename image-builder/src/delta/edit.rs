//! An edit: one step of making new bytes out of old ones.

use upright_manifests::delta::Source;

/// Where the next `length` bytes of the target come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) what: What,
    pub(super) length: u64,
}

/// What makes the bytes of an [`Edit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// The delta brings them along.
    Literal,
    /// Zeros.
    Zero,
    /// Equal to the source at this offset.
    Copy(Source, u64),
    /// Similar to the source at this offset; the delta brings the difference.
    Add(Source, u64),
}

impl Edit {
    pub(super) fn new(what: What, length: usize) -> Self {
        Self { what, length: length as u64 }
    }

    /// The edit without its first `length` bytes.
    pub(super) fn after(self, length: u64) -> Self {
        let what = match self.what {
            What::Copy(source, offset) => What::Copy(source, offset + length),
            What::Add(source, offset) => What::Add(source, offset + length),
            other => other,
        };
        Self { what, length: self.length - length }
    }
}

/// Appends an edit, as part of the last one where it continues it.
pub(super) fn push(edits: &mut Vec<Edit>, edit: Edit) {
    if edit.length == 0 {
        return;
    }
    match edits.last_mut() {
        Some(last) if last.after(last.length).what == edit.what => last.length += edit.length,
        _ => edits.push(edit),
    }
}
