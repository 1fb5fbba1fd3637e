//! Versions of a release and their order.
//!
//! Source of the order: UAPI.10 Version Format Specification, the same that systemd-boot sorts boot
//! entries by, so that the boot loader and the agent agree on which release is newer.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A release's version, such as `1.2.0` or `2.0~rc1`.
///
/// 1 to 48 bytes of `A-Z a-z 0-9 . - ~ ^`, starting with a letter or a digit: `_` and `+` are left out
/// because a boot entry's name puts them around the version. Versions that differ in spelling only
/// (`1.0` and `1.00`) are different versions of equal age.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

/// The text is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a version: 1 to 48 of A-Z a-z 0-9 . - ~ ^, starting with a letter or a digit")]
pub struct ParseVersionError(String);

impl Version {
    /// The version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which of the two is newer, by UAPI.10.
    pub fn age(&self, other: &Self) -> Ordering {
        compare(self.0.as_bytes(), other.0.as_bytes())
    }

    /// Whether this version is newer than `other`.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        self.age(other) == Ordering::Greater
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Version {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = (1..=48).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-~^".contains(&b));
        match valid {
            true => Ok(Self(text.to_owned())),
            false => Err(ParseVersionError(text.chars().take(80).collect())),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = ParseVersionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.0
    }
}

/// UAPI.10, "Version comparison", step by step; the numbers are the specification's.
fn compare(mut a: &[u8], mut b: &[u8]) -> Ordering {
    loop {
        // 1. Characters outside the alphabet, which the specification skips, cannot occur here.
        // 2. `~` sorts before everything, the end of the text included.
        if let Some(order) = marker(&mut a, &mut b, b'~', Ordering::Less) {
            return order;
        }
        // 3. A text that has ended sorts before one that has not.
        if a.is_empty() || b.is_empty() {
            return a.len().cmp(&b.len());
        }
        // 4.-6. `-`, then `^`, then `.`: the one that has it is older.
        for sign in [b'-', b'^', b'.'] {
            match (a.first() == Some(&sign), b.first() == Some(&sign)) {
                (true, false) => return Ordering::Less,
                (false, true) => return Ordering::Greater,
                (true, true) => (a, b) = (&a[1..], &b[1..]),
                (false, false) => {}
            }
        }
        // 7. Runs of digits by value; a number is newer than a letter.
        let order = if starts_with_digit(a) || starts_with_digit(b) {
            compare_numbers(run(&mut a, u8::is_ascii_digit), run(&mut b, u8::is_ascii_digit))
        } else {
            // 8. Runs of letters by ASCII.
            let letters = |c: &u8| c.is_ascii_alphabetic();
            run(&mut a, letters).cmp(run(&mut b, letters))
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

fn marker(a: &mut &[u8], b: &mut &[u8], sign: u8, having: Ordering) -> Option<Ordering> {
    match (a.first() == Some(&sign), b.first() == Some(&sign)) {
        (true, false) => Some(having),
        (false, true) => Some(having.reverse()),
        (true, true) => {
            (*a, *b) = (&a[1..], &b[1..]);
            None
        }
        (false, false) => None,
    }
}

fn starts_with_digit(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_digit)
}

fn run<'a>(text: &mut &'a [u8], belongs: impl Fn(&u8) -> bool) -> &'a [u8] {
    let length = text.iter().position(|c| !belongs(c)).unwrap_or(text.len());
    let (head, rest) = text.split_at(length);
    *text = rest;
    head
}

/// An empty run is older than any number, which makes letters older than digits.
fn compare_numbers(a: &[u8], b: &[u8]) -> Ordering {
    if a.is_empty() || b.is_empty() {
        return a.len().cmp(&b.len());
    }
    let strip = |digits: &[u8]| digits.iter().position(|d| *d != b'0').unwrap_or(digits.len());
    let (a, b) = (&a[strip(a)..], &b[strip(b)..]);
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example list of UAPI.10, oldest first, without what our alphabet leaves out.
    const OLDEST_FIRST: [&str; 14] = [
        "122.1",
        "123~rc1-1",
        "123",
        "123-a",
        "123-a.1",
        "123-1",
        "123-1.1",
        "123^post1",
        "123.a-1",
        "123.1-1",
        "123a-1",
        "124-1",
        "124.0",
        "1000",
    ];

    #[test]
    fn the_specifications_examples_are_in_order() {
        let versions: Vec<Version> = OLDEST_FIRST.iter().filter_map(|text| text.parse().ok()).collect();
        assert_eq!(versions.len(), OLDEST_FIRST.len());
        for (i, a) in versions.iter().enumerate() {
            for (j, b) in versions.iter().enumerate() {
                assert_eq!(a.age(b), i.cmp(&j), "{a} against {b}");
            }
        }
    }

    #[test]
    fn leading_zeros_do_not_make_a_version_newer() {
        let [a, b]: [Version; 2] = ["1.01", "1.1"].map(|text| text.parse().unwrap());
        assert_eq!(a.age(&b), Ordering::Equal);
        assert_ne!(a, b);
    }

    #[test]
    fn text_that_would_break_a_boot_entrys_name_is_refused() {
        for bad in ["", "1_0", "1+3", "1/0", "~1", ".1", "1 0", "é", &"1".repeat(49)] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
    }
}
