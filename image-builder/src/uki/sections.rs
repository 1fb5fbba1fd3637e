//! Appends sections to a PE image: where they go, and the headers that say so.
//!
//! Source: Microsoft PE/COFF specification; UAPI.5 for which sections a UKI has. The stub's own debugging symbols and
//! signature, which follow its sections, are left behind: they would not match any more.

use upright_manifests::name::Arch;
use upright_manifests::pe::{Headers, SECTION_HEADER, Section};

use super::UkiError;
use super::inspect::machine;

/// Initialised data, readable (`IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`).
const CHARACTERISTICS: u32 = 0x4000_0040;

/// Offsets of fields, from the start of the optional header of PE32+.
const SIZE_OF_IMAGE: usize = 56;
const CHECKSUM: usize = 64;
const DIRECTORY_COUNT: usize = 108;
const SECURITY_DIRECTORY: usize = 112 + 4 * 8;

/// From the section count in the file header to the symbol table's offset and length.
const SYMBOLS: usize = 6;

/// An image with more sections.
#[derive(Debug)]
pub(super) struct Layout {
    /// The image's start up to the first new section, with its headers.
    pub(super) head: Vec<u8>,
    /// Where each new section's content starts in the file; zeros fill what is between.
    pub(super) offsets: Vec<u64>,
    /// The file's length.
    pub(super) size: u64,
}

/// Places sections of those names and lengths behind the stub's own.
pub(super) fn lay_out(stub: &[u8], arch: Arch, sections: &[(&str, u64)]) -> Result<Layout, UkiError> {
    let headers = Headers::parse(stub)?;
    check(&headers, arch, sections)?;
    let file_alignment = u64::from(headers.file_alignment);
    let address_alignment = u64::from(headers.section_alignment);

    let raw_end = |s: &Section| u64::from(s.raw_offset) + u64::from(s.raw_size);
    let address_end = |s: &Section| u64::from(s.virtual_address) + u64::from(s.virtual_size.max(s.raw_size));
    let body = headers.sections.iter().map(raw_end).max().unwrap_or(0).max(headers.size_of_headers.into());
    let mut address = headers.sections.iter().map(address_end).max().unwrap_or(0);
    let Some(stub) = usize::try_from(body).ok().and_then(|body| stub.get(..body)) else {
        return Err(UkiError::Unsuitable(format!("it ends before byte {body}, where its last section does")));
    };
    let mut head = stub.to_vec();
    head.resize(next_multiple(body, file_alignment) as usize, 0);

    let mut layout = Layout { offsets: Vec::new(), size: head.len() as u64, head };
    for (index, (name, length)) in sections.iter().enumerate() {
        address = next_multiple(address, address_alignment);
        let raw_size = next_multiple(*length, file_alignment);
        let section = [*length, address, raw_size, layout.size];
        put_section(&mut layout.head, headers.table_at, headers.sections.len() + index, name, section)?;
        layout.offsets.push(layout.size);
        layout.size += raw_size;
        address += raw_size;
    }
    let count = (headers.sections.len() + sections.len()) as u16;
    put(&mut layout.head, headers.count_at, &count.to_le_bytes())?;
    put(&mut layout.head, headers.count_at + SYMBOLS, &[0; 8])?;
    let size_of_image = small(next_multiple(address, address_alignment))?;
    put(&mut layout.head, headers.optional_at + SIZE_OF_IMAGE, &size_of_image.to_le_bytes())?;
    // Firmware does not look at the checksum; zero says that there is none.
    put(&mut layout.head, headers.optional_at + CHECKSUM, &[0; 4])?;
    put(&mut layout.head, headers.optional_at + SECURITY_DIRECTORY, &[0; 8])?;
    Ok(layout)
}

fn check(headers: &Headers, arch: Arch, sections: &[(&str, u64)]) -> Result<(), UkiError> {
    if headers.machine != machine(arch) {
        return Err(UkiError::Machine { found: headers.machine, arch });
    }
    let is_alignment = |n: u32| n.is_power_of_two() && (16..=1 << 16).contains(&n);
    if !is_alignment(headers.file_alignment) || !is_alignment(headers.section_alignment) {
        return Err(UkiError::Unsuitable("its alignments are not powers of two up to 65536".into()));
    }
    if let Some((name, _)) = sections.iter().find(|(name, _)| headers.section(name).is_some()) {
        return Err(UkiError::Unsuitable(format!("it has a section {name} already")));
    }
    if headers.table_at < headers.optional_at + DIRECTORY_COUNT + 4 + 5 * 8 {
        return Err(UkiError::Unsuitable("its optional header is too short".into()));
    }
    let first = headers.sections.iter().filter(|s| s.raw_size > 0).map(|s| s.raw_offset as usize).min();
    let room = first.unwrap_or(usize::MAX).min(headers.size_of_headers as usize);
    let needed = headers.table_at + (headers.sections.len() + sections.len()) * SECTION_HEADER;
    match needed <= room {
        true => Ok(()),
        false => Err(UkiError::Unsuitable(format!(
            "its headers have room for {room} bytes, {} more sections need {needed}",
            sections.len()
        ))),
    }
}

/// `fields` are virtual size, virtual address, raw size and raw offset.
fn put_section(
    head: &mut [u8],
    table_at: usize,
    index: usize,
    name: &str,
    fields: [u64; 4],
) -> Result<(), UkiError> {
    let mut header = [0; SECTION_HEADER];
    put(&mut header, 0, name.as_bytes())?;
    for (index, field) in fields.into_iter().enumerate() {
        put(&mut header, 8 + 4 * index, &small(field)?.to_le_bytes())?;
    }
    put(&mut header, 36, &CHARACTERISTICS.to_le_bytes())?;
    put(head, table_at + index * SECTION_HEADER, &header)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> Result<(), UkiError> {
    let place = bytes.get_mut(at..).and_then(|rest| rest.get_mut(..value.len()));
    let place = place.ok_or_else(|| UkiError::Unsuitable("its headers are cut short".into()))?;
    place.copy_from_slice(value);
    Ok(())
}

fn small(value: u64) -> Result<u32, UkiError> {
    u32::try_from(value).map_err(|_| UkiError::TooLarge(value))
}

/// Saturates: what does not fit 32 bits is refused where it is written.
fn next_multiple(value: u64, of: u64) -> u64 {
    value.checked_next_multiple_of(of).unwrap_or(u64::MAX)
}
