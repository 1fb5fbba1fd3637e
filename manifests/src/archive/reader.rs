//! Finds the members of an export file: headers alone are read.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use super::format::*;

/// Why a file is not taken for an export.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// It does not start as one.
    #[error("it is not an export: `upright-build export` makes one")]
    Magic,
    /// It ends too early.
    #[error("it is cut off after {0} bytes: copy it again, and unmount the medium before it is taken out")]
    Truncated(u64),
    /// A header that `upright-build export` does not write.
    #[error("its header at byte {at} has {what}: make it again with `upright-build export`")]
    Header {
        /// Where the header starts.
        at: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// More members than there may be.
    #[error("it has more than {MAX_MEMBERS} files: make it again with `upright-build export`")]
    TooMany,
}

/// The files in an export, and where they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    files: BTreeMap<String, Range<u64>>,
}

impl Contents {
    /// Where the bytes of the file at `path` are in the export.
    pub fn find(&self, path: &str) -> Option<Range<u64>> {
        self.files.get(path).cloned()
    }

    /// All files, by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Range<u64>)> {
        self.files.iter().map(|(path, range)| (path.as_str(), range))
    }
}

/// What an extended header says of the next member.
#[derive(Default)]
struct Extended {
    path: Option<String>,
    size: Option<u64>,
}

/// Finds the members of an export of `length` bytes. `read` fills a buffer from an offset. Allocates in proportion to the headers
/// that there are, within the limits.
pub fn read(
    length: u64,
    read: &mut dyn FnMut(&mut [u8], u64) -> io::Result<()>,
) -> Result<Contents, ArchiveError> {
    let mut contents = Contents::default();
    let mut extended: Option<Extended> = None;
    let mut at = 0;
    let mut header = [0; RECORD];
    // Each member may have an extended header.
    for _ in 0..=2 * MAX_MEMBERS {
        let body = at + RECORD as u64;
        if body > length {
            return Err(if at == 0 { ArchiveError::Magic } else { ArchiveError::Truncated(length) });
        }
        read(&mut header, at)?;
        if at > 0 && extended.is_none() && header == [0; RECORD] {
            return Ok(contents);
        }
        let wrong = |what| ArchiveError::Header { at, what };
        if header[MAGIC] != USTAR || octal(&header[SUM]) != Some(sum(&header)) {
            return Err(if at == 0 { ArchiveError::Magic } else { wrong("another format or is damaged") });
        }
        let own = octal(&header[SIZE]).ok_or_else(|| wrong("no length"))?;
        let size = extended.as_ref().and_then(|extended| extended.size).unwrap_or(own);
        let end = body.checked_add(size).filter(|end| *end <= length);
        let end = end.ok_or(ArchiveError::Truncated(length))?;
        match header[KIND] {
            EXTENDED if extended.is_none() => {
                if size > MAX_EXTENDED {
                    return Err(wrong("too many attributes"));
                }
                let mut text = vec![0; size as usize];
                read(&mut text, body)?;
                extended = Some(attributes(&text).ok_or_else(|| wrong("malformed attributes"))?);
            }
            FILE | 0 => {
                let path = extended.take().and_then(|extended| extended.path);
                let path = path.or_else(|| path_in(&header)).filter(|path| is_path(path.as_bytes()));
                let path = path.ok_or_else(|| wrong("a path that leads out of it"))?;
                if contents.files.len() == MAX_MEMBERS {
                    return Err(ArchiveError::TooMany);
                }
                if contents.files.insert(path, body..end).is_some() {
                    return Err(wrong("a file that is there twice"));
                }
            }
            _ => return Err(wrong("something else than a file")),
        }
        at = next_record(end).ok_or(ArchiveError::Truncated(length))?;
    }
    Err(ArchiveError::TooMany)
}

/// A number in octal digits, which blanks and NULs may surround.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(|c| c == ' ' || c == '\0');
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    u64::from_str_radix(text, 8).ok().filter(|_| digits)
}

/// The text in a field, up to a NUL.
fn text(field: &[u8]) -> Option<&str> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    std::str::from_utf8(field.get(..end)?).ok()
}

fn path_in(header: &[u8; RECORD]) -> Option<String> {
    let (name, prefix) = (text(&header[NAME])?, text(&header[PREFIX])?);
    Some(if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") })
}

/// Lines of `LENGTH KEY=VALUE`; what is not needed here is passed over.
fn attributes(mut rest: &[u8]) -> Option<Extended> {
    let mut found = Extended::default();
    while !rest.is_empty() {
        let blank = rest.iter().take(6).position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&rest[..blank]).ok()?.parse().ok()?;
        let (line, after) = rest.split_at_checked(length)?;
        let line = line.get(blank + 1..)?.strip_suffix(b"\n")?;
        let equals = line.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (&line[..equals], &line[equals + 1..]);
        match key {
            b"path" => found.path = Some(std::str::from_utf8(value).ok()?.to_owned()),
            b"size" => found.size = Some(std::str::from_utf8(value).ok()?.parse().ok()?),
            _ => {}
        }
        rest = after;
    }
    Some(found)
}
