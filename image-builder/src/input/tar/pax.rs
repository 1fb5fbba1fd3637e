//! Extended header records (POSIX.1-2001 pax): `<length> <key>=<value>\n`, where a value may hold any byte.

use std::collections::BTreeMap;

use super::TarError;

/// The records of one extended header, in order; keys may come more than once.
#[derive(Debug, Clone, Default)]
pub(super) struct Records(Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    /// The records in `bytes`.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut records = Vec::new();
        let mut rest = bytes;
        // some writers pad with NULs
        while !rest.is_empty() && rest[0] != 0 {
            let space = rest.iter().take(20).position(|byte| *byte == b' ')?;
            let length = usize::try_from(decimal(&rest[..space])?).ok()?;
            let record = rest.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=')?;
            records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
            rest = &rest[length..];
        }
        Some(Self(records))
    }

    /// These records with `over` over them.
    pub(super) fn with(&self, over: Self) -> Self {
        Self(self.0.iter().cloned().chain(over.0).collect())
    }

    /// The last value of `key`; an empty one takes back what a global header said.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        let found = self.0.iter().rev().find(|(known, _)| known == key.as_bytes());
        found.map(|(_, value)| value.as_slice()).filter(|value| !value.is_empty())
    }

    /// The number that `key` has.
    pub(super) fn number(&self, key: &'static str) -> Result<Option<u64>, TarError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        decimal(value).map(Some).ok_or(TarError::Record { key })
    }

    /// The time that `key` has, in whole seconds; what is before 1970 counts as 1970.
    pub(super) fn time(&self, key: &'static str) -> Result<Option<u64>, TarError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let whole = value.split(|byte| *byte == b'.').next().unwrap_or(value);
        match whole {
            [b'-', ..] => Ok(Some(0)),
            _ => decimal(whole).map(Some).ok_or(TarError::Record { key }),
        }
    }

    /// All values of records with one of `keys`, in order.
    pub(super) fn all<'a>(&'a self, keys: &'a [&str]) -> impl Iterator<Item = &'a [u8]> {
        let wanted = move |key: &[u8]| keys.iter().any(|wanted| wanted.as_bytes() == key);
        self.0.iter().filter(move |(key, _)| wanted(key)).map(|(_, value)| value.as_slice())
    }

    /// The extended attributes, from whichever program wrote them: `SCHILY.xattr.` (star, GNU tar, Go),
    /// `LIBARCHIVE.xattr.` (bsdtar; base64), and GNU tar's `RHT.security.selinux`.
    pub(super) fn xattrs(&self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, TarError> {
        let mut xattrs = BTreeMap::new();
        for (key, value) in &self.0 {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                xattrs.insert(unescape(name), value.clone());
            } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                let value = base64(value).ok_or(TarError::Record { key: "LIBARCHIVE.xattr" })?;
                xattrs.entry(unescape(name)).or_insert(value);
            } else if key == b"RHT.security.selinux" {
                xattrs.insert(b"security.selinux".to_vec(), [value, &b"\0"[..]].concat());
            }
        }
        Ok(xattrs)
    }

    /// An access control list that is written as text only, which is not taken over.
    pub(super) fn text_acl(&self) -> bool {
        let text = self.get("SCHILY.acl.access").or_else(|| self.get("SCHILY.acl.default"));
        text.is_some() && !self.0.iter().any(|(key, _)| key.starts_with(b"SCHILY.xattr.system.posix_acl_"))
    }
}

/// A number of decimal digits alone.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    let some = !digits.is_empty();
    let value = digits.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    });
    value.filter(|_| some)
}

/// `%XX` undone: `=` and `%` cannot stand in a record's key.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((byte, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| *byte == b'%').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))
        });
        plain.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    plain
}

/// Base64 (RFC 4648 section 4), with or without padding.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.iter().take_while(|letter| **letter != b'=') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::testing::record;
    use super::*;

    fn records(pairs: &[(&str, &[u8])]) -> Records {
        let bytes: Vec<u8> = pairs.iter().flat_map(|(key, value)| record(key, value)).collect();
        Records::parse(&bytes).expect("records")
    }

    #[test]
    fn values_may_hold_any_byte() {
        let read = records(&[("SCHILY.xattr.user.a", b"\n=\0\n \xff"), ("size", b"7")]);
        assert_eq!(read.xattrs().expect("xattrs")[&b"user.a"[..]], b"\n=\0\n \xff");
        assert_eq!(read.number("size").expect("a number"), Some(7));
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"9 size=7"[..],
            b"99 size=7\n",
            b"size=7\n",
            b"0 a=\n",
            b"9 sizex7\n",
            b"99999999999999999999 a=b\n",
        ] {
            assert!(Records::parse(bad).is_none(), "{bad:?}");
        }
        let negative = records(&[("size", b"-7")]);
        assert_eq!(
            negative.number("size").expect_err("refused").to_string(),
            "the value of its record size is malformed"
        );
    }

    #[test]
    fn later_records_go_over_earlier_ones() {
        let global = records(&[("uid", b"7"), ("mtime", b"")]);
        let both = global.with(records(&[("uid", b"8"), ("mtime", b"-1.5")]));
        assert_eq!(both.number("uid").expect("a number"), Some(8));
        assert_eq!(both.time("mtime").expect("a time"), Some(0));
        assert_eq!(global.time("mtime").expect("no time"), None);
    }

    #[test]
    fn attributes_of_three_writers() {
        let read = records(&[
            ("LIBARCHIVE.xattr.user.a%3d", b"AQI/+w"),
            ("SCHILY.xattr.user.b", b"va"),
            ("RHT.security.selinux", b"ctx"),
        ]);
        let xattrs = read.xattrs().expect("attributes");
        assert_eq!(xattrs[&b"user.a="[..]], [1, 2, 0x3f, 0xfb]);
        assert_eq!(xattrs[&b"user.b"[..]], b"va");
        assert_eq!(xattrs[&b"security.selinux"[..]], b"ctx\0");
        assert_eq!(base64(b"AQI="), Some(vec![1, 2]));
        assert_eq!(base64(b"A*=="), None);
    }
}
