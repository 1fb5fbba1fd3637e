//! Names of boot entries with boot counting: `<os>_<version>+<left>-<done>.efi`.
//!
//! Source: UAPI.1 Boot Loader Specification, "Boot counting"; systemd-boot keeps the counter in the
//! file's name and takes one try off at each start.

use std::fmt;
use std::str::FromStr;

use crate::name::OsName;
use crate::version::Version;

/// The longest file name that is looked at, in bytes: FAT's limit.
pub const MAX_NAME: usize = 255;

/// The largest count that systemd-boot takes for a counter (`INT_MAX`).
pub const MAX_COUNT: u32 = i32::MAX as u32;

/// The file name of a boot entry in `EFI/Linux/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryName {
    /// The OS, which is also the entry's sort key (`IMAGE_ID` in its os-release).
    pub os: OsName,
    /// The release's version, which entries of one OS are sorted by (`IMAGE_VERSION`).
    pub version: Version,
    /// The boot counter; `None` once the entry is proven.
    pub counter: Option<Counter>,
}

/// A boot counter: `+<left>` or `+<left>-<done>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// Boots that are left; an entry with none is passed over.
    pub left: u32,
    /// Boots that were used.
    pub done: u32,
}

/// The text is not the name of one of our boot entries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a boot entry's name: expected <os>_<version>[+<left>[-<done>]].efi")]
pub struct ParseEntryNameError(String);

impl EntryName {
    /// Whether the boot loader passes the entry over while there is any other.
    pub fn is_exhausted(&self) -> bool {
        self.counter.is_some_and(|counter| counter.left == 0)
    }

    /// Whether systemd-boot is certain to take this entry rather than `other`.
    ///
    /// Its order (`config_entry_compare` in systemd 252): entries with tries left, then the sort key
    /// ascending, then the version descending. How many tries are left plays no part, nor does an entry being
    /// proven. Between versions of equal age the file name decides, which is not relied on here: neither precedes.
    pub fn precedes(&self, other: &Self) -> bool {
        match (self.is_exhausted(), other.is_exhausted()) {
            (false, true) => true,
            (true, false) => false,
            _ if self.os == other.os => self.version.is_newer_than(&other.version),
            _ => self.os < other.os,
        }
    }

    /// Whether both name the same release, whatever their counters.
    pub fn is_same_release(&self, other: &Self) -> bool {
        self.os == other.os && self.version == other.version
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.os, self.version)?;
        match self.counter {
            None => {}
            Some(Counter { left, done: 0 }) => write!(f, "+{left}")?,
            Some(Counter { left, done }) => write!(f, "+{left}-{done}")?,
        }
        f.write_str(".efi")
    }
}

impl FromStr for EntryName {
    type Err = ParseEntryNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| ParseEntryNameError(text.chars().take(80).collect()))
    }
}

fn parse(text: &str) -> Option<EntryName> {
    if text.len() > MAX_NAME {
        return None;
    }
    let stem = text.strip_suffix(".efi")?;
    let (release, counter) = match stem.split_once('+') {
        Some((release, counter)) => (release, Some(parse_counter(counter)?)),
        None => (stem, None),
    };
    let (os, version) = release.split_once('_')?;
    Some(EntryName { os: os.parse().ok()?, version: version.parse().ok()?, counter })
}

fn parse_counter(text: &str) -> Option<Counter> {
    match text.split_once('-') {
        Some((left, done)) => Some(Counter { left: parse_count(left)?, done: parse_count(done)? }),
        None => Some(Counter { left: parse_count(text)?, done: 0 }),
    }
}

/// Digits alone: `u32::from_str` would take a sign.
fn parse_count(text: &str) -> Option<u32> {
    let digits = (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let count = if digits { text.parse().ok()? } else { return None };
    (count <= MAX_COUNT).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> EntryName {
        text.parse().unwrap()
    }

    #[test]
    fn the_series_a_counter_goes_through_parses() {
        let counters = [("+3", 3, 0), ("+2-1", 2, 1), ("+1-2", 1, 2), ("+0-3", 0, 3), ("+4-0", 4, 0)];
        for (text, left, done) in counters {
            let entry = name(&format!("acme-edge_1.0.0{text}.efi"));
            assert_eq!(entry.counter, Some(Counter { left, done }), "{text}");
            assert_eq!(entry.is_exhausted(), left == 0);
        }
        assert_eq!(name("acme-edge_2.0~rc1.efi").counter, None);
    }

    #[test]
    fn names_that_systemd_boot_reads_otherwise_are_refused() {
        for bad in [
            "acme_1.0",
            "acme.efi",
            "_1.0.efi",
            "acme_.efi",
            "acme_1.0+.efi",
            "acme_1.0+3-.efi",
            "acme_1.0+-1.efi",
            "acme_1.0++3.efi",
            "acme_1.0+3+3.efi",
            "acme_1.0+2147483648.efi",
            "acme_1.0+99999999999.efi",
            "acme_1.0+3.efi.part",
            "ACME_1~1.EFI",
            "a/b_1.0.efi",
            &format!("acme_1.0+{}.efi", "0".repeat(300)),
        ] {
            assert!(bad.parse::<EntryName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tries_come_before_age_and_age_before_proof() {
        assert!(name("acme_1.1.0+3.efi").precedes(&name("acme_1.0.0.efi")));
        assert!(name("acme_1.1.0.efi").precedes(&name("acme_1.0.0+3.efi")));
        assert!(name("acme_1.0.0.efi").precedes(&name("acme_1.1.0+0-3.efi")));
        assert!(name("acme_1.1.0+0.efi").precedes(&name("acme_1.0.0+0-3.efi")));
        assert!(name("acme_1.9.efi").precedes(&name("zeta_2.0.efi")));
        let (a, b) = (name("acme_1.0.efi"), name("acme_1.00.efi"));
        assert!(!a.precedes(&b) && !b.precedes(&a));
    }

    proptest! {
        #[test]
        fn names_round_trip(
            os in "[a-z][a-z0-9-]{0,31}",
            version in "[A-Za-z0-9][A-Za-z0-9.~^-]{0,47}",
            counter in proptest::option::of((0..=MAX_COUNT, 0..=MAX_COUNT)),
        ) {
            let counter = counter.map(|(left, done)| Counter { left, done });
            let entry = EntryName { os: os.parse().unwrap(), version: version.parse().unwrap(), counter };
            prop_assert!(entry.to_string().len() <= MAX_NAME);
            prop_assert_eq!(name(&entry.to_string()), entry);
        }

        #[test]
        fn any_text_is_refused_or_read(text in "\\PC{0,40}") {
            if let Ok(entry) = text.parse::<EntryName>() {
                prop_assert_eq!(name(&entry.to_string()), entry);
            }
        }
    }
}
