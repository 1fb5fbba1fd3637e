//! How rebuilds stand in the stream of recipes.

use crate::wire::{put_varint, unzigzag, zigzag};

use super::apply::SegmentError;
use super::format::*;
use super::rebuild::{Packing, Part, Rebuild, Recipe, Zstd};
use super::streams::Stream;

/// Where the last operation on each source ended.
pub(super) type Expected = [u64; Source::ALL.len()];

/// Appends all of a rebuild but its length.
pub(super) fn put(rebuild: &Rebuild, expected: &mut Expected, out: &mut Vec<u8>) {
    match rebuild.recipe {
        Recipe::Deflate(level) => out.extend([CODEC_DEFLATE, level]),
        Recipe::Lz4(level) => out.extend([CODEC_LZ4, level]),
        Recipe::Zstd(zstd) => {
            let flag = |set: bool, flag: u8| if set { flag } else { 0 };
            let flags =
                flag(zstd.last, LAST) | flag(zstd.checksum, CHECKSUM) | flag(zstd.content.is_some(), CONTENT);
            out.extend([CODEC_ZSTD, zstd.level, flags]);
            put_varint(out, u64::from(zstd.prefix));
            put_varint(out, zstd.content.unwrap_or_default());
        }
    }
    put_varint(out, rebuild.plain);
    put_varint(out, rebuild.parts.len() as u64);
    for part in &rebuild.parts {
        let codec = match part.packing {
            Packing::Deflate => CODEC_DEFLATE,
            Packing::Lz4 => CODEC_LZ4,
            Packing::Zstd => CODEC_ZSTD,
        };
        out.extend([codec, part.source.id()]);
        let expected = &mut expected[usize::from(part.source.id())];
        put_varint(out, zigzag(part.offset.wrapping_sub(*expected) as i64));
        put_varint(out, part.packed);
        put_varint(out, part.plain);
        *expected = part.offset.wrapping_add(part.packed);
    }
}

/// Reads what [`put`] wrote, for a rebuild of `length` bytes.
pub(super) fn take(
    stream: &mut Stream<'_>,
    expected: &mut Expected,
    length: u64,
) -> Result<Rebuild, SegmentError> {
    let wrong = SegmentError::Malformed("recipe");
    let recipe = recipe(stream)?;
    let (plain, count) = (stream.varint()?, stream.varint()?);
    if plain == 0 || count > MAX_PARTS || !recipe.is_known() {
        return Err(wrong);
    }
    let mut parts = Vec::new();
    for _ in 0..count {
        let packing = match number(stream)? {
            CODEC_DEFLATE => Packing::Deflate,
            CODEC_LZ4 => Packing::Lz4,
            CODEC_ZSTD => Packing::Zstd,
            _ => return Err(wrong),
        };
        let source = Source::from_id(number(stream)?).filter(|source| *source != Source::Plain);
        let source = source.ok_or(SegmentError::Malformed("source"))?;
        let expected = &mut expected[usize::from(source.id())];
        let offset = expected.checked_add_signed(unzigzag(stream.varint()?));
        let (packed, plain) = (stream.varint()?, stream.varint()?);
        let end = offset.and_then(|offset| offset.checked_add(packed));
        let (Some(offset), Some(end)) = (offset, end) else {
            return Err(SegmentError::Malformed("position"));
        };
        *expected = end;
        parts.push(Part { packing, source, offset, packed, plain });
    }
    Ok(Rebuild { recipe, plain, length, parts })
}

fn recipe(stream: &mut Stream<'_>) -> Result<Recipe, SegmentError> {
    let (codec, level) = (number(stream)?, number(stream)?);
    Ok(match codec {
        CODEC_DEFLATE => Recipe::Deflate(level),
        CODEC_LZ4 => Recipe::Lz4(level),
        CODEC_ZSTD => {
            let flags = number(stream)?;
            let (prefix, content) = (stream.varint()?, stream.varint()?);
            let prefix = u32::try_from(prefix).map_err(|_| SegmentError::Malformed("recipe"))?;
            let content = (flags & CONTENT != 0).then_some(content);
            Recipe::Zstd(Zstd {
                level,
                prefix,
                last: flags & LAST != 0,
                checksum: flags & CHECKSUM != 0,
                content,
            })
        }
        _ => return Err(SegmentError::Malformed("recipe")),
    })
}

fn number(stream: &mut Stream<'_>) -> Result<u8, SegmentError> {
    stream.byte()?.ok_or(SegmentError::Malformed("end of a stream"))
}
