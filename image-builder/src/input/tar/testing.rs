//! Writes archives for tests, the malformed ones included.

use super::format::BLOCK;

/// A header and what can be wrong about it.
#[derive(Clone)]
pub(crate) struct Draft<'a> {
    pub(crate) kind: u8,
    pub(crate) name: &'a [u8],
    pub(crate) link: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) device: (u32, u32),
    pub(crate) data: &'a [u8],
    /// The size that the header claims, where it is not that of the data.
    pub(crate) size: Option<u64>,
}

impl Default for Draft<'_> {
    fn default() -> Self {
        Self { kind: b'0', name: b"", link: b"", mode: 0o644, device: (0, 0), data: b"", size: None }
    }
}

/// An archive in the making.
#[derive(Default)]
pub(crate) struct Archive(pub(crate) Vec<u8>);

impl Archive {
    pub(crate) fn add(mut self, draft: &Draft<'_>) -> Self {
        self.0.extend_from_slice(&header(draft));
        self.data(draft.data)
    }

    /// Data as it is, padded.
    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }

    pub(crate) fn file(self, name: &[u8], data: &[u8]) -> Self {
        self.add(&Draft { name, data, ..Draft::default() })
    }

    pub(crate) fn directory(self, name: &[u8], mode: u32) -> Self {
        self.add(&Draft { kind: b'5', name, mode, ..Draft::default() })
    }

    pub(crate) fn hard_link(self, name: &[u8], link: &[u8]) -> Self {
        self.add(&Draft { kind: b'1', name, link, ..Draft::default() })
    }

    pub(crate) fn symlink(self, name: &[u8], link: &[u8]) -> Self {
        self.add(&Draft { kind: b'2', name, link, ..Draft::default() })
    }

    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let data: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.add(&Draft { kind: b'x', name: b"pax", data: &data, ..Draft::default() })
    }

    /// The archive with its end mark.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        self.0
    }
}

/// A ustar header.
pub(crate) fn header(draft: &Draft<'_>) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |offset: usize, bytes: &[u8]| header[offset..offset + bytes.len()].copy_from_slice(bytes);
    put(0, draft.name);
    put(100, format!("{:07o}", draft.mode).as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    match draft.size.unwrap_or(draft.data.len() as u64) {
        size if size < 1 << 33 => put(124, format!("{size:011o}").as_bytes()),
        size => {
            put(124, &[0x80, 0, 0, 0]);
            put(128, &size.to_be_bytes());
        }
    }
    put(136, format!("{:011o}", 1_600_000_000).as_bytes());
    put(156, &[draft.kind]);
    put(157, draft.link);
    put(257, b"ustar\x0000");
    put(329, format!("{:07o}", draft.device.0).as_bytes());
    put(337, format!("{:07o}", draft.device.1).as_bytes());
    sign(header)
}

/// `header` with the checksum that fits.
pub(crate) fn sign(mut header: [u8; BLOCK]) -> [u8; BLOCK] {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header
}

/// An extended header record; its length counts itself.
pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length =
        (1..20).map(|digits| rest + digits).find(|length| length.to_string().len() + rest == *length);
    let mut record = format!("{} {key}=", length.expect("a length")).into_bytes();
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}
