//! How to make one file of the target.

use std::ops::Range;
use std::sync::Arc;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::delta::{MAX_PARTS, MAX_PLAIN, MAX_SEGMENT_PACKED, PackError, Part, Rebuild, Source};
use upright_manifests::digest::Digest;

use super::edit::{Edit, Rebuilt, What, push, slice};
use super::encode::{DeltaError, Side};
use super::inner::{Entry, Inside, Member, entries};
use super::old::Old;
use super::pairing::Candidates;
use super::pieces;
use super::segments::{self, Bytes};
use crate::erofs::FileRun;

/// The zstd level for a rough idea of a length.
pub(super) const QUICK: i32 = 3;
/// Bytes of a file between what is compressed that are not looked for in the old one: a header, a checksum.
const SMALL: usize = 64;

/// What files of the target can be made from.
pub(super) struct Files<'a> {
    pub(super) source: Side<'a>,
    pub(super) target: Side<'a>,
    pub(super) old: Candidates<'a>,
    /// The target's own files.
    pub(super) new: Candidates<'a>,
}

/// How to make a file, padded to whole blocks.
pub(super) struct Made {
    pub(super) edits: Vec<Edit>,
    /// Whether it takes other files of the target, which so have to be made before.
    pub(super) late: bool,
}

impl Files<'_> {
    /// How to make `file`.
    pub(super) fn edits(&self, file: &FileRun) -> Result<Made, DeltaError> {
        let run = pieces::run_of(file);
        let (start, length) = (run.start * BLOCK_SIZE, run.blocks * BLOCK_SIZE);
        if let Some(same) = self.old.same(file) {
            let what = What::Copy(Source::Base, same.start * BLOCK_SIZE);
            return Ok(Made { edits: vec![Edit { what, length }], late: false });
        }
        let bytes = Bytes::File(self.target.image).read(start, length)?;
        let base = self.old.base(file);
        let old = match base {
            Some(base) => Old::read(Source::Base, self.source.image, &[pieces::run_of(base)])?,
            None => Old::default(),
        };
        let content = &bytes[..file.size as usize];
        let inside = Inside::new(content);
        if inside.members.is_empty() {
            return Ok(Made { edits: old.edits(&bytes)?, late: false });
        }
        let was = base.map(|base| {
            let size = (base.size as usize).min(old.bytes.len());
            (base.start * BLOCK_SIZE, Inside::old(&old.bytes[..size]))
        });
        let (edits, late) = match entries(&inside.plain) {
            files if files.is_empty() => (self.changed(content, &inside, &old, was.as_ref())?, false),
            files => (self.archive(content, &inside, &old, &files)?, true),
        };
        let mut made = Made { edits, late };
        push(&mut made.edits, Edit::new(What::Zero, bytes.len() - content.len()));
        Ok(made)
    }

    /// A file whose compressed parts come from those of an old one, which starts at a byte of the source.
    fn changed(
        &self,
        content: &[u8],
        inside: &Inside,
        old: &Old,
        was: Option<&(u64, Inside)>,
    ) -> Result<Vec<Edit>, DeltaError> {
        let mut rebuilt = Vec::with_capacity(inside.members.len());
        for (number, member) in inside.members.iter().enumerate() {
            let plain = &inside.plain[member.plain.clone()];
            let (parts, from) = match was {
                Some((start, was)) => parts(was, *start, number, inside.members.len(), plain.len()),
                None => Default::default(),
            };
            let from = Old::plain(from);
            let edits = from.edits(plain)?;
            rebuilt.extend(self.rebuilt(member, plain, edits, parts, &from.bytes)?);
        }
        around(content, old, rebuilt)
    }

    /// A compressed archive of files that are in the target too.
    fn archive(
        &self,
        content: &[u8],
        inside: &Inside,
        old: &Old,
        files: &[Entry],
    ) -> Result<Vec<Edit>, DeltaError> {
        let mut edits = Vec::new();
        let mut end = 0;
        for entry in files {
            push(&mut edits, Edit::new(What::Literal, entry.content.start - end));
            for edit in self.archived(entry, &inside.plain[entry.content.clone()])? {
                push(&mut edits, edit);
            }
            end = entry.content.end;
        }
        push(&mut edits, Edit::new(What::Literal, inside.plain.len() - end));
        let mut rebuilt = Vec::with_capacity(inside.members.len());
        for member in &inside.members {
            let edits = slice(&edits, member.plain.start as u64..member.plain.end as u64);
            let plain = &inside.plain[member.plain.clone()];
            rebuilt.extend(self.rebuilt(member, plain, edits, Vec::new(), &[])?);
        }
        around(content, old, rebuilt)
    }

    /// How to make a file of an archive out of what is in the target.
    fn archived(&self, entry: &Entry, content: &[u8]) -> Result<Vec<Edit>, DeltaError> {
        let size = content.len() as u64;
        let file = FileRun { start: 0, size, sha256: Digest::of(content), path: entry.path.clone() };
        if let Some(same) = self.new.same(&file) {
            return Ok(vec![Edit { what: What::Copy(Source::Root, same.start * BLOCK_SIZE), length: size }]);
        }
        match self.new.base(&file) {
            Some(base) => {
                let old = Old::read(Source::Root, self.target.image, &[pieces::run_of(base)])?;
                old.edits(content)
            }
            None => Ok(vec![Edit { what: What::Literal, length: size }]),
        }
    }

    /// The edit that makes a member, unless it takes more memory than a host may have.
    fn rebuilt(
        &self,
        member: &Member,
        plain: &[u8],
        edits: Vec<Edit>,
        parts: Vec<Part>,
        from: &[u8],
    ) -> Result<Option<(Range<usize>, Rebuilt)>, DeltaError> {
        let Some(recipe) = member.recipe else { return Ok(None) };
        let length = member.packed.len() as u64;
        let rebuild = Rebuild { recipe, plain: plain.len() as u64, length, parts };
        let (mut literal, mut difference) = (Vec::new(), Vec::new());
        let mut at = 0;
        for edit in &edits {
            let new = &plain[at..at + edit.length as usize];
            match edit.what {
                What::Literal => literal.extend(new),
                What::Add(source, offset, numbers) => {
                    let image = match source {
                        Source::Base => Bytes::File(self.source.image),
                        Source::Root => Bytes::File(self.target.image),
                        Source::Plain => Bytes::Memory(from),
                    };
                    let old = image.read(offset, edit.length)?;
                    difference.extend(numbers.between(offset, new, &old));
                }
                What::Copy(..) | What::Zero | What::Rebuild(_) => {}
            }
            at += new.len();
        }
        let saves = saves(length, &literal, &difference)?;
        let rebuilt = Rebuilt { rebuild, edits, literal, difference, saves };
        let is_good = saves > 0 && segments::fits(&rebuilt)?;
        Ok(is_good.then(|| (member.packed.clone(), rebuilt)))
    }
}

