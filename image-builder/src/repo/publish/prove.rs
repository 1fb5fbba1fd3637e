//! Applies a delta or a payload as a host would before anyone is told about it, and compares what it makes with what it should
//! make. What that takes is told to hosts, which choose by it.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use rustix::time::{ClockId, clock_gettime};
use upright_manifests::BLOCK_SIZE;
use upright_manifests::delta::{Applier, Head, Output, Source, Sources};
use upright_manifests::payload::{self, MAX_FRAME_BLOCKS, MAX_PREFIX_BLOCKS, Unpacker};
use upright_manifests::release::Cost;

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

/// Memory of unpacking a frame: the frame as it is fetched, the next one that waits, what it holds and its prefix.
const UNPACKING: u64 = (3 * MAX_FRAME_BLOCKS as u64 + MAX_PREFIX_BLOCKS as u64) * BLOCK_SIZE;

/// Measures what this thread does.
struct Watch(i128);

impl Watch {
    fn start() -> Self {
        Self(now())
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from((now() - self.0) / 1_000_000).unwrap_or(0)
    }
}

/// The CPU time of this thread in nanoseconds.
fn now() -> i128 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

/// Fails, with the reason, unless the file `payload` with a head of `head_size` bytes unpacks to `image`; says what that takes.
pub(super) fn prove_payload(payload: &File, head_size: u64, image: &File) -> Result<Cost, String> {
    let watch = Watch::start();
    let read = |file: &File, offset: u64, length: u64| {
        let mut bytes = vec![0; usize::try_from(length).map_err(|error| error.to_string())?];
        file.read_exact_at(&mut bytes, offset).map_err(|error| error.to_string())?;
        Ok::<_, String>(bytes)
    };
    let head = payload::Head::parse(&read(payload, 0, head_size)?).map_err(|error| error.to_string())?;
    let mut unpacker = Unpacker::new().map_err(|error| error.to_string())?;
    for frame in &head.frames {
        let packed = read(payload, frame.offset, u64::from(frame.packed))?;
        let mut prefix = Vec::with_capacity(frame.prefix.bytes());
        for range in frame.prefix_ranges() {
            prefix.extend(read(image, range.start, range.end - range.start)?);
        }
        let made = unpacker.unpack(frame, &packed, &prefix).map_err(|error| error.to_string())?;
        if made != read(image, frame.start * BLOCK_SIZE, made.len() as u64)? {
            return Err(format!("the frame at block {} holds something else", frame.start));
        }
    }
    Ok(Cost { memory: UNPACKING, cpu_ms: watch.milliseconds() })
}

/// Fails, with the reason, unless the file `delta` with a head of `head_size` bytes makes `target` out of `images`; says what
/// that takes.
pub(super) fn prove(
    delta: &File,
    head_size: u64,
    images: &Images<'_>,
    target: Target<'_>,
) -> Result<Cost, String> {
    let watch = Watch::start();
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
    Ok(Cost { memory: head.memory.into(), cpu_ms: watch.milliseconds() })
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

impl Output for Compare<'_> {}

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
        let cost = prove(&out, parted.head_size, &images, Target::Uki(&uki)).unwrap();
        assert!(cost.memory > 0);
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

    #[test]
    fn a_payload_that_makes_one_other_byte_is_caught() {
        let mut bytes: Vec<u8> = (0..40 * 1024u32).flat_map(|n| (n * n % 251).to_le_bytes()).collect();
        let out = tempfile::tempfile().unwrap();
        let options = crate::payload::Options { level: 3, frame_blocks: 16 };
        let image = file(&bytes);
        let (parted, _) = crate::payload::encode(&image, &[], &[], None, &options, &out, &|_| {}).unwrap();
        assert!(prove_payload(&out, parted.head_size, &image).is_ok());
        bytes[100_000] ^= 1;
        assert!(prove_payload(&out, parted.head_size, &file(&bytes)).is_err());
    }
}
