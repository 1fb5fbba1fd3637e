//! The tar header block, by POSIX.1-1988 (ustar), GNU tar and V7: where its fields are and how numbers are written.
//!
//! ```text
//! offset length field                        offset length field (GNU, type S)
//!      0    100 name                            386     96 four sparse segments: offset 12, length 12
//!    100      8 mode                            482      1 more segments follow
//!    108      8 owner                           483     12 real size
//!    116      8 group
//!    124     12 size                          extension block of segments
//!    136     12 modification time                 0    504 21 segments
//!    148      8 checksum                        504      1 more follow
//!    156      1 type
//!    157    100 link's target
//!    257      8 magic and version
//!    329      8 major device number
//!    337      8 minor device number
//!    345    155 prefix of the name (ustar)
//! ```

/// Everything in an archive comes in blocks of this many bytes.
pub(crate) const BLOCK: usize = 512;

/// The longest name, target or set of extended records that is read.
pub(super) const MAX_EXTENSION: u64 = 1 << 20;

/// Most segments of a sparse file.
pub(super) const MAX_SEGMENTS: usize = 1 << 18;

/// A header block.
pub(super) struct Header(pub(super) [u8; BLOCK]);

/// A run of data in a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// Where it begins in the file.
    pub(super) offset: u64,
    /// How many bytes it has.
    pub(super) length: u64,
}

impl Header {
    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// Whether the checksum fits, summed as unsigned or, as some old programs did, signed bytes.
    pub(super) fn is_valid(&self) -> bool {
        let field = 148..156;
        let byte = |(index, byte): (usize, &u8)| if field.contains(&index) { b' ' } else { *byte };
        let unsigned: i64 = self.0.iter().enumerate().map(byte).map(i64::from).sum();
        let signed: i64 = self.0.iter().enumerate().map(byte).map(|byte| i64::from(byte.cast_signed())).sum();
        let sum = octal(&self.0[148..156]).and_then(|sum| i64::try_from(sum).ok());
        sum.is_some_and(|sum| sum == unsigned || sum == signed)
    }

    /// The type, with V7's ways of saying file and directory made plain.
    pub(super) fn kind(&self) -> u8 {
        match self.0[156] {
            0 | b'0' | b'7' if self.text(0, 100).ends_with(b"/") => b'5',
            0 | b'7' => b'0',
            kind => kind,
        }
    }

    pub(super) fn name(&self) -> Vec<u8> {
        let (name, prefix) = (self.text(0, 100), self.text(345, 155));
        if &self.0[257..263] == b"ustar\0" && !prefix.is_empty() {
            [prefix, b"/", name].concat()
        } else {
            name.to_vec()
        }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        self.text(157, 100).to_vec()
    }

    pub(super) fn mode(&self) -> Option<u64> {
        self.number(100, 8)
    }

    pub(super) fn uid(&self) -> Option<u64> {
        self.number(108, 8)
    }

    pub(super) fn gid(&self) -> Option<u64> {
        self.number(116, 8)
    }

    pub(super) fn size(&self) -> Option<u64> {
        self.number(124, 12)
    }

    /// Seconds since 1970; what is before counts as 1970.
    pub(super) fn time(&self) -> Option<u64> {
        if self.0[136] == 0xff { Some(0) } else { self.number(136, 12) }
    }

    pub(super) fn major(&self) -> Option<u64> {
        self.number(329, 8)
    }

    pub(super) fn minor(&self) -> Option<u64> {
        self.number(337, 8)
    }

    /// The size of an old GNU sparse file with its holes.
    pub(super) fn real_size(&self) -> Option<u64> {
        self.number(483, 12)
    }

    /// The first segments of an old GNU sparse file, and whether an extension block follows.
    pub(super) fn segments(&self) -> Option<(Vec<Segment>, bool)> {
        Some((segments(&self.0[386..482])?, self.0[482] != 0))
    }

    /// The bytes of a field up to its NUL.
    fn text(&self, offset: usize, length: usize) -> &[u8] {
        let field = &self.0[offset..offset + length];
        field.split(|byte| *byte == 0).next().unwrap_or(field)
    }

    fn number(&self, offset: usize, length: usize) -> Option<u64> {
        number(&self.0[offset..offset + length])
    }
}

/// The segments in an extension block, and whether another follows.
pub(super) fn extension(block: &[u8; BLOCK]) -> Option<(Vec<Segment>, bool)> {
    Some((segments(&block[..504])?, block[504] != 0))
}

fn segments(field: &[u8]) -> Option<Vec<Segment>> {
    let (pairs, _) = field.as_chunks::<24>();
    pairs
        .iter()
        .take_while(|pair| pair[0] != 0)
        .map(|pair| Some(Segment { offset: number(&pair[..12])?, length: number(&pair[12..])? }))
        .collect()
}

/// A number in octal digits, or, as GNU tar has it, in base 256 with the top bit set.
fn number(field: &[u8]) -> Option<u64> {
    match field.first() {
        Some(0x80) => {
            let (high, low) = field[1..].split_at((field.len() - 1).saturating_sub(8));
            let value = low.iter().fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
            high.iter().all(|byte| *byte == 0).then_some(value)
        }
        _ => octal(field),
    }
}

/// Octal digits between spaces and NULs; nothing at all is zero.
fn octal(field: &[u8]) -> Option<u64> {
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let digits = field[start..].split(blank).next().unwrap_or(b"");
    digits.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_both_writings() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"77777777"), Some(0o77777777));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"0000648\0"), None);
        assert_eq!(number(b"-000644\0"), None);
        assert_eq!(number(&[0x80, 0, 0, 0, 1, 0, 0, 0]), Some(1 << 24));
        assert_eq!(number(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Some(u64::MAX));
        assert_eq!(number(&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(number(&[0xff; 12]), None);
    }
}
