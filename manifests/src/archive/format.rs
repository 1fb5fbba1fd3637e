//! The layout of a member's header (POSIX.1-2001, pax: ustar interchange format) and the limits.
//!
//! ```text
//! offset size                                offset size
//!      0  100  name                             156    1  kind: '0' a file, 'x' what follows is for the next header
//!    100    8  mode, octal                      157  100  link
//!    108   16  user and group, octal            257    8  "ustar", NUL, "00"
//!    124   12  length in bytes, octal           265   80  names of user and group, device
//!    136   12  time, octal                      345  155  prefix: with a '/' between them, it comes before the name
//!    148    8  sum of all bytes, octal          500   12  zero
//! ```
//!
//! A header and what it describes each fill whole records of 512 bytes. Two records of zeros are the end. Where a path or a
//! length does not fit, an extended header of lines `LENGTH KEY=VALUE` comes before.

use std::ops::Range;

/// A record's length in bytes.
pub const RECORD: usize = 512;

/// The most members that are taken.
pub const MAX_MEMBERS: usize = 1 << 14;

/// The longest path of a member, in bytes.
pub const MAX_PATH: usize = 512;

/// The longest extended header, in bytes.
pub(super) const MAX_EXTENDED: u64 = 4096;

pub(super) const NAME: Range<usize> = 0..100;
pub(super) const MODE: Range<usize> = 100..108;
pub(super) const USER: Range<usize> = 108..116;
pub(super) const GROUP: Range<usize> = 116..124;
pub(super) const SIZE: Range<usize> = 124..136;
pub(super) const TIME: Range<usize> = 136..148;
pub(super) const SUM: Range<usize> = 148..156;
pub(super) const KIND: usize = 156;
pub(super) const MAGIC: Range<usize> = 257..265;
pub(super) const PREFIX: Range<usize> = 345..500;

/// "ustar", NUL and the version.
pub(super) const USTAR: [u8; 8] = *b"ustar\x0000";
/// A regular file.
pub(super) const FILE: u8 = b'0';
/// An extended header for the next one.
pub(super) const EXTENDED: u8 = b'x';
/// The largest length that a header has room for.
pub(super) const MAX_SIZE: u64 = 0o777_7777_7777;

/// The sum of a header's bytes, with blanks in its own place.
pub(super) fn sum(header: &[u8; RECORD]) -> u64 {
    let bytes = header.iter().enumerate();
    bytes.map(|(at, byte)| u64::from(if SUM.contains(&at) { b' ' } else { *byte })).sum()
}

/// Where the record after `end` starts.
pub(super) fn next_record(end: u64) -> Option<u64> {
    end.checked_next_multiple_of(RECORD as u64)
}

/// Whether a member may have this path: what stays below a repository's root, and means itself.
pub(super) fn is_path(path: &[u8]) -> bool {
    let strange = |byte: &u8| !byte.is_ascii_graphic() || *byte == b'\\';
    let is_part = |part: &[u8]| !matches!(part, b"" | b"." | b"..");
    path.len() <= MAX_PATH && !path.iter().any(strange) && path.split(|byte| *byte == b'/').all(is_part)
}
