//! Sparse files in the four ways that GNU tar has written them (GNU tar manual, "Storing Sparse Files").

use std::io::Read;

use super::TarError;
use super::format::{BLOCK, Header, MAX_SEGMENTS, Segment, extension};
use super::pax::{Records, decimal};

/// Where a sparse file's data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Map {
    /// The file's length with its holes.
    pub(super) size: u64,
    /// Runs of data, ascending, in the order in which the archive has them.
    pub(super) segments: Vec<Segment>,
    /// Bytes of the entry's data that the map itself took.
    pub(super) used: u64,
}

impl Map {
    /// The map of an old GNU entry (type `S`), whose extension blocks are read from `input`.
    pub(super) fn old_gnu(
        header: &Header,
        input: &mut dyn FnMut() -> Result<[u8; BLOCK], TarError>,
    ) -> Result<Self, TarError> {
        let (mut segments, mut more) = header.segments().ok_or(TarError::Sparse)?;
        while more {
            let (next, again) = extension(&input()?).ok_or(TarError::Sparse)?;
            segments.extend(next);
            more = again;
            if segments.len() > MAX_SEGMENTS {
                return Err(TarError::Sparse);
            }
        }
        Ok(Self { size: header.real_size().ok_or(TarError::Sparse)?, segments, used: 0 })
    }

    /// The map of a pax entry, of version 0.0, 0.1 or 1.0; version 1.0 keeps it at the start of `data`. Nothing when
    /// the entry is no sparse file.
    pub(super) fn pax(records: &Records, data: &mut dyn Read) -> Result<Option<Self>, TarError> {
        let size = match records.number("GNU.sparse.realsize")? {
            Some(size) => Some(size),
            None => records.number("GNU.sparse.size")?,
        };
        if records.get("GNU.sparse.major") == Some(b"1") {
            let (segments, used) = read_map(data)?;
            return Ok(Some(Self { size: size.ok_or(TarError::Sparse)?, segments, used }));
        }
        let Some(size) = size else { return Ok(None) };
        let numbers: Vec<&[u8]> = match records.get("GNU.sparse.map") {
            Some(map) => map.split(|byte| *byte == b',').collect(),
            None => records.all(&["GNU.sparse.offset", "GNU.sparse.numbytes"]).collect(),
        };
        let numbers: Option<Vec<u64>> = numbers.into_iter().map(decimal).collect();
        Ok(Some(Self { size, segments: pairs(&numbers.ok_or(TarError::Sparse)?)?, used: 0 }))
    }

    /// Checks that the segments ascend, fit the file, and make up exactly `stored` bytes.
    pub(super) fn check(self, stored: u64) -> Result<Self, TarError> {
        let mut end = 0;
        let mut sum = 0_u64;
        for segment in &self.segments {
            if segment.offset < end {
                return Err(TarError::Sparse);
            }
            end = segment.offset.checked_add(segment.length).ok_or(TarError::Sparse)?;
            // cannot overflow: the segments do not overlap
            sum += segment.length;
        }
        if end > self.size || Some(sum) != stored.checked_sub(self.used) {
            return Err(TarError::Sparse);
        }
        Ok(self)
    }
}

/// Reads a map of version 1.0: decimal numbers on a line each, how many pairs first, padded to a block.
fn read_map(data: &mut dyn Read) -> Result<(Vec<Segment>, u64), TarError> {
    let mut used = 0;
    let mut numbers: Vec<u64> = Vec::new();
    let mut digits = Vec::new();
    loop {
        let mut block = [0; BLOCK];
        data.read_exact(&mut block).map_err(TarError::Io)?;
        used += BLOCK as u64;
        for byte in block {
            if byte != b'\n' {
                digits.push(byte);
            } else {
                numbers.push(decimal(&digits).ok_or(TarError::Sparse)?);
                digits.clear();
            }
            if digits.len() > 20 || numbers.len() / 2 > MAX_SEGMENTS {
                return Err(TarError::Sparse);
            }
            if let Some((count, rest)) = numbers.split_first()
                && Some(rest.len() as u64) == count.checked_mul(2)
            {
                return Ok((pairs(rest)?, used));
            }
        }
    }
}

fn pairs(numbers: &[u64]) -> Result<Vec<Segment>, TarError> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() || pairs.len() > MAX_SEGMENTS {
        return Err(TarError::Sparse);
    }
    Ok(pairs.iter().map(|[offset, length]| Segment { offset: *offset, length: *length }).collect())
}
