//! Composes the UKI out of the root image that was just verified, and puts it where the boot loader does not see it yet.

use std::io::{self, BufWriter, PipeWriter, Read, Write};

use upright_manifests::delta::{Applier, Head, Kind, MAX_HEAD_BYTES, Segment, Source};
use upright_manifests::digest::{Digest, Digester};
use upright_manifests::release::Release;

use super::delta::{Images, apply};
use super::error::{ApplyError, WayError};
use crate::fetch::Fetcher;
use crate::host::BlockDevice;

/// Composes the UKI of `release`, whose root image is on `root`, and stores it with `store`.
pub fn stage(
    fetcher: &Fetcher<'_>,
    release: &Release,
    root: &dyn BlockDevice,
    store: impl FnOnce(&mut dyn Read) -> io::Result<()>,
) -> Result<(), ApplyError> {
    let stage = |source| ApplyError::Device { what: format!("write the UKI of {}", release.version), source };
    let (mut reader, writer) = io::pipe().map_err(stage)?;
    let (composed, staged) = std::thread::scope(|scope| {
        let composer = scope.spawn(|| compose(fetcher, release, root, writer));
        let staged = store(&mut reader);
        // Without a reader the composer ends.
        drop(reader);
        let died = || Err(WayError::Other("thread, which died"));
        (composer.join().unwrap_or_else(|_| died()), staged)
    });
    let compose = |source| ApplyError::Compose { version: release.version.clone(), source };
    match (composed, staged) {
        // A stager whose writer has gone finds too little; the composer knows why.
        (Err(source), Err(end)) if end.kind() == io::ErrorKind::UnexpectedEof => Err(compose(source)),
        // A composer whose reader has gone only says so; the stager knows why.
        (_, Err(source)) => Err(stage(source)),
        (composed, Ok(())) => composed.map_err(compose),
    }
}

/// Composes the UKI of `release` and throws it away: whether it can be had, before the one that is there goes.
pub fn rehearse(fetcher: &Fetcher<'_>, release: &Release, root: &dyn BlockDevice) -> Result<(), ApplyError> {
    let (mut reader, writer) = io::pipe().map_err(|source| ApplyError::Device {
        what: format!("compose the UKI of {}", release.version),
        source,
    })?;
    let (composed, found) = std::thread::scope(|scope| {
        let composer = scope.spawn(|| compose(fetcher, release, root, writer));
        let found = digest_of(&mut reader);
        drop(reader);
        let died = || Err(WayError::Other("thread, which died"));
        (composer.join().unwrap_or_else(|_| died()), found)
    });
    let failed = |source| ApplyError::Compose { version: release.version.clone(), source };
    composed.map_err(failed)?;
    match found.map_err(WayError::source("read the slot")).map_err(failed)? {
        found if found == release.uki.sha256 => Ok(()),
        found => Err(failed(WayError::Composed { found, expected: release.uki.sha256 })),
    }
}

fn compose(
    fetcher: &Fetcher<'_>,
    release: &Release,
    root: &dyn BlockDevice,
    writer: PipeWriter,
) -> Result<(), WayError> {
    let blob = &release.uki.compose;
    let head = Head::parse(&fetcher.head(blob, MAX_HEAD_BYTES)?)?;
    let belongs = head.kind == Kind::Uki
        && head.target_size == release.uki.size
        && head.target_id == release.uki.sha256
        && head.file_size() == blob.size
        && head.input(Source::Base).is_none()
        && head.input(Source::Root).is_none_or(|input| input.id == release.root.verity.root_hash);
    if !belongs {
        return Err(WayError::Other("UKI"));
    }
    let images = Images::made(root);
    let mut applier = Applier::new(&head, &images);
    let mut writer = BufWriter::with_capacity(64 << 10, writer);
    let parts: Vec<_> = head.segments.iter().map(Segment::range).collect();
    fetcher.with_parts(blob.path.as_str(), &parts, |parts| {
        for number in 0..head.segments.len() {
            apply(&mut applier, number, parts, &mut writer)?;
        }
        writer.flush().map_err(WayError::device("hand over the UKI"))
    })
}

/// Reads the staged UKI back from the ESP and compares it with what was signed.
pub fn compare_staged(release: &Release, staged: io::Result<Box<dyn Read>>) -> Result<(), ApplyError> {
    let found = staged.and_then(|mut staged| digest_of(&mut staged));
    let failed = |source| ApplyError::Device { what: "read the UKI back from the ESP".to_owned(), source };
    let (version, expected, found) = (release.version.clone(), release.uki.sha256, found.map_err(failed)?);
    if found == expected { Ok(()) } else { Err(ApplyError::Uki { version, expected, found }) }
}

/// The SHA-256 of all that comes.
pub fn digest_of(from: &mut dyn Read) -> io::Result<Digest> {
    let mut digester = Digester::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(digester.finish()),
            count => digester.update(&buffer[..count]),
        }
    }
}
