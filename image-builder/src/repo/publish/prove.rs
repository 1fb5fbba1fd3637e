//! Applies a delta or a payload as a host would before anyone is told about it, and compares what it makes with what it should
//! make. What that takes is told to hosts, which choose by it.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use rustix::time::{ClockId, clock_gettime};
use upright_manifests::BLOCK_SIZE;
use upright_manifests::chunks::{Chunk, Holding, Index, Leaf, Search, Step, fetched, plan};
use upright_manifests::delta::{Applier, Head, Output, Source, Sources};
use upright_manifests::name::Slot;
use upright_manifests::payload::{self, Frame, MAX_FRAME_BLOCKS, MAX_PREFIX_BLOCKS, Unpacker};
use upright_manifests::release::{ByChunks, Cost};

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

/// Bytes that are read at once.
const COPY: usize = 64 << 10;

/// Memory of a chunk that is looked for.
const A_CHUNK: u64 = (size_of::<Chunk>() + 40) as u64;

/// Measures what this program does: zstd compresses in a thread of its own.
struct Watch(i128);

impl Watch {
    fn start() -> Self {
        Self(now())
    }

    /// In steps of ten: what is less says more of what else the machine did, and the same publish is to sign the same.
    fn milliseconds(&self) -> u64 {
        u64::try_from((now() - self.0) / 10_000_000).unwrap_or(0).saturating_mul(10)
    }
}

/// The CPU time of all threads in nanoseconds.
fn now() -> i128 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

/// Fails, with the reason, unless the file `payload` with a head of `head_size` bytes unpacks to `image`; says what that takes.
pub(super) fn prove_payload(payload: &File, head_size: u64, image: &File) -> Result<Cost, String> {
    let watch = Watch::start();
    let head = payload_head(payload, head_size)?;
    prove_frames(payload, &head.frames, image)?;
    Ok(Cost { memory: UNPACKING, cpu_ms: watch.milliseconds() })
}

/// What it takes to make `image` by chunks on a host that has the image `old`, whose blocks have the hashes `leaves`, and nothing
/// else; done as a host would.
pub(super) fn measure_chunks(
    payload: &File,
    head_size: u64,
    index: &[u8],
    (old, leaves): (&File, &[Leaf]),
    image: &File,
) -> Result<ByChunks, String> {
    let watch = Watch::start();
    let parsed = Index::parse(index).map_err(|error| error.to_string())?;
    let head = payload_head(payload, head_size)?;
    let mut search = Search::new(&parsed);
    // Whichever slot hosts run.
    let mut scan = search.scan(Slot::A, Holding::Source);
    leaves.iter().for_each(|leaf| scan.push(leaf));
    let steps = plan(&parsed, &head, &search.finish()).map_err(|error| error.to_string())?;
    for step in &steps {
        match step {
            Step::Fetch { frames } => {
                prove_frames(payload, head.frames.get(frames.clone()).unwrap_or_default(), image)?;
            }
            Step::Copy { from, to, blocks, .. } => {
                prove_copy(old, from * BLOCK_SIZE, blocks * BLOCK_SIZE, image, to * BLOCK_SIZE)?;
            }
            // Nothing is in its place on a host that holds nothing else.
            Step::Keep { .. } => {}
        }
    }
    let size = index.len() as u64 + head_size + fetched(&steps, &head);
    let memory = UNPACKING + index.len() as u64 + parsed.chunks.len() as u64 * A_CHUNK;
    Ok(ByChunks { size, cost: Cost { memory, cpu_ms: watch.milliseconds() } })
}

fn payload_head(payload: &File, size: u64) -> Result<payload::Head, String> {
    payload::Head::parse(&read(payload, 0, size)?).map_err(|error| error.to_string())
}

/// Fails, with the reason, unless these frames hold what `image` has in their place.
fn prove_frames(payload: &File, frames: &[Frame], image: &File) -> Result<(), String> {
    let mut unpacker = Unpacker::new().map_err(|error| error.to_string())?;
    for frame in frames {
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
    Ok(())
}

/// Fails, with the reason, unless `length` bytes of `old` from `from` on are those of `image` from `to` on.
fn prove_copy(old: &File, from: u64, length: u64, image: &File, to: u64) -> Result<(), String> {
    let mut compare = Compare { target: Target::Image(image), at: to, buffer: vec![0; COPY] };
    let mut buffer = vec![0; COPY];
    let mut left = length;
    while left > 0 {
        let part = &mut buffer[..usize::try_from(left).unwrap_or(COPY).min(COPY)];
        old.read_exact_at(part, from + length - left).map_err(|error| error.to_string())?;
        compare.write_all(part).map_err(|error| error.to_string())?;
        left -= part.len() as u64;
    }
    Ok(())
}

fn read(file: &File, offset: u64, length: u64) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; usize::try_from(length).map_err(|error| error.to_string())?];
    file.read_exact_at(&mut bytes, offset).map_err(|error| error.to_string())?;
    Ok(bytes)
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
    let head = Head::parse(&read(delta, 0, head_size)?).map_err(|error| error.to_string())?;
    let mut applier = Applier::new(&head, images);
    for (number, segment) in head.segments.iter().enumerate() {
        let packed = read(delta, segment.offset, u64::from(segment.packed))?;
        let mut compare = Compare { target, at: segment.start, buffer: vec![0; COPY] };
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
    fn the_work_of_other_threads_counts() {
        let watch = Watch::start();
        let own = || {
            let time = clock_gettime(ClockId::ThreadCPUTime);
            time.tv_sec * 1000 + time.tv_nsec / 1_000_000
        };
        std::thread::scope(|scope| scope.spawn(|| while own() < 30 {}).join().unwrap());
        assert!(watch.milliseconds() >= 30);
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
