//! Cuts edits into segments, packs them on all cores and writes the delta.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::fs::FileExt;

use upright_manifests::delta::{
    Head, MAX_MEMORY, MAX_SEGMENT_PACKED, Numbers, PackError, Segment, SegmentWriter, Source, head_bytes,
};
use upright_manifests::digest::Digest;

use super::edit::{Edit, Rebuilt, What};
use super::encode::DeltaError;
use super::file::QUICK;
use crate::parallel;
use crate::payload::{PartWriter, Parted};

/// Bytes of the target that a segment makes at most: an update resumes where a segment starts.
const MOST_TARGET: u64 = 128 << 20;
/// Literal bytes in a segment at most.
const MOST_LITERAL: u64 = 12 << 20;
/// Added bytes in a segment at most.
const MOST_ADDED: u64 = 48 << 20;

/// Bytes that a segment with a heavy rebuild brings along beside it, at most.
const FEW: u64 = 64 << 10;
/// Memory in bytes that a rebuild may take beside others and much else.
const HEAVY: u64 = 8 << 20;

/// Where bytes are read from.
#[derive(Clone, Copy)]
pub(super) enum Bytes<'a> {
    File(&'a File),
    Memory(&'a [u8]),
}

impl Bytes<'_> {
    /// Reads `length` bytes at `offset`.
    pub(super) fn read(self, offset: u64, length: u64) -> Result<Vec<u8>, DeltaError> {
        let failed = |error| DeltaError::Read { offset, length, error };
        match self {
            Self::File(file) => {
                let mut bytes = vec![0; length as usize];
                file.read_exact_at(&mut bytes, offset).map_err(failed)?;
                Ok(bytes)
            }
            Self::Memory(memory) => {
                let bytes = memory.get(offset as usize..).and_then(|rest| rest.get(..length as usize));
                Ok(bytes.ok_or_else(|| failed(io::ErrorKind::UnexpectedEof.into()))?.to_vec())
            }
        }
    }
}

/// The images a delta is about.
#[derive(Clone, Copy)]
pub(super) struct Images<'a> {
    pub(super) base: Option<&'a File>,
    pub(super) root: Option<&'a File>,
    pub(super) target: Bytes<'a>,
}

impl Images<'_> {
    fn source(&self, source: Source, offset: u64, length: u64) -> Result<Vec<u8>, DeltaError> {
        let image = match source {
            Source::Base => self.base,
            Source::Root => self.root,
            Source::Plain => None,
        };
        let missing = || DeltaError::Read { offset, length, error: io::ErrorKind::NotFound.into() };
        Bytes::File(image.ok_or_else(missing)?).read(offset, length)
    }
}

/// Bytes of the target that are next to each other, and how they are made.
pub(super) struct Stretch {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) edits: Vec<Edit>,
}

/// A segment to be packed.
#[derive(Debug, Clone)]
struct Plan {
    start: u64,
    edits: Vec<Edit>,
}

/// A packed segment.
struct Packed {
    /// Where it starts in the target.
    start: u64,
    /// How many bytes of it it makes.
    length: u64,
    bytes: Vec<u8>,
    /// What applying it takes.
    memory: u64,
}

/// Writes the delta of `edits` into the empty file `out`; `head` lacks its segments and the memory they take. `done` hears
/// how many bytes of the target are packed.
pub(super) fn write(
    mut head: Head,
    stretches: &[Stretch],
    images: Images<'_>,
    level: i32,
    out: &File,
    done: &dyn Fn(u64),
) -> Result<Parted, DeltaError> {
    let plans: Vec<Plan> = stretches.iter().flat_map(plan).collect();
    // How many segments there are, and so how long the head is, is known when all are packed.
    let mut spool = tempfile::tempfile().map_err(DeltaError::Write)?;
    let (mut made, mut most) = (0, 0);
    parallel::ordered(
        plans.len(),
        |number| pack(&plans[number], images, level),
        |packed| {
            for Packed { start, length, bytes, memory } in packed {
                most = most.max(memory + bytes.len() as u64);
                head.segments.push(Segment {
                    offset: 0,
                    packed: bytes.len() as u32,
                    start,
                    length: length as u32,
                    sha256: Digest::of(&bytes),
                });
                spool.write_all(&bytes).map_err(DeltaError::Write)?;
                made += length;
            }
            done(made);
            Ok(())
        },
    )?;
    head.memory = u32::try_from(most).unwrap_or(u32::MAX);
    if head.memory > MAX_MEMORY {
        return Err(PackError::Memory(most).into());
    }
    assemble(&head, &mut spool, out).map_err(DeltaError::Write)
}

