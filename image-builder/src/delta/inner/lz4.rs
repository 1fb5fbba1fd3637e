//! LZ4's legacy frames, which kernels and their initrds are compressed in.

use upright_manifests::delta::{Packing, Recipe};

use super::{Inside, MOST_PLAIN, Member};

const MAGIC: [u8; 4] = 0x184c_2102u32.to_le_bytes();
/// What each block but the last holds.
const BLOCK: usize = 8 << 20;
/// What is tried: what the kernel's own build and initramfs-tools use.
pub(super) const RECIPES: &[Recipe] = &[Recipe::Lz4(9)];

/// The blocks of a frame, at the start of a file or in a bzImage.
pub(super) fn members(file: &[u8]) -> Inside {
    let mut inside = Inside::default();
    let Some(frame) = frame(file) else { return inside };
    let mut at = frame.start + MAGIC.len();
    while let Some(length) = file[..frame.end].get(at..).and_then(<[u8]>::first_chunk::<4>) {
        let start = at + length.len();
        let end = start.saturating_add(u32::from_le_bytes(*length) as usize);
        let Some(packed) = file[..frame.end].get(start..end) else { break };
        let Ok(plain) = lz4::block::decompress(packed, Some(BLOCK as i32)) else { break };
        let before = inside.plain.len();
        if plain.is_empty() || before + plain.len() > MOST_PLAIN {
            break;
        }
        inside.plain.extend(plain);
        inside.members.push(Member {
            packed: start..end,
            plain: before..inside.plain.len(),
            packing: Some(Packing::Lz4),
            recipe: None,
        });
        at = end;
    }
    inside
}

/// Where a frame is in a file: all of it, or the payload that a bzImage's header names (the kernel's
/// `Documentation/arch/x86/boot.rst`: `setup_sects`, `HdrS`, `payload_offset`, `payload_length`).
fn frame(file: &[u8]) -> Option<std::ops::Range<usize>> {
    if file.starts_with(&MAGIC) {
        return Some(0..file.len());
    }
    let number = |at: usize| Some(u32::from_le_bytes(*file.get(at..)?.first_chunk()?) as usize);
    if file.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let setup = (usize::from(file[0x1f1]) + 1) * 512;
    let start = setup.checked_add(number(0x248)?)?;
    let end = start.checked_add(number(0x24c)?)?.min(file.len());
    file.get(start..end)?.starts_with(&MAGIC).then_some(start..end)
}
