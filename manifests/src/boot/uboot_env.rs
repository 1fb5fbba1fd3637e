//! U-Boot's environment: variables under a checksum, in a file or a raw region, once or twice.
//!
//! Source: U-Boot 2023.01, `include/env_internal.h`, `env/common.c`, `env/flags.c`; the same bytes as `fw_printenv` and `fw_setenv`
//! read and write. Numbers have the processor's byte order, which is little-endian on all that an agent is built for.
//!
//! ```text
//! CRC-32 of the data, u32
//! flags, u8                 only where there are two copies
//! data                      NAME=value\0 ... \0, then filling to the end
//! ```
//!
//! Of two copies that are whole, the one whose flags come later counts: a serial number that wraps around, or on NOR flash 1
//! for the one that is in use.

use std::cmp::Ordering;

/// The largest environment that is read, in bytes.
pub const MAX_SIZE: usize = 1 << 20;

/// Why an environment cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UbootEnvError {
    /// There are not enough bytes for any.
    #[error("it is too short to be a U-Boot environment")]
    Short,
    /// The checksum is not that of the data.
    #[error("its checksum does not hold, so U-Boot uses its built-in environment instead")]
    Checksum,
    /// The variables do not fit.
    #[error("the variables need {needed} bytes, the environment has {size}")]
    Full {
        /// How many bytes they need.
        needed: usize,
        /// How many there are.
        size: usize,
    },
}

/// One copy of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UbootEnv {
    size: usize,
    flags: Option<u8>,
    fill: u8,
    variables: Vec<(Vec<u8>, Vec<u8>)>,
}

impl UbootEnv {
    /// An environment of `size` bytes without variables; `redundant` if it is one of two copies.
    pub fn empty(size: usize, redundant: bool) -> Self {
        Self { size, flags: redundant.then_some(0), fill: 0, variables: Vec::new() }
    }

    /// Reads a copy; `redundant` says whether there are two and so flags in each.
    pub fn parse(bytes: &[u8], redundant: bool) -> Result<Self, UbootEnvError> {
        let (checksum, rest) = bytes.split_first_chunk().ok_or(UbootEnvError::Short)?;
        let (flags, data) = match redundant {
            true => {
                rest.split_first().map(|(flags, data)| (Some(*flags), data)).ok_or(UbootEnvError::Short)?
            }
            false => (None, rest),
        };
        let last = *data.last().ok_or(UbootEnvError::Short)?;
        if u32::from_le_bytes(*checksum) != crc32(data) {
            return Err(UbootEnvError::Checksum);
        }
        let strings = data.split(|byte| *byte == 0).take_while(|string| !string.is_empty());
        let variables = strings.filter_map(|string| {
            let equals = string.iter().position(|byte| *byte == b'=')?;
            Some((string[..equals].to_vec(), string[equals + 1..].to_vec()))
        });
        // mkenvimage fills with 0xff, U-Boot with 0.
        let fill = if last == 0xff { 0xff } else { 0 };
        Ok(Self { size: bytes.len(), flags, fill, variables: variables.collect() })
    }

