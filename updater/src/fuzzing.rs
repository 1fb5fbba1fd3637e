//! What the fuzz targets need of the inside: the parsers that no other crate calls by themselves.

use std::ops::Range;

use crate::fetch;
use crate::machine::Record;

/// How many bytes at most would be taken of the body that follows such an answer; `None` if it is refused.
pub fn judge(
    status: u16,
    content_range: Option<&str>,
    content_length: Option<u64>,
    content_encoding: Option<&str>,
    range: &Range<u64>,
) -> Option<u64> {
    fetch::judge(status, content_range, content_length, content_encoding, range)
}

/// Whether a kernel's command line says what runs.
pub fn command_line(text: &str) -> bool {
    crate::host::is_ours(text)
}

/// The record without the envelope that holds its checksum.
pub fn record(bytes: &[u8]) -> Option<Record> {
    serde_json::from_slice(bytes).ok()
}
