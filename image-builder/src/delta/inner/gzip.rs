//! gzip files (RFC 1952): documents, manual pages.

use std::io::{Read, Write};

use flate2::bufread::DeflateDecoder;
use upright_manifests::delta::{Packing, Recipe};

use super::{Inside, MOST_PLAIN, Member, makes};

const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
const FIXED: usize = 10;
/// Checksum and length of the content.
const TRAILER: usize = 8;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
const HEADER_SUM: u8 = 2;

/// What the header says of the level: 9, or none of the fastest and the slowest.
const SLOWEST: u8 = 2;

/// What the header says of the fastest level, which cannot be made again.
const FASTEST: u8 = 4;

/// The levels that people ask for, and the others.
const COMMON: [u8; 2] = [6, 9];
const OTHERS: [u8; 4] = [5, 4, 7, 8];

/// How much of the content shows whether one of the other levels is worth trying: a block's worth of most.
const PROBE: usize = 512 << 10;
/// How much of the stream has to be the same then.
const ALIKE: usize = 1 << 10;

/// How to make `packed`, a member's deflate stream, of `plain`.
pub(super) fn recipe(file: &[u8], plain: &[u8], packed: &[u8]) -> Option<Recipe> {
    let level = |level: u8| Some(Recipe::Deflate(level)).filter(|recipe| makes(*recipe, plain, packed));
    let probed = |other: &u8| looks_like(Recipe::Deflate(*other), plain, packed);
    match file.get(8) {
        Some(&SLOWEST) => level(9),
        Some(&FASTEST) => None,
        _ => {
            let mut common = COMMON.into_iter();
            common.find_map(level).or_else(|| OTHERS.into_iter().filter(probed).find_map(level))
        }
    }
}

/// Whether what `recipe` makes of the start of `plain` begins as `packed` does. A block depends on nothing behind it but what its
/// last match might reach.
fn looks_like(recipe: Recipe, plain: &[u8], packed: &[u8]) -> bool {
    let probe = &plain[..plain.len().min(PROBE)];
    let mut made = Vec::new();
    let packer = recipe.packer(probe.len() as u64, &mut made);
    let done = packer.and_then(|mut packer| packer.write_all(probe).and_then(|()| packer.finish()));
    let alike = ALIKE.min(packed.len()).min(made.len());
    done.is_ok() && made[..alike] == packed[..alike]
}

/// The deflate streams of a file that consists of gzip members.
pub(super) fn members(file: &[u8]) -> Inside {
    let mut inside = Inside::default();
    let mut at = 0;
    while let Some(start) = body(&file[at..]).map(|body| at + body) {
        let mut decoder = DeflateDecoder::new(&file[start..]);
        let before = inside.plain.len();
        let most = (MOST_PLAIN - before) as u64;
        let read = decoder.by_ref().take(most).read_to_end(&mut inside.plain);
        let end = start + decoder.total_in() as usize;
        let trailer = file.get(end..end + TRAILER).and_then(<[u8]>::last_chunk::<4>);
        let length = inside.plain.len() - before;
        if read.is_err() || length == 0 || trailer != Some(&(length as u32).to_le_bytes()) {
            inside.plain.truncate(before);
            break;
        }
        inside.members.push(Member {
            packed: start..end,
            plain: before..inside.plain.len(),
            packing: Some(Packing::Deflate),
            recipe: None,
        });
        at = end + TRAILER;
    }
    inside
}

/// Where the deflate stream starts in a gzip member.
fn body(member: &[u8]) -> Option<usize> {
    let flags = *member.strip_prefix(&MAGIC)?.first()?;
    let mut at = FIXED;
    if flags & EXTRA != 0 {
        let length = member.get(at..)?.first_chunk::<2>()?;
        at += 2 + usize::from(u16::from_le_bytes(*length));
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            at += member.get(at..)?.iter().position(|byte| *byte == 0)? + 1;
        }
    }
    if flags & HEADER_SUM != 0 {
        at += 2;
    }
    (at < member.len()).then_some(at)
}
