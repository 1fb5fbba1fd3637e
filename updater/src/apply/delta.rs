//! The way by a delta from the image of the booted slot.

use std::cell::RefCell;
use std::io;

use upright_manifests::delta::{
    Applier, Head, Kind, MAX_HEAD_BYTES, Output, Segment, SegmentError, Source, Sources,
};
use upright_manifests::release::{DeltaEdge, RootImage};

use super::error::WayError;
use super::first::First;
use super::install::Observer;
use super::target::Target;
use crate::fetch::{Fetcher, Parts};
use crate::host::BlockDevice;
use crate::slot::{AlignedBuffer, IO_SIZE};

/// Applies all segments that the target does not have yet: those before number `done` it has.
pub(super) fn run(
    fetcher: &Fetcher<'_>,
    root: &RootImage,
    edge: &DeltaEdge,
    images: &Images<'_>,
    done: u64,
    target: &mut Target<'_>,
    observer: &mut Observer<'_>,
) -> Result<(), WayError> {
    let head = Head::parse(&fetcher.head(&edge.delta, MAX_HEAD_BYTES)?)?;
    belongs(&head, root, edge)?;
    let done = usize::try_from(done).unwrap_or(usize::MAX).min(head.segments.len());
    let mut made = Made::new(&head, done);
    let mut applier = Applier::new(&head, images);
    let parts: Vec<_> = head.segments[done..].iter().map(Segment::range).collect();
    fetcher.with_parts(edge.delta.path.as_str(), &parts, |parts| {
        for (number, segment) in head.segments.iter().enumerate().skip(done) {
            // A segment may read what the ones before it made.
            target.seek(segment.start).map_err(WayError::device("write the slot"))?;
            apply(&mut applier, number, parts, target)?;
            made.add(segment);
            target
                .note_segments(edge.delta.sha256, number as u64 + 1, made.prefix(), false)
                .map_err(WayError::device("write the slot"))?;
            observer.at(made.bytes);
        }
        Ok::<_, WayError>(())
    })?;
    target
        .note_segments(edge.delta.sha256, head.segments.len() as u64, root.size, true)
        .map_err(WayError::device("write the slot"))
}

/// Applies the next part; one that was damaged on its way is fetched once more.
pub(super) fn apply(
    applier: &mut Applier<'_>,
    number: usize,
    parts: &Parts<'_>,
    target: &mut dyn Output,
) -> Result<(), WayError> {
    match applier.apply(number, &parts.next()?, target) {
        Err(SegmentError::Hash { .. }) => Ok(applier.apply(number, &parts.again()?, target)?),
        outcome => Ok(outcome?),
    }
}

/// Whether the delta makes this image of that one.
fn belongs(head: &Head, root: &RootImage, edge: &DeltaEdge) -> Result<(), WayError> {
    let makes = head.kind == Kind::Root
        && head.target_size == root.size
        && head.target_id == root.verity.root_hash
        && head.file_size() == edge.delta.size;
    let base = head.input(Source::Base).is_none_or(|input| input.id == edge.from_root_hash);
    let itself = head.input(Source::Root).is_none_or(|input| input.id == root.verity.root_hash);
    match (makes && itself, base) {
        (false, _) => Err(WayError::Other("image")),
        (true, false) => Err(WayError::Other("base")),
        (true, true) => Ok(()),
    }
}

/// What the segments made so far.
struct Made {
    /// Start and end of each run, ascending.
    runs: Vec<(u64, u64)>,
    bytes: u64,
}

impl Made {
    fn new(head: &Head, done: usize) -> Self {
        let mut made = Self { runs: Vec::new(), bytes: 0 };
        head.segments[..done].iter().for_each(|segment| made.add(segment));
        made
    }

    fn add(&mut self, segment: &Segment) {
        let run = (segment.start, segment.start + u64::from(segment.length));
        let at = self.runs.partition_point(|other| other.0 < run.0);
        self.runs.insert(at, run);
        self.runs.dedup_by(|next, last| {
            let adjacent = next.0 == last.1;
            if adjacent {
                last.1 = next.1;
            }
            adjacent
        });
        self.bytes += u64::from(segment.length);
    }

    /// The end of the run that starts where the image does.
    fn prefix(&self) -> u64 {
        self.runs.first().filter(|run| run.0 == 0).map_or(0, |run| run.1)
    }
}

/// The root images that a delta reads from.
pub(super) struct Images<'a> {
    base: Option<Window<'a>>,
    root: &'a dyn BlockDevice,
    /// The first block of the image that is being made.
    first: Option<&'a First<'a>>,
}

impl<'a> Images<'a> {
    /// The image in the booted slot, and the one that is being made of it.
    pub(super) fn making(base: &'a dyn BlockDevice, root: &'a dyn BlockDevice, first: &'a First<'a>) -> Self {
        Self { base: Some(Window::new(base)), root, first: Some(first) }
    }

    /// An image that has been made.
    pub(super) fn made(root: &'a dyn BlockDevice) -> Self {
        Self { base: None, root, first: None }
    }
}

impl Sources for Images<'_> {
    fn read_at(&self, source: Source, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match (source, &self.base) {
            (Source::Root, _) => {
                self.root.read_at(buffer, offset)?;
                if let Some(first) = self.first {
                    first.overlay(buffer, offset..offset + buffer.len() as u64);
                }
                Ok(())
            }
            (Source::Base, Some(base)) => base.read_at(offset, buffer),
            (Source::Base | Source::Plain, _) => Err(io::Error::other("the delta has no base here")),
        }
    }
}

/// How many times further each time.
const GROWTH: usize = 4;

/// Reads ahead where a device is read in order, further each time: large reads cost less, but for what nobody wants of them.
struct Window<'a> {
    device: &'a dyn BlockDevice,
    held: RefCell<Held>,
}

struct Held {
    buffer: AlignedBuffer,
    start: u64,
    length: usize,
    /// Where the last read ended, and how long it was.
    end: u64,
    last: usize,
}

impl<'a> Window<'a> {
    fn new(device: &'a dyn BlockDevice) -> Self {
        let held = Held { buffer: AlignedBuffer::new(IO_SIZE), start: 0, length: 0, end: 0, last: 0 };
        Self { device, held: RefCell::new(held) }
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let held = &mut *self.held.borrow_mut();
        let wanted = buffer.len();
        if offset < held.start || offset + wanted as u64 > held.start + held.length as u64 {
            let ahead = if offset == held.end { IO_SIZE.min(GROWTH * held.last) } else { wanted };
            let left = self.device.size().saturating_sub(offset);
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(ahead);
            (held.end, held.last) = (offset + length.max(wanted) as u64, length.max(wanted));
            if length <= wanted {
                return self.device.read_at(buffer, offset);
            }
            held.length = 0;
            self.device.read_at(&mut held.buffer[..length], offset)?;
            (held.start, held.length) = (offset, length);
        }
        let at = (offset - held.start) as usize;
        buffer.copy_from_slice(&held.buffer[at..at + wanted]);
        Ok(())
    }
}
