//! The way by a delta from the image of the booted slot.

use std::io;
use std::sync::atomic::AtomicU64;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::delta::{Applier, Head, Kind, MAX_HEAD_BYTES, Segment, Source, Sources};
use upright_manifests::release::{DeltaEdge, RootImage};

use super::error::WayError;
use super::install::Observer;
use super::target::Target;
use crate::fetch::{Retry, head, with_parts};
use crate::host::{BlockDevice, Remote};

/// The root images that a delta reads from.
pub(super) struct Images<'a> {
    /// The image that the delta starts from.
    pub(super) base: Option<&'a dyn BlockDevice>,
    /// The image that is being made, or has been.
    pub(super) root: &'a dyn BlockDevice,
}

impl Sources for Images<'_> {
    fn read_at(&self, source: Source, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match (source, self.base) {
            (Source::Root, _) => self.root.read_at(buffer, offset),
            (Source::Base, Some(base)) => base.read_at(buffer, offset),
            (Source::Base, None) => Err(io::Error::other("the delta has no base here")),
        }
    }
}

/// Applies all segments that the target does not have yet.
#[expect(clippy::too_many_arguments, reason = "one call; a struct would only rename them")]
pub(super) fn run(
    remote: &dyn Remote,
    root: &RootImage,
    edge: &DeltaEdge,
    base: &dyn BlockDevice,
    retry: Retry,
    target: &mut Target<'_>,
    fetched: &AtomicU64,
    observer: &mut Observer<'_>,
) -> Result<(), WayError> {
    let head = Head::parse(&head(remote, &edge.delta, MAX_HEAD_BYTES, retry)?)?;
    belongs(&head, root, edge)?;
    let done = |segment: &Segment| segment.start + u64::from(segment.length) <= target.durable();
    let first = head.segments.partition_point(done);
    let segments = &head.segments[first..];
    if segments.iter().any(|segment| !segment.start.is_multiple_of(BLOCK_SIZE)) {
        return Err(WayError::Other("block size"));
    }
    if let Some(segment) = segments.first() {
        target.rewind(segment.start);
    }
    let images = Images { base: Some(base), root: target.device() };
    let mut applier = Applier::new(&head, &images);
    let parts: Vec<_> = segments.iter().map(Segment::range).collect();
    with_parts(remote, edge.delta.path.as_str(), &parts, retry, fetched, |parts| {
        for number in first..head.segments.len() {
            let packed = parts.next()?;
            // A segment may read what the ones before it made.
            target.flush_buffer().map_err(WayError::device("write the slot"))?;
            applier.apply(number, &packed, target)?;
            observer.at(target.position());
        }
        Ok::<_, WayError>(())
    })?;
    target.finish().map_err(WayError::device("write the slot"))
}

/// Whether the delta makes this image of that one.
fn belongs(head: &Head, root: &RootImage, edge: &DeltaEdge) -> Result<(), WayError> {
    let makes = head.kind == Kind::Root
        && head.target_size == root.size
        && head.target_id == root.verity.root_hash
        && head.file_size() == edge.delta.size;
    let starts = head.input(Source::Base).is_none_or(|input| input.id == edge.from_root_hash);
    match (makes, starts) {
        (false, _) => Err(WayError::Other("image")),
        (true, false) => Err(WayError::Other("base")),
        (true, true) => Ok(()),
    }
}
