//! Cuts edits into segments, packs them on all cores and writes the delta.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::fs::FileExt;

use upright_manifests::delta::{Head, PackError, Segment, SegmentWriter, Source, head_bytes};
use upright_manifests::digest::Digest;

use super::edit::{Edit, What};
use super::encode::DeltaError;
use crate::parallel;
use crate::payload::{PartWriter, Parted};

/// Bytes of the target that a segment makes at most: an update resumes where a segment starts.
const MOST_TARGET: u64 = 128 << 20;
/// Literal bytes in a segment at most.
const MOST_LITERAL: u64 = 12 << 20;
/// Added bytes in a segment at most.
const MOST_ADDED: u64 = 48 << 20;

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
        };
        let missing = || DeltaError::Read { offset, length, error: io::ErrorKind::NotFound.into() };
        Bytes::File(image.ok_or_else(missing)?).read(offset, length)
    }
}

/// A segment to be packed.
#[derive(Debug, Clone)]
struct Plan {
    start: u64,
    edits: Vec<Edit>,
}

/// A packed segment: where it starts in the target, how many bytes it makes, and its own bytes.
type Packed = (u64, u64, Vec<u8>);

/// Writes the delta of `edits` into the empty file `out`; `head` lacks its segments and the memory they take. `done` hears
/// how many bytes of the target are packed.
pub(super) fn write(
    mut head: Head,
    edits: &[Edit],
    images: Images<'_>,
    level: i32,
    out: &File,
    done: &dyn Fn(u64),
) -> Result<Parted, DeltaError> {
    let plans = plan(edits);
    // How many segments there are, and so how long the head is, is known when all are packed.
    let mut spool = tempfile::tempfile().map_err(DeltaError::Write)?;
    let mut made = 0;
    parallel::ordered(
        plans.len(),
        |number| pack(&plans[number], images, level),
        |packed| {
            for (start, length, bytes) in packed {
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
    let longest = head.segments.iter().map(|segment| segment.packed).max();
    head.memory = Head::memory_for(longest.unwrap_or_default());
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

fn plan(edits: &[Edit]) -> Vec<Plan> {
    let mut plans = Vec::new();
    let mut plan = Plan { start: 0, edits: Vec::new() };
    let (mut target, mut literal, mut added) = (0, 0, 0);
    for &edit in edits {
        let mut rest = edit;
        while rest.length > 0 {
            let room = match rest.what {
                What::Literal => MOST_LITERAL - literal,
                What::Add(..) => MOST_ADDED - added,
                What::Copy(..) | What::Zero => MOST_TARGET,
            };
            let part = rest.length.min(room).min(MOST_TARGET - target);
            plan.edits.push(Edit { length: part, ..rest });
            match rest.what {
                What::Literal => literal += part,
                What::Add(..) => added += part,
                What::Copy(..) | What::Zero => {}
            }
            target += part;
            rest = rest.after(part);
            if target == MOST_TARGET || literal == MOST_LITERAL || added == MOST_ADDED {
                let next = Plan { start: plan.start + target, edits: Vec::new() };
                plans.push(std::mem::replace(&mut plan, next));
                (target, literal, added) = (0, 0, 0);
            }
        }
    }
    if !plan.edits.is_empty() {
        plans.push(plan);
    }
    plans
}

/// Packs a segment, as two where it is too large for a reader.
fn pack(plan: &Plan, images: Images<'_>, level: i32) -> Result<Vec<Packed>, DeltaError> {
    let mut writer = SegmentWriter::new(plan.start);
    let mut at = plan.start;
    for edit in &plan.edits {
        match edit.what {
            What::Zero => writer.zero(edit.length),
            What::Copy(source, offset) => writer.copy(source, offset, edit.length),
            What::Literal => writer.literal(&images.target.read(at, edit.length)?),
            What::Add(source, offset) => {
                let mut difference = images.target.read(at, edit.length)?;
                let old = images.source(source, offset, edit.length)?;
                difference.iter_mut().zip(old).for_each(|(new, old)| *new = new.wrapping_sub(old));
                writer.add(source, offset, &difference);
            }
        }
        at += edit.length;
    }
    let length = writer.length();
    match writer.pack(level) {
        Ok(packed) => Ok(vec![(plan.start, length, packed)]),
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

/// Two plans of about as many bytes to bring along each.
fn halves(plan: &Plan) -> (Plan, Plan) {
    let weight = |edit: &Edit| match edit.what {
        What::Literal | What::Add(..) => edit.length,
        What::Copy(..) | What::Zero => 0,
    };
    let mut left = plan.edits.iter().map(weight).sum::<u64>() / 2;
    let mut first = Plan { start: plan.start, edits: Vec::new() };
    let mut second = Plan { start: plan.start, edits: Vec::new() };
    for edit in &plan.edits {
        let weight = weight(edit);
        let part = if weight == 0 && left > 0 { edit.length } else { edit.length.min(left) };
        left -= part.min(weight);
        if part > 0 {
            first.edits.push(Edit { length: part, ..*edit });
            second.start += part;
        }
        if part < edit.length {
            second.edits.push(edit.after(part));
        }
    }
    (first, second)
}
