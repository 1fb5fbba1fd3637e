//! Sizes as people write them: `4GiB`, `512MiB`, or a number of bytes.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct Size(pub u64);

/// The text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a size; expected a number of bytes, or one with KiB, MiB, GiB or TiB, such as \"4GiB\""
)]
pub struct ParseSizeError(String);

const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];

impl FromStr for Size {
    type Err = ParseSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, shift) = UNITS
            .iter()
            .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?.trim_end(), *shift)))
            .unwrap_or((text, 0));
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let bytes = number.parse::<u64>().ok().filter(|_| digits).and_then(|n| n.checked_mul(1 << shift));
        bytes.map(Self).ok_or_else(|| ParseSizeError(text.chars().take(80).collect()))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Spelling)
    }
}

/// A size as it stands in a file: a number, or text.
struct Spelling;

impl Visitor<'_> for Spelling {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of bytes, or one with KiB, MiB, GiB or TiB, such as \"4GiB\"")
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<Size, E> {
        Ok(Size(bytes))
    }

    fn visit_i64<E: Error>(self, bytes: i64) -> Result<Size, E> {
        self.visit_str(&bytes.to_string())
    }

    fn visit_f64<E: Error>(self, bytes: f64) -> Result<Size, E> {
        self.visit_str(&format!("{bytes:?}"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
        text.parse().map_err(E::custom)
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

impl fmt::Display for Size {
    /// The largest unit that needs no fraction, so that it reads back as the same size.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, shift): &&(&str, u32)| self.0 != 0 && self.0.trailing_zeros() >= *shift;
        match UNITS.iter().rev().find(fits) {
            Some((unit, shift)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_trip() {
        for (text, bytes) in [("4GiB", 4 << 30), ("512 MiB", 512 << 20), ("1000", 1000), ("0", 0)] {
            let size: Size = text.parse().unwrap();
            assert_eq!(size, Size(bytes), "{text}");
            assert_eq!(size.to_string().parse(), Ok(size));
        }
    }

    #[test]
    fn what_stands_in_a_file_is_read_or_told_what_is_expected() {
        assert_eq!(serde_json::from_str::<Vec<Size>>("[5, \"4KiB\"]").unwrap(), [Size(5), Size(4096)]);
        for (bad, told) in [
            ("-5", "\"-5\" is not a size; expected a number of bytes, or one with KiB"),
            ("1.5", "\"1.5\" is not a size; expected a number of bytes, or one with KiB"),
            ("1.0", "\"1.0\" is not a size"),
            ("\"4GB\"", "\"4GB\" is not a size"),
            ("true", "invalid type: boolean `true`, expected a number of bytes, or one with KiB"),
        ] {
            let error = serde_json::from_str::<Size>(bad).unwrap_err().to_string();
            assert!(error.starts_with(told), "{error}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for bad in ["", "GiB", "4GB", "-1", "+1", "1.5GiB", "16777216TiB", "4 G"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }
}