fn assemble(head: &Head, spool: &mut File, out: &File) -> io::Result<Parted> {
    let mut writer = PartWriter::new(out, head_bytes(head.inputs.len(), head.segments.len()))?;
    spool.rewind()?;
    for segment in &head.segments {
        let mut bytes = vec![0; segment.packed as usize];
        io::Read::read_exact(spool, &mut bytes)?;
        writer.part(&bytes)?;
    }
    writer.finish(&head.to_bytes())
}

fn plan(stretch: &Stretch) -> Vec<Plan> {
    let mut plans = Vec::new();
    let mut plan = Plan { start: stretch.start, edits: Vec::new() };
    let mut sum = Sum::default();
    let mut edits: VecDeque<Edit> = stretch.edits.iter().cloned().collect();
    while let Some(edit) = edits.pop_front() {
        let mut length = sum.room(&edit);
        if length == 0 {
            let next = Plan { start: plan.start + sum.target, edits: Vec::new() };
            plans.push(std::mem::replace(&mut plan, next));
            sum = Sum::default();
            length = sum.room(&edit);
        }
        let part = Edit { length, ..edit.clone() };
        sum.add(&part);
        plan.edits.push(part);
        if length < edit.length {
            edits.push_front(edit.after(length));
        }
    }
    if !plan.edits.is_empty() {
        plans.push(plan);
    }
    plans
}

/// What a segment holds so far, in bytes.
#[derive(Default)]
struct Sum {
    target: u64,
    literal: u64,
    added: u64,
    /// Whether there is a rebuild that takes much memory.
    heavy: bool,
}

impl Sum {
    /// How much of an edit finds room: nothing, a part or all of it.
    fn room(&self, edit: &Edit) -> u64 {
        let (literal, added) = brought(edit);
        let crowded = if is_heavy(edit) {
            self.heavy || self.literal + self.added > FEW
        } else {
            self.heavy && self.literal + self.added + literal + added > FEW
        };
        let room = match edit.what {
            _ if crowded && self.target > 0 => 0,
            What::Rebuild(_) if self.target == 0 => return edit.length,
            What::Rebuild(_) if self.literal + literal > MOST_LITERAL || self.added + added > MOST_ADDED => 0,
            What::Rebuild(_) if self.target + edit.length > MOST_TARGET => 0,
            What::Literal => MOST_LITERAL.saturating_sub(self.literal),
            What::Add(..) => MOST_ADDED.saturating_sub(self.added),
            What::Copy(..) | What::Zero | What::Rebuild(_) => MOST_TARGET,
        };
        edit.length.min(room).min(MOST_TARGET.saturating_sub(self.target))
    }

    fn add(&mut self, edit: &Edit) {
        let (literal, added) = brought(edit);
        // What a heavy rebuild brings is its own.
        if is_heavy(edit) {
            self.heavy = true;
        } else {
            self.literal += literal;
            self.added += added;
        }
        self.target += edit.length;
    }
}

/// Whether an edit takes so much memory that it gets a segment of its own, but for little beside it.
fn is_heavy(edit: &Edit) -> bool {
    matches!(&edit.what, What::Rebuild(rebuilt) if rebuilt.rebuild.memory().is_none_or(|memory| memory > HEAVY))
}

/// The bytes of literals and of differences that an edit brings along.
fn brought(edit: &Edit) -> (u64, u64) {
    match &edit.what {
        What::Literal => (edit.length, 0),
        What::Add(..) => (0, edit.length),
        What::Copy(..) | What::Zero => (0, 0),
        What::Rebuild(rebuilt) => (rebuilt.literal.len() as u64, rebuilt.difference.len() as u64),
    }
}

