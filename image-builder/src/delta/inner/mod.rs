//! Looks inside compressed files: what they hold, and how to make them again from it.

mod cpio;
mod gzip;
mod lz4;
mod zstd;

use std::io::{self, Write};
use std::ops::Range;

use upright_manifests::delta::{Packing, Recipe};

pub(super) use cpio::{Entry, entries};

/// The most content of one file that is looked at, in bytes.
const MOST_PLAIN: usize = 256 << 20;

/// What the compressed parts of a file hold.
#[derive(Debug, Default)]
pub(super) struct Inside {
    /// What all of them hold, one after the other.
    pub(super) plain: Vec<u8>,
    /// In ascending order of where they are in the file.
    pub(super) members: Vec<Member>,
}

/// A compressed part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Where it is in the file.
    pub(super) packed: Range<usize>,
    /// What it holds. Sections of one frame share a little.
    pub(super) plain: Range<usize>,
    /// How to unpack it by itself, if that can be done.
    pub(super) packing: Option<Packing>,
    /// How to make it again; tried.
    pub(super) recipe: Option<Recipe>,
}

impl Inside {
    /// What there is in an old file, to describe new content by.
    pub(super) fn old(file: &[u8]) -> Self {
        let mut inside = Self::apart(file);
        inside.append(zstd::whole(file));
        inside
    }

    /// What can be unpacked and made again member by member.
    fn apart(file: &[u8]) -> Self {
        let mut inside = gzip::members(file);
        inside.append(lz4::members(file));
        inside
    }

    /// What there is in a new file, with a proven recipe for each part.
    pub(super) fn new(file: &[u8]) -> Self {
        let mut inside = Self::apart(file);
        for member in &mut inside.members {
            let (packed, plain) = (&file[member.packed.clone()], &inside.plain[member.plain.clone()]);
            member.recipe = match member.packing {
                Some(Packing::Deflate) => gzip::recipe(file, plain, packed),
                _ => lz4::RECIPES.iter().find(|recipe| makes(**recipe, plain, packed)).copied(),
            };
        }
        inside.members.retain(|member| member.recipe.is_some());
        inside.append(zstd::members(file));
        inside
    }

    fn append(&mut self, other: Self) {
        let moved = self.plain.len();
        self.plain.extend(other.plain);
        self.members.extend(other.members.into_iter().map(|mut member| {
            member.plain = member.plain.start + moved..member.plain.end + moved;
            member
        }));
    }
}

/// Whether `recipe` makes `packed` of `plain`.
fn makes(recipe: Recipe, plain: &[u8], packed: &[u8]) -> bool {
    made(recipe, plain, packed) == Some(packed.len())
}

/// How many bytes `recipe` makes of `plain`, if `packed` starts with them.
fn made(recipe: Recipe, plain: &[u8], packed: &[u8]) -> Option<usize> {
    let mut compare = Compare { expected: packed, made: 0 };
    let mut packer = recipe.packer(plain.len() as u64, &mut compare).ok()?;
    packer.write_all(plain).ok()?;
    packer.finish().ok()?;
    Some(compare.made)
}

/// Takes the bytes it expects and fails at the first other one.
struct Compare<'a> {
    expected: &'a [u8],
    made: usize,
}

impl Write for Compare<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let rest = self.expected.strip_prefix(bytes);
        self.expected = rest.ok_or_else(|| io::Error::other("other bytes than there should be"))?;
        self.made += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
