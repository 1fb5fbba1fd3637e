//! Where U-Boot keeps its environment: `/etc/fw_env.config`, the file of `fw_printenv` and `fw_setenv`.
//!
//! A line for each copy, one or two: `DEVICE-OR-FILE  OFFSET  SIZE  [...]`, `#` begins a comment. Numbers are decimal, or
//! hexadecimal with `0x`; an offset below zero counts from the end. What follows the size is for flash, which needs erasing.

use std::io;
use std::path::{Path, PathBuf};

use upright_manifests::boot::uboot_env::MAX_SIZE;

/// The longest file that is read, in bytes.
const MAX_CONFIG: usize = 64 << 10;

/// The smallest environment that could hold anything, in bytes.
const MIN_SIZE: usize = 64;

/// Where one copy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The block device or file.
    pub(crate) path: PathBuf,
    /// Where it begins, in bytes; below zero from the end.
    pub(crate) offset: i64,
    /// How long it is, in bytes.
    pub(crate) size: usize,
}

/// Where all copies are: one or two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places(Vec<Place>);

impl Places {
    /// Reads the file at `path`.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let bytes = crate::boot::sectors::read(path, MAX_CONFIG)?;
        Self::parse(&String::from_utf8_lossy(&bytes)).map_err(|reason| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {reason}", path.display()))
        })
    }

    /// The copies in a file's text; an error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
        let places = lines.filter(|line| !line.trim().is_empty()).map(parse_line);
        let places = places.collect::<Result<Vec<_>, _>>()?;
        match places.as_slice() {
            [_] => Ok(Self(places)),
            [one, other] if one.size != other.size => {
                Err(format!("the copies have {} and {} bytes, expected the same", one.size, other.size))
            }
            [one, other] if one.path == other.path && overlap(one, other) => {
                Err("the two copies lie over each other".to_owned())
            }
            [_, _] => Ok(Self(places)),
            _ => Err(format!("it names {} places, expected one or two", places.len())),
        }
    }

    /// The copies.
    pub(crate) fn all(&self) -> &[Place] {
        &self.0
    }
}

fn overlap(one: &Place, other: &Place) -> bool {
    let size = i64::try_from(one.size).unwrap_or(i64::MAX);
    one.offset.signum() * other.offset.signum() >= 0
        && one.offset.abs_diff(other.offset) < size.unsigned_abs()
}

fn parse_line(line: &str) -> Result<Place, String> {
    let mut words = line.split_whitespace();
    let (Some(path), Some(offset), Some(size)) = (words.next(), words.next(), words.next()) else {
        return Err(format!("{:?} has no device, offset and size", line.trim()));
    };
    if path.starts_with("/dev/mtd") && !path.starts_with("/dev/mtdblock") || path.starts_with("/dev/ubi") {
        return Err(format!(
            "{path} is raw flash, which needs erasing; use the custom boot loader with fw_setenv, or an environment on a block device"
        ));
    }
    let offset = number(offset).ok_or_else(|| format!("{offset:?} is not an offset"))?;
    let size = number(size).and_then(|size| usize::try_from(size).ok());
    let size = size.filter(|size| (MIN_SIZE..=MAX_SIZE).contains(size));
    let size =
        size.ok_or_else(|| format!("{:?} has no size of {MIN_SIZE} to {MAX_SIZE} bytes", line.trim()))?;
    Ok(Place { path: path.into(), offset, size })
}

fn number(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let number = match digits.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    number.ok()?.checked_mul(sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_or_two_copies_are_read() {
        let places = Places::parse(
            "# the board's\n/dev/mmcblk0 0x400000 0x4000 # first\n\n/dev/mmcblk0\t0x404000 16384\n",
        );
        let place = |offset| Place { path: "/dev/mmcblk0".into(), offset, size: 0x4000 };
        assert_eq!(places.unwrap().all(), [place(0x40_0000), place(0x40_4000)]);
        assert_eq!(Places::parse("/efi/uboot.env -0x4000 0x4000").unwrap().all()[0].offset, -0x4000);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, expected) in [
            ("", "it names 0 places, expected one or two"),
            ("/dev/mmcblk0 0x400000\n", "\"/dev/mmcblk0 0x400000\" has no device, offset and size"),
            ("/dev/mmcblk0 x 0x4000\n", "\"x\" is not an offset"),
            ("/dev/mmcblk0 0 0x10\n", "\"/dev/mmcblk0 0 0x10\" has no size of 64 to 1048576 bytes"),
            ("/dev/mtd1 0 0x4000 0x1000\n", "/dev/mtd1 is raw flash"),
            ("a 0 0x4000\na 0x3000 0x4000\n", "the two copies lie over each other"),
            ("a 0 0x4000\na 0x8000 0x2000\n", "the copies have 16384 and 8192 bytes, expected the same"),
        ] {
            let error = Places::parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
