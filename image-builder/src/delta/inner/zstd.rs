//! zstd frames (RFC 8878): initrds.

use std::io::Read;

use upright_manifests::delta::{MAX_PLAIN, Packing, Recipe, Zstd};
use zstd::zstd_safe;

use super::{Inside, MOST_PLAIN, Member, made};

const MAGIC: [u8; 4] = 0xfd2f_b528u32.to_le_bytes();
/// How a cpio archive starts; one with the processor's microcode may stand before the frame.
const CPIO: &[u8] = b"070701";
/// The levels tried, most common first.
const LEVELS: [u8; 9] = [9, 3, 6, 1, 5, 7, 8, 4, 2];

/// What a frame's header says.
struct Header {
    /// The window, as a power of two, if it is not the whole content.
    window_log: Option<u32>,
    checksum: bool,
    content_known: bool,
}

/// The sections of the first frame of a file, with recipes.
pub(super) fn members(file: &[u8]) -> Inside {
    let found = start(file).and_then(|start| {
        let frame = &file[start..];
        let header = header(frame)?;
        let plain = unpack(frame, MOST_PLAIN)?;
        let sections = LEVELS.iter().find_map(|level| sections(frame, &plain, &header, *level))?;
        Some((start, plain, sections))
    });
    let Some((start, plain, mut members)) = found else { return Inside::default() };
    for member in &mut members {
        member.packed = member.packed.start + start..member.packed.end + start;
    }
    Inside { plain, members }
}

/// The first frame of a file, to be unpacked as a whole: as much as fits beside what is made of it.
pub(super) fn whole(file: &[u8]) -> Inside {
    let found = start(file).and_then(|start| {
        let frame = &file[start..];
        let length = zstd_safe::find_frame_compressed_size(frame).ok()?;
        let frame = frame.get(..length)?;
        Some((start..start + length, unpack(frame, MAX_PLAIN as usize / 2)?))
    });
    let Some((packed, plain)) = found else { return Inside::default() };
    let member = Member { packed, plain: 0..plain.len(), packing: Some(Packing::Zstd), recipe: None };
    Inside { plain, members: vec![member] }
}

fn start(file: &[u8]) -> Option<usize> {
    if file.starts_with(&MAGIC) {
        return Some(0);
    }
    let aligned = || (0..file.len().saturating_sub(3)).step_by(4);
    let found = || aligned().find(|at| file[*at..].starts_with(&MAGIC));
    if file.starts_with(CPIO) { found() } else { None }
}

fn header(frame: &[u8]) -> Option<Header> {
    let (descriptor, window) = (*frame.get(4)?, *frame.get(5)?);
    if descriptor & 3 != 0 {
        return None;
    }
    let single = descriptor & 0x20 != 0;
    let window_log = (!single).then_some(10 + u32::from(window >> 3));
    let content_known = single || descriptor >> 6 != 0;
    Some(Header { window_log, checksum: descriptor & 4 != 0, content_known })
}

/// What a frame holds, if that is not more than `most` bytes.
fn unpack(frame: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let decoder = zstd::stream::read::Decoder::with_buffer(frame).ok()?.single_frame();
    decoder.take(most as u64 + 1).read_to_end(&mut plain).ok()?;
    (1..=most).contains(&plain.len()).then_some(plain)
}

/// The sections that `level` makes, if they are those of the frame.
fn sections(frame: &[u8], plain: &[u8], header: &Header, level: u8) -> Option<Vec<Member>> {
    let (window, lazy) = shape(level);
    if header.window_log.is_some_and(|log| log != window) {
        return None;
    }
    let (section, overlap) = (1usize << (window + 2).max(20), 1usize << (window - if lazy { 2 } else { 3 }));
    let mut members: Vec<Member> = Vec::new();
    let mut packed = 0;
    for start in (0..plain.len()).step_by(section) {
        let end = (start + section).min(plain.len());
        let prefix = overlap.min(start);
        let recipe = Recipe::Zstd(Zstd {
            level,
            prefix: prefix as u32,
            last: end == plain.len(),
            checksum: header.checksum,
            content: header.content_known.then_some(plain.len() as u64),
        });
        let length = made(recipe, &plain[start - prefix..end], &frame[packed..])?;
        members.push(Member {
            packed: packed..packed + length,
            plain: start - prefix..end,
            packing: None,
            recipe: Some(recipe),
        });
        packed += length;
    }
    Some(members)
}

/// The window of a level, as a power of two, and whether it searches hard, so that sections overlap by more.
fn shape(level: u8) -> (u32, bool) {
    match level {
        1 => (19, false),
        2 => (20, false),
        3..=7 => (21, false),
        8 => (21, true),
        _ => (22, true),
    }
}
