//! Boot options of UEFI firmware: the values of `Boot####`, `BootOrder` and `BootNext`.
//!
//! Source: UEFI specification 2.10, sections 3.1.3 (`EFI_LOAD_OPTION`), 3.3, 10.3.5.1 ("Hard Drive") and 10.3.5.4 ("File Path").
//!
//! ```text
//! attributes u32 (1: active)   length of the device path u16   description, UTF-16 and NUL
//! device path: hard drive 04 01 2a 00   partition number u32, first block u64, blocks u64, its GUID, 02 (GPT), 02 (GUID)
//!              file       04 04 len     path with backslashes, UTF-16 and NUL
//!              end        7f ff 04 00
//! data for the program
//! ```

use crate::uuid::Uuid;
use crate::wire::{Short, Wire};

/// The largest boot option that is read, in bytes.
pub const MAX_OPTION: usize = 64 << 10;

/// `LOAD_OPTION_ACTIVE`: the firmware may choose it by itself.
const ACTIVE: u32 = 1;

const HARD_DRIVE: [u8; 2] = [4, 1];
const FILE: [u8; 2] = [4, 4];
const END: [u8; 2] = [0x7f, 0xff];

/// A file on a GPT partition, as firmware finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOption {
    /// Whether the firmware may choose it by itself.
    pub active: bool,
    /// What people see in the firmware's menu.
    pub description: String,
    /// The partition.
    pub partition: Partition,
    /// The file's path from the file system's root, with backslashes.
    pub path: String,
}

/// A GPT partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// Its number in the table, from 1.
    pub number: u32,
    /// Its first block, in blocks of the disk.
    pub start: u64,
    /// Its size in blocks of the disk.
    pub blocks: u64,
    /// Its own GUID.
    pub uuid: Uuid,
}

impl LoadOption {
    /// Reads an option; `None` if it is not one of a file on a GPT partition.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut wire = Wire::new(bytes);
        let attributes = wire.u32().ok()?;
        let length = wire.u16().ok()?;
        let description = text(&mut wire).ok()??;
        let mut nodes = Wire::new(wire.take(usize::from(length)).ok()?);
        let (mut partition, mut path) = (None, None);
        loop {
            let kind: [u8; 2] = nodes.array().ok()?;
            let body = usize::from(nodes.u16().ok()?).checked_sub(4)?;
            let mut body = Wire::new(nodes.take(body).ok()?);
            match kind {
                HARD_DRIVE => partition = Some(Partition::parse(&mut body).ok()??),
                FILE => path = Some(text(&mut body).ok()??),
                END => break,
                // What leads to the disk, such as the controller's place, which may change.
                _ => {}
            }
        }
        Some(Self { active: attributes & ACTIVE != 0, description, partition: partition?, path: path? })
    }

    /// The option's bytes; `None` if it is longer than an option may be.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let path = utf16(&self.path);
        let nodes = [&node(HARD_DRIVE, &self.partition.to_bytes())?, &node(FILE, &path)?, &node(END, &[])?]
            .map(Vec::as_slice)
            .concat();
        let attributes = if self.active { ACTIVE } else { 0 };
        let mut bytes = attributes.to_le_bytes().to_vec();
        bytes.extend(u16::try_from(nodes.len()).ok()?.to_le_bytes());
        bytes.extend(utf16(&self.description));
        bytes.extend(nodes);
        (bytes.len() <= MAX_OPTION).then_some(bytes)
    }
}

impl Partition {
    fn parse(body: &mut Wire<'_>) -> Result<Option<Self>, Short> {
        let (number, start, blocks) = (body.u32()?, body.u64()?, body.u64()?);
        let uuid = Uuid::from(swapped(body.array()?));
        Ok((body.take(2)? == [2, 2]).then_some(Self { number, start, blocks, uuid }))
    }

    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.number.to_le_bytes().to_vec();
        bytes.extend(self.start.to_le_bytes());
        bytes.extend(self.blocks.to_le_bytes());
        bytes.extend(swapped(*self.uuid.as_bytes()));
        bytes.extend([2, 2]);
        bytes
    }
}

/// The numbers in `BootOrder`, or the one in `BootNext`.
pub fn parse_order(bytes: &[u8]) -> Vec<u16> {
    let (numbers, _) = bytes.as_chunks();
    numbers.iter().map(|number| u16::from_le_bytes(*number)).collect()
}

/// The value of `BootOrder`, or with one number that of `BootNext`.
pub fn order_bytes(order: &[u16]) -> Vec<u8> {
    order.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn node(kind: [u8; 2], body: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(body.len() + 4).ok()?;
    Some([&kind, &length.to_le_bytes(), body].concat())
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// UTF-16 up to a NUL; `Ok(None)` if it is not Unicode.
fn text(wire: &mut Wire<'_>) -> Result<Option<String>, Short> {
    let mut units = Vec::new();
    loop {
        match wire.u16()? {
            0 => return Ok(String::from_utf16(&units).ok()),
            unit => units.push(unit),
        }
    }
}

/// GUIDs in firmware have their first three fields in little-endian order, their text form in big-endian.
fn swapped(guid: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = guid;
    let [i, j, k, l, m, n, o, p] = rest;
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn option() -> LoadOption {
        LoadOption {
            active: true,
            description: "Upright a".to_owned(),
            partition: Partition {
                number: 1,
                start: 2048,
                blocks: 262_144,
                uuid: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b".parse().unwrap(),
            },
            path: "\\EFI\\upright\\a.efi".to_owned(),
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let bytes = option().to_bytes().unwrap();
        assert_eq!(bytes[..8], [1, 0, 0, 0, 42 + 42 + 4, 0, b'U', 0]);
        let nodes = &bytes[26..];
        assert_eq!(nodes[..8], [4, 1, 42, 0, 1, 0, 0, 0]);
        assert_eq!(nodes[8..24], [0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0]);
        // The ESP's type is a GUID whose two forms the specification prints.
        assert_eq!(nodes[24..32], [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11]);
        assert_eq!(nodes[32..42], [0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b, 2, 2]);
        assert_eq!(nodes[42..50], [4, 4, 42, 0, b'\\', 0, b'E', 0]);
        assert_eq!(nodes[82..], [0, 0, 0x7f, 0xff, 4, 0]);
        assert_eq!(LoadOption::parse(&bytes), Some(option()));
    }

    #[test]
    fn other_options_are_none_of_a_file_on_a_partition() {
        let mut network = option().to_bytes().unwrap();
        // MAC(): the firmware's network boot.
        network[26..28].copy_from_slice(&[3, 11]);
        assert_eq!(LoadOption::parse(&network), None);
        assert_eq!(LoadOption::parse(&[]), None);
    }

    #[test]
    fn orders_are_read_and_written() {
        assert_eq!(parse_order(&order_bytes(&[3, 0x1234])), [3, 0x1234]);
        assert_eq!(parse_order(&[1, 0, 2]), [1]);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(at in 0usize..200, byte: u8, length in 0usize..200) {
            let mut bytes = option().to_bytes().unwrap();
            bytes.truncate(length);
            if let Some(hit) = bytes.get_mut(at) {
                *hit = byte;
            }
            LoadOption::parse(&bytes);
        }

        #[test]
        fn what_is_written_is_read(description in "\\PC{0,20}", path in "\\PC{0,20}", active: bool, number: u32) {
            let partition = Partition { number, ..option().partition };
            let option = LoadOption { active, description, partition, path };
            prop_assert_eq!(LoadOption::parse(&option.to_bytes().unwrap()), Some(option));
        }
    }
}
