//! gzip files (RFC 1952): documents, manual pages.

use std::io::Read;

use flate2::bufread::DeflateDecoder;
use upright_manifests::delta::{Packing, Recipe};

use super::{Inside, MOST_PLAIN, Member};

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

/// What to try for a file.
pub(super) fn recipes(file: &[u8]) -> &'static [Recipe] {
    match file.get(8) {
        Some(&SLOWEST) => &[Recipe::Deflate(9)],
        _ => &[Recipe::Deflate(6), Recipe::Deflate(9)],
    }
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
