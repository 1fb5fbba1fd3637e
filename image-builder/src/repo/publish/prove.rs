//! Applies a delta as a host would before anyone is told about it, and compares what it makes with what it should make.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use upright_manifests::delta::{Applier, Head, Source, Sources};

/// The images a delta reads from.
pub(super) struct Images<'a> {
    /// The root image that the delta starts from.
    pub(super) base: Option<&'a File>,
    /// The root image of the delta's own release.
    pub(super) root: &'a File,
}

/// What a delta should make.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    /// A root image.
    Image(&'a File),
    /// A UKI.
    Uki(&'a [u8]),
}

/// Fails, with the reason, unless the file `delta` with a head of `head_size` bytes makes `target` out of `images`.
pub(super) fn prove(
    delta: &File,
    head_size: u64,
    images: &Images<'_>,
    target: Target<'_>,
) -> Result<(), String> {
    let read = |offset: u64, length: u64| {
        let mut bytes = vec![0; usize::try_from(length).map_err(|error| error.to_string())?];
        delta.read_exact_at(&mut bytes, offset).map_err(|error| error.to_string())?;
        Ok::<_, String>(bytes)
    };
    let head = Head::parse(&read(0, head_size)?).map_err(|error| error.to_string())?;
    let mut applier = Applier::new(&head, images);
    for (number, segment) in head.segments.iter().enumerate() {
        let packed = read(segment.offset, u64::from(segment.packed))?;
        let mut compare = Compare { target, at: segment.start, buffer: vec![0; 64 << 10] };
        applier.apply(number, &packed, &mut compare).map_err(|error| error.to_string())?;
        if compare.at != segment.start + u64::from(segment.length) {
            return Err(format!("segment {number} makes too little"));
        }
    }
    Ok(())
}

impl Sources for Images<'_> {
    fn read_at(&self, source: Source, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let image = match source {
            Source::Base => self.base.ok_or_else(|| io::Error::other("there is no image to start from"))?,
            Source::Root => self.root,
            Source::Plain => return Err(io::ErrorKind::Unsupported.into()),
        };
        image.read_exact_at(buffer, offset)
    }
}

/// Takes bytes that must be those of the target.
struct Compare<'a> {
    target: Target<'a>,
    at: u64,
    buffer: Vec<u8>,
}

impl Write for Compare<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(self.buffer.len());
        let (bytes, expected) = (&bytes[..length], &mut self.buffer[..length]);
        match self.target {
            Target::Image(image) => image.read_exact_at(expected, self.at)?,
            Target::Uki(uki) => {
                let start = usize::try_from(self.at).unwrap_or(usize::MAX);
                let part = uki.get(start..start.saturating_add(length));
                expected.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
            }
        }
        if bytes != expected {
            return Err(io::Error::other(format!(
                "other bytes from byte {} on than there should be",
                self.at
            )));
        }
        self.at += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use upright_manifests::digest::Digest;

    use super::*;
    use crate::delta;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn a_delta_that_makes_one_other_byte_is_caught() {
        let root = file(&[7; 8192]);
        let uki = [&b"head"[..], &[7; 4096], b"tail"].concat();
        let out = tempfile::tempfile().unwrap();
        let part = delta::Part { at: 4, length: 4096, root_offset: 0 };
        let parted = delta::compose(&uki, &root, Digest::of(b"root"), &[part], 3, &out).unwrap();
        let images = Images { base: None, root: &root };
        assert_eq!(prove(&out, parted.head_size, &images, Target::Uki(&uki)), Ok(()));
        for byte in [0, 3000, uki.len() - 1] {
            let mut other = uki.clone();
            other[byte] ^= 1;
            assert!(prove(&out, parted.head_size, &images, Target::Uki(&other)).is_err(), "{byte}");
        }
        let changed = file(&[8; 8192]);
        let images = Images { base: None, root: &changed };
        assert!(prove(&out, parted.head_size, &images, Target::Uki(&uki)).is_err());
        let mut bytes = Vec::new();
        io::Seek::rewind(&mut &out).unwrap();
        (&out).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, parted.size);
    }
}