/// How many bytes it is shorter to bring along what a rebuild needs than the `length` bytes that it makes; none if it is not, or
/// does not fit.
fn saves(length: u64, literal: &[u8], difference: &[u8]) -> Result<u64, DeltaError> {
    let packed = |bytes: &[u8]| zstd::bulk::compress(bytes, QUICK).map(|packed| packed.len() as u64);
    let brought = packed(literal).and_then(|literal| Ok(literal + packed(difference)?));
    let brought = brought.map_err(PackError::Compress)?;
    Ok(if brought < u64::from(MAX_SEGMENT_PACKED) / 2 { length.saturating_sub(brought) } else { 0 })
}

/// The parts of the old file `was`, at a byte of the source, that are most like member `number` of `count`, and what they hold.
fn parts(was: &Inside, start: u64, number: usize, count: usize, plain: usize) -> (Vec<Part>, Vec<u8>) {
    let middle = number * was.members.len() / count.max(1);
    let mut taken: Vec<&Member> = Vec::new();
    let mut room = (MAX_PLAIN as usize).saturating_sub(plain);
    // The member itself, the one before and the one after, as far as there is memory for them.
    for at in [middle, middle.wrapping_sub(1), middle + 1] {
        let Some(member) = was.members.get(at) else { continue };
        if member.packing.is_some() && member.plain.len() <= room && taken.len() < MAX_PARTS as usize {
            room -= member.plain.len();
            taken.push(member);
        }
    }
    taken.sort_by_key(|member| member.packed.start);
    let mut from = Vec::new();
    let mut parts = Vec::new();
    for member in taken {
        let Some(packing) = member.packing else { continue };
        from.extend(&was.plain[member.plain.clone()]);
        parts.push(Part {
            packing,
            source: Source::Base,
            offset: start + member.packed.start as u64,
            packed: member.packed.len() as u64,
            plain: member.plain.len() as u64,
        });
    }
    (parts, from)
}

/// The edits for all of a file whose compressed parts are made as `rebuilt` says.
fn around(content: &[u8], old: &Old, rebuilt: Vec<(Range<usize>, Rebuilt)>) -> Result<Vec<Edit>, DeltaError> {
    let mut edits = Vec::new();
    let mut end = 0;
    let between = |edits: &mut Vec<Edit>, bytes: &[u8]| {
        if bytes.len() <= SMALL {
            push(edits, Edit::new(What::Literal, bytes.len()));
            return Ok::<_, DeltaError>(());
        }
        old.edits(bytes)?.into_iter().for_each(|edit| push(edits, edit));
        Ok(())
    };
    for (range, rebuilt) in rebuilt {
        between(&mut edits, &content[end..range.start])?;
        push(&mut edits, Edit::new(What::Rebuild(Arc::new(rebuilt)), range.len()));
        end = range.end;
    }
    between(&mut edits, &content[end..])?;
    Ok(edits)
}