    /// The value of a variable; `None` also where it is not UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.variables.iter().find(|(found, _)| found == name.as_bytes())?;
        std::str::from_utf8(value).ok()
    }

    /// Sets a variable; an empty value removes it, as it does in U-Boot. A new one comes before all others.
    pub fn set(&mut self, name: &str, value: &str) {
        let at = self.variables.iter().position(|(found, _)| found == name.as_bytes());
        match (at, value) {
            (Some(at), "") => drop(self.variables.remove(at)),
            (Some(at), value) => self.variables[at].1 = value.into(),
            (None, "") => {}
            (None, value) => self.variables.insert(0, (name.into(), value.into())),
        }
    }

    /// Makes this the copy that counts beside the one it was read from.
    pub fn follow(&mut self) {
        self.flags = self.flags.map(|flags| flags.wrapping_add(1));
    }

    /// Which of two copies counts: U-Boot's own rule, and that of libubootenv.
    pub fn compare(&self, other: &Self) -> Ordering {
        match (self.flags, other.flags) {
            (Some(0), Some(255)) => Ordering::Greater,
            (Some(255), Some(0)) => Ordering::Less,
            (mine, others) => mine.cmp(&others),
        }
    }

    /// The copy's bytes, as many as it was read from.
    pub fn to_bytes(&self) -> Result<Vec<u8>, UbootEnvError> {
        let header = 4 + usize::from(self.flags.is_some());
        let mut data = Vec::new();
        for (name, value) in &self.variables {
            data.extend_from_slice(name);
            data.push(b'=');
            data.extend_from_slice(value);
            data.push(0);
        }
        data.push(0);
        if self.variables.is_empty() {
            // fw_printenv looks for two zeros.
            data.push(0);
        }
        let (needed, size) = (header + data.len(), self.size);
        if needed > size {
            return Err(UbootEnvError::Full { needed, size });
        }
        data.resize(size - header, self.fill);
        let checksum = crc32(&data).to_le_bytes();
        Ok(checksum.into_iter().chain(self.flags).chain(data).collect())
    }
}

/// CRC-32 as in Ethernet and zlib (polynomial 0xedb88320, reflected).
pub fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    };
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_checksum_is_the_common_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn a_damaged_or_short_one_is_refused() {
        let mut env = UbootEnv::empty(64, true);
        env.set("BOOT_ORDER", "A B");
        let mut bytes = env.to_bytes().unwrap();
        assert_eq!(UbootEnv::parse(&bytes, true).unwrap().get("BOOT_ORDER"), Some("A B"));
        assert_eq!(UbootEnv::parse(&bytes, false), Err(UbootEnvError::Checksum));
        bytes[20] ^= 1;
        assert_eq!(UbootEnv::parse(&bytes, true), Err(UbootEnvError::Checksum));
        for length in 0..6 {
            assert!(UbootEnv::parse(&bytes[..length], true).is_err());
        }
        env.set("long", &"x".repeat(64));
        assert!(matches!(env.to_bytes(), Err(UbootEnvError::Full { size: 64, .. })));
    }

    #[test]
    fn a_value_of_the_same_length_changes_one_sector() {
        let mut env = UbootEnv::empty(0x4000, false);
        env.set("bootcmd", "run distro_bootcmd");
        env.set("BOOT_A_LEFT", "3");
        let before = env.to_bytes().unwrap();
        env.set("BOOT_A_LEFT", "2");
        let after = env.to_bytes().unwrap();
        assert!(before[512..] == after[512..] && before != after);
        env.set("BOOT_A_LEFT", "");
        assert_eq!(env.get("BOOT_A_LEFT"), None);
    }

    #[test]
    fn the_serial_number_wraps_around() {
        let mut old = UbootEnv::empty(64, true);
        for _ in 0..600 {
            let mut new = old.clone();
            new.follow();
            assert_eq!((new.compare(&old), old.compare(&new)), (Ordering::Greater, Ordering::Less));
            old = new;
        }
    }

    proptest! {
        #[test]
        fn what_is_set_is_read_back(
            names in prop::collection::btree_map("[A-Za-z_]{1,8}", "[ -~]{1,20}", 0..12),
            redundant: bool,
        ) {
            let mut env = UbootEnv::empty(1024, redundant);
            names.iter().for_each(|(name, value)| env.set(name, value));
            let read = UbootEnv::parse(&env.to_bytes().unwrap(), redundant).unwrap();
            for (name, value) in &names {
                prop_assert_eq!(read.get(name), Some(value.as_str()));
            }
            prop_assert_eq!(read.to_bytes(), env.to_bytes());
        }

        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..40), redundant: bool) {
            let mut bytes = bytes;
            let header = 4 + usize::from(redundant);
            if bytes.len() > header {
                let checksum = crc32(&bytes[header..]);
                bytes[..4].copy_from_slice(&checksum.to_le_bytes());
            }
            if let Ok(env) = UbootEnv::parse(&bytes, redundant) {
                let _ = env.to_bytes();
            }
        }
    }
}
