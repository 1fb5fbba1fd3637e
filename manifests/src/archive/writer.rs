//! Writes members; the same files and time give the same bytes.

use super::format::*;

/// What an export ends with.
pub const END: [u8; 2 * RECORD] = [0; 2 * RECORD];

/// What comes before a file's bytes: its header, and an extended one where path or length need it. `time` is in seconds since 1970.
/// None if no export may hold such a path.
pub fn head(path: &str, size: u64, time: u64) -> Option<Vec<u8>> {
    if !is_path(path.as_bytes()) {
        return None;
    }
    let mut lines = Vec::new();
    let split = split(path);
    if split.is_none() {
        lines.extend(line("path", path));
    }
    if size > MAX_SIZE {
        lines.extend(line("size", &size.to_string()));
    }
    let mut bytes = Vec::new();
    if !lines.is_empty() {
        let length = lines.len() as u64;
        bytes.extend(header(("", "extended"), EXTENDED, length, time));
        bytes.extend(&lines);
        bytes.extend(vec![0; padding(length)]);
    }
    let size = if size > MAX_SIZE { 0 } else { size };
    bytes.extend(header(split.unwrap_or(("", "extended")), FILE, size, time));
    Some(bytes)
}

/// How many zeros follow a file of that length.
pub fn padding(size: u64) -> usize {
    (size.wrapping_neg() % RECORD as u64) as usize
}

/// Prefix and name; none where a header has no room for them.
fn split(path: &str) -> Option<(&str, &str)> {
    if path.len() <= NAME.len() {
        return Some(("", path));
    }
    let fits = |(prefix, name): &(&str, &str)| prefix.len() <= PREFIX.len() && name.len() <= NAME.len();
    path.match_indices('/').map(|(at, _)| (&path[..at], &path[at + 1..])).find(fits)
}

fn header((prefix, name): (&str, &str), kind: u8, size: u64, time: u64) -> [u8; RECORD] {
    let mut header = [0; RECORD];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(NAME.start, name.as_bytes());
    put(MODE.start, b"0000644");
    put(USER.start, b"0000000");
    put(GROUP.start, b"0000000");
    put(SIZE.start, format!("{size:011o}").as_bytes());
    put(TIME.start, format!("{:011o}", time.min(MAX_SIZE)).as_bytes());
    put(KIND, &[kind]);
    put(MAGIC.start, &USTAR);
    put(PREFIX.start, prefix.as_bytes());
    let sum = format!("{:06o}\0 ", sum(&header));
    header[SUM].copy_from_slice(sum.as_bytes());
    header
}

/// `LENGTH KEY=VALUE`, where the length counts its own digits.
fn line(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n").into_bytes()
}
