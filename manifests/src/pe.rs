//! The headers of a PE image (an EFI program): where its sections are.
//!
//! Source: Microsoft PE/COFF specification, "Overview". Only what a unified kernel image (UAPI.5) needs is read:
//!
//! ```text
//! 0x00  "MZ" … 0x3c u32: offset of the PE header
//!       "PE\0\0"
//!       file header, 20 bytes: machine u16, sections u16, …, size of the optional header u16 at 16
//!       optional header: magic u16 (0x20b), …, section alignment u32 at 32, file alignment at 36,
//!                        size of image at 56, size of headers at 60, checksum at 64
//!       section headers, 40 bytes each
//! ```
//!
//! Whatever writes such an image is in the image builder.

/// The first bytes of every PE image; what the boot loader tells an entry by.
pub const MAGIC: [u8; 2] = *b"MZ";

/// How many bytes from the start of an image are enough for [`Headers::parse`].
pub const MAX_HEADERS: usize = 64 << 10;

/// The most sections an image may have (the Windows loader's limit).
pub const MAX_SECTIONS: u16 = 96;

/// Length of a section header in bytes.
pub const SECTION_HEADER: usize = 40;

/// The longest `.cmdline` or `.osrel` that is worth reading, in bytes.
pub const MAX_TEXT: u64 = 64 << 10;

/// What an image's headers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    /// The machine type: 0x8664 for x86-64, 0xaa64 for Arm.
    pub machine: u16,
    /// Offset of the file header's section count.
    pub count_at: usize,
    /// Offset of the optional header.
    pub optional_at: usize,
    /// Offset of the first section header.
    pub table_at: usize,
    /// What a section's address is a multiple of.
    pub section_alignment: u32,
    /// What a section's offset and length in the file are multiples of.
    pub file_alignment: u32,
    /// Length of all headers in the file, padding included.
    pub size_of_headers: u32,
    /// The sections in the order of their headers.
    pub sections: Vec<Section>,
}

/// A section's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// The name, padded with NUL.
    pub name: [u8; 8],
    /// Length in memory; the length of the content proper where it is not padded.
    pub virtual_size: u32,
    /// Address in memory, relative to the image's.
    pub virtual_address: u32,
    /// Length in the file.
    pub raw_size: u32,
    /// Offset in the file.
    pub raw_offset: u32,
}

/// Why bytes are not a PE image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeError {
    /// Not an EFI program at all.
    #[error("not an EFI program: {0}")]
    NotPe(&'static str),
    /// The headers end before they should.
    #[error("the headers of the EFI program are truncated")]
    Truncated,
    /// More sections than [`MAX_SECTIONS`].
    #[error("the EFI program has {0} sections, more than the {MAX_SECTIONS} allowed")]
    TooManySections(u16),
}

impl Headers {
    /// Where the last section ends in the file, in bytes.
    pub fn end(&self) -> u64 {
        let ends =
            self.sections.iter().map(|section| u64::from(section.raw_offset) + u64::from(section.raw_size));
        ends.max().unwrap_or(0)
    }

    /// Reads the headers from the start of an image; at most the first [`MAX_HEADERS`] bytes matter.
    pub fn parse(bytes: &[u8]) -> Result<Self, PeError> {
        let bytes = &bytes[..bytes.len().min(MAX_HEADERS)];
        if !bytes.starts_with(&MAGIC) {
            return Err(PeError::NotPe("no MZ at its start"));
        }
        let pe = u32_at(bytes, 0x3c)? as usize;
        if array_at::<4>(bytes, pe)? != *b"PE\0\0" {
            return Err(PeError::NotPe("no PE header"));
        }
        // The parse above has shown that `pe` lies inside of MAX_HEADERS: sums of it cannot overflow.
        let (file, optional) = (pe + 4, pe + 24);
        if u16_at(bytes, optional)? != 0x20b {
            return Err(PeError::NotPe("not PE32+"));
        }
        let table_at = optional + usize::from(u16_at(bytes, file + 16)?);
        let count = u16_at(bytes, file + 2)?;
        if count > MAX_SECTIONS {
            return Err(PeError::TooManySections(count));
        }
        let at = |index: u16| table_at + usize::from(index) * SECTION_HEADER;
        Ok(Self {
            machine: u16_at(bytes, file)?,
            count_at: file + 2,
            optional_at: optional,
            table_at,
            section_alignment: u32_at(bytes, optional + 32)?,
            file_alignment: u32_at(bytes, optional + 36)?,
            size_of_headers: u32_at(bytes, optional + 60)?,
            sections: (0..count).map(|index| Section::parse(bytes, at(index))).collect::<Result<_, _>>()?,
        })
    }