/// Packs a segment, as two where it is too large for a reader.
fn pack(plan: &Plan, images: Images<'_>, level: i32) -> Result<Vec<Packed>, DeltaError> {
    let mut writer = SegmentWriter::new(plan.start);
    let mut at = plan.start;
    for edit in &plan.edits {
        match &edit.what {
            What::Zero => writer.zero(edit.length),
            What::Copy(source, offset) => writer.copy(*source, *offset, edit.length),
            What::Literal => writer.literal(&images.target.read(at, edit.length)?),
            What::Add(source, offset, numbers) => {
                let new = images.target.read(at, edit.length)?;
                let old = images.source(*source, *offset, edit.length)?;
                writer.add(*source, *offset, *numbers, &numbers.between(*offset, &new, &old));
            }
            What::Rebuild(rebuilt) => rebuild(&mut writer, rebuilt),
        }
        at += edit.length;
    }
    let (length, memory) = (writer.length(), writer.memory());
    match writer.pack(level) {
        Ok(bytes) => Ok(vec![Packed { start: plan.start, length, bytes, memory }]),
        Err(PackError::TooLarge(size)) => {
            let (first, second) = halves(plan);
            if first.edits.is_empty() || second.edits.is_empty() {
                return Err(PackError::TooLarge(size).into());
            }
            let mut packed = pack(&first, images, level)?;
            packed.extend(pack(&second, images, level)?);
            Ok(packed)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether a host has the memory for a segment that holds this, and the little that may come with it.
pub(super) fn fits(rebuilt: &Rebuilt) -> Result<bool, DeltaError> {
    let few = [0; FEW as usize];
    let mut writer = SegmentWriter::new(0);
    writer.literal(&few);
    writer.add(Source::Base, 0, Numbers::Bytes, &few);
    rebuild(&mut writer, rebuilt);
    let room = u64::from(MAX_MEMORY).saturating_sub(writer.memory());
    if room >= u64::from(MAX_SEGMENT_PACKED) {
        return Ok(true);
    }
    // How much it takes as it is stored is not known before it is packed, and less when it is packed well.
    match writer.pack(QUICK) {
        Ok(packed) => Ok(packed.len() as u64 + FEW <= room),
        Err(PackError::TooLarge(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn rebuild(writer: &mut SegmentWriter, rebuilt: &Rebuilt) {
    writer.rebuild(&rebuilt.rebuild);
    let (mut literal, mut difference) = (&rebuilt.literal[..], &rebuilt.difference[..]);
    for edit in &rebuilt.edits {
        let length = edit.length as usize;
        match edit.what {
            What::Zero => writer.zero(edit.length),
            What::Copy(source, offset) => writer.copy(source, offset, edit.length),
            What::Literal => writer.literal(take(&mut literal, length)),
            What::Add(source, offset, numbers) => {
                writer.add(source, offset, numbers, take(&mut difference, length))
            }
            What::Rebuild(_) => {}
        }
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(length.min(bytes.len()));
    *bytes = rest;
    taken
}

/// Two plans of about as many bytes to bring along each.
fn halves(plan: &Plan) -> (Plan, Plan) {
    let weight = |edit: &Edit| {
        let (literal, added) = brought(edit);
        literal + added
    };
    let mut left = plan.edits.iter().map(weight).sum::<u64>() / 2;
    let mut first = Plan { start: plan.start, edits: Vec::new() };
    let mut second = Plan { start: plan.start, edits: Vec::new() };
    for edit in &plan.edits {
        let weight = weight(edit);
        let whole = weight == 0 || matches!(edit.what, What::Rebuild(_));
        let part = match whole {
            true if left > 0 => edit.length,
            true => 0,
            false => edit.length.min(left),
        };
        left = left.saturating_sub(if whole { weight } else { part });
        if part > 0 {
            first.edits.push(Edit { length: part, ..edit.clone() });
            second.start += part;
        }
        if part < edit.length {
            second.edits.push(edit.after(part));
        }
    }
    (first, second)
}

#[cfg(test)]
mod tests {
    use upright_manifests::delta::{Packing, Part, Rebuild, Recipe};

    use super::*;

    #[test]
    fn a_heavy_rebuild_fits_if_what_it_brings_packs_well() {
        let part =
            Part { packing: Packing::Lz4, source: Source::Base, offset: 0, packed: 4 << 20, plain: 8 << 20 };
        let rebuild =
            Rebuild { recipe: Recipe::Lz4(9), plain: 8 << 20, length: 4 << 20, parts: vec![part; 2] };
        let brings = |literal: Vec<u8>| {
            let whats = [What::Literal, What::Add(Source::Plain, 0, Numbers::Bytes)];
            let edits = whats.map(|what| Edit::new(what, literal.len())).to_vec();
            Rebuilt { rebuild: rebuild.clone(), edits, difference: literal.clone(), literal, saves: 0 }
        };
        assert!(fits(&brings(vec![7; 3 << 20])).unwrap());
        let next = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        let noise = std::iter::successors(Some(1), next).map(|state| (state >> 24) as u8);
        assert!(!fits(&brings(noise.take(3 << 20).collect())).unwrap());
    }
}