    /// The section of that name, the last one where there are several, as systemd-boot has it.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().rev().find(|section| section.is_named(name))
    }
}

impl Section {
    /// Whether the section has that name.
    pub fn is_named(&self, name: &str) -> bool {
        let length = self.name.iter().position(|b| *b == 0).unwrap_or(self.name.len());
        &self.name[..length] == name.as_bytes()
    }

    /// Where the content is in the file: offset and length, without padding.
    pub fn content(&self) -> (u64, u64) {
        (self.raw_offset.into(), self.virtual_size.min(self.raw_size).into())
    }

    fn parse(bytes: &[u8], at: usize) -> Result<Self, PeError> {
        Ok(Self {
            name: array_at(bytes, at)?,
            virtual_size: u32_at(bytes, at + 8)?,
            virtual_address: u32_at(bytes, at + 12)?,
            raw_size: u32_at(bytes, at + 16)?,
            raw_offset: u32_at(bytes, at + 20)?,
        })
    }
}

/// The value of `key=` on a kernel command line, the last one where there are several.
pub fn argument<'a>(command_line: &'a str, key: &str) -> Option<&'a str> {
    let value = |word: &'a str| word.strip_prefix(key)?.strip_prefix('=');
    command_line.split_ascii_whitespace().rev().find_map(value)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], PeError> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(PeError::Truncated)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, PeError> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, PeError> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An image of headers alone, with one section a name.
    fn image(names: &[&str]) -> Vec<u8> {
        let mut bytes = vec![0; 0x400];
        bytes[..2].copy_from_slice(&MAGIC);
        bytes[0x3c..0x40].copy_from_slice(&0x80u32.to_le_bytes());
        bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
        bytes[0x84..0x86].copy_from_slice(&0x8664u16.to_le_bytes());
        bytes[0x86..0x88].copy_from_slice(&(names.len() as u16).to_le_bytes());
        bytes[0x94..0x96].copy_from_slice(&0xf0u16.to_le_bytes());
        bytes[0x98..0x9a].copy_from_slice(&0x20bu16.to_le_bytes());
        for (index, name) in names.iter().enumerate() {
            let at = 0x188 + index * SECTION_HEADER;
            bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
            bytes[at + 8..at + 12].copy_from_slice(&5u32.to_le_bytes());
            bytes[at + 16..at + 20].copy_from_slice(&512u32.to_le_bytes());
            bytes[at + 20..at + 24].copy_from_slice(&(index as u32 * 512).to_le_bytes());
        }
        bytes
    }

    #[test]
    fn sections_are_found_by_their_whole_name() {
        let headers = Headers::parse(&image(&[".osrel", ".cmdline", ".linux"])).unwrap();
        assert_eq!(headers.section(".cmdline").map(Section::content), Some((512, 5)));
        assert_eq!(headers.section(".cmd"), None);
        assert_eq!(headers.section(".lin"), None);
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = image(&[".osrel", ".cmdline"]);
        let end = 0x188 + 2 * SECTION_HEADER;
        for length in 0..end - 16 {
            assert!(Headers::parse(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_section_count_beyond_the_limit_is_refused() {
        let mut bytes = image(&[".osrel"]);
        bytes[0x86..0x88].copy_from_slice(&97u16.to_le_bytes());
        assert_eq!(Headers::parse(&bytes), Err(PeError::TooManySections(97)));
    }

    #[test]
    fn the_last_of_equal_arguments_counts() {
        let line = "root=/dev/a roothash=11 quiet roothash=22 xroothash=33";
        assert_eq!(argument(line, "roothash"), Some("22"));
        assert_eq!(argument(line, "quiet"), None);
        assert_eq!(argument(line, "hash"), None);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), pe in any::<u32>()) {
            let _ = Headers::parse(&bytes);
            if bytes.len() >= 0x40 {
                bytes[..2].copy_from_slice(&MAGIC);
                bytes[0x3c..0x40].copy_from_slice(&pe.to_le_bytes());
                let _ = Headers::parse(&bytes);
            }
        }

        #[test]
        fn damaged_headers_never_panic(at in 0usize..0x400, value in any::<u8>()) {
            let mut bytes = image(&[".osrel", ".cmdline"]);
            bytes[at] = value;
            let _ = Headers::parse(&bytes);
        }
    }
}
