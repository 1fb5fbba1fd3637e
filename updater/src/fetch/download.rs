//! Parts of a file in the repository, fetched ahead in a thread, over a line that may drop.

use std::cell::Cell;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use upright_manifests::digest::Digest;
use upright_manifests::release::{Blob, PartedBlob};
use upright_manifests::size::Size;

use super::backoff::{Backoff, Patience};
use super::error::FetchError;
use super::pace::RATE;
use crate::flow::{Flow, Flowing};
use crate::host::{Clock, Remote, RemoteError};

/// How many parts wait to be used while another is fetched.
const AHEAD: usize = 1;

/// A gap between two parts that is fetched along, in bytes: cheaper than another request.
const GAP: u64 = 16 << 10;

/// How long a wait goes on at most when nobody wants the parts any more, or before it gives a sign of life.
const NAP: Duration = Duration::from_secs(1);

/// What brought less than this many bytes was no progress: that might go on for ever.
const PROGRESS: u64 = 1 << 10;

/// A repository, and the patience to read from it. Counts what came.
pub struct Fetcher<'a> {
    remote: &'a dyn Remote,
    clock: &'a dyn Clock,
    patience: Patience,
    flow: Flow<'a>,
    fetched: AtomicU64,
    /// Heads that were fetched before they are used, by their digests.
    foreseen: Mutex<Vec<(Digest, Vec<u8>)>>,
}

impl<'a> Fetcher<'a> {
    /// A fetcher that has fetched nothing.
    pub fn new(remote: &'a dyn Remote, clock: &'a dyn Clock, patience: Patience) -> Self {
        let (flow, fetched, foreseen) = (Flow::new(clock, None), AtomicU64::new(0), Mutex::default());
        Self { remote, clock, patience, flow, fetched, foreseen }
    }

    /// The same with at most so many bytes a second.
    pub fn at_most(self, rate: Option<Size>) -> Self {
        Self { flow: Flow::new(self.clock, rate), ..self }
    }

    /// How many bytes came so far, those that were of no use included.
    pub fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    /// The head of a file, of at most `limit` bytes, with the length and hash that were signed.
    pub fn head(&self, blob: &PartedBlob, limit: u64) -> Result<Vec<u8>, FetchError> {
        let mut foreseen = self.foreseen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = foreseen.iter().position(|(digest, _)| *digest == blob.head_sha256) {
            return Ok(foreseen.swap_remove(place).1);
        }
        drop(foreseen);
        self.checked(blob.path.as_str(), blob.head_size, limit, blob.head_sha256)
    }

    /// Fetches the head of a file, for who asks for it first.
    pub fn foresee(&self, blob: &PartedBlob, limit: u64) -> Result<(), FetchError> {
        let head = self.head(blob, limit)?;
        self.foreseen.lock().unwrap_or_else(PoisonError::into_inner).push((blob.head_sha256, head));
        Ok(())
    }

    /// Fails where a file is seen to have another length than was signed, without reading it. Of a server it is not known.
    pub fn require_length(&self, path: &str, expected: u64) -> Result<(), FetchError> {
        match self.remote.length(path)? {
            Some(found) if found != expected => {
                let place = self.remote.address();
                Err(FetchError::Partial { place, path: path.to_owned(), expected, found })
            }
            _ => Ok(()),
        }
    }

    /// A whole file, of at most `limit` bytes, with the length and hash that were signed.
    pub fn blob(&self, blob: &Blob, limit: u64) -> Result<Vec<u8>, FetchError> {
        self.checked(blob.path.as_str(), blob.size, limit, blob.sha256)
    }

    /// Fetches `parts` of the file at `path` in order while `work` uses them. Parts that are next to each other, or almost,
    /// are one request.
    pub fn with_parts<T>(&self, path: &str, parts: &[Range<u64>], work: impl FnOnce(&Parts<'_>) -> T) -> T {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (send, receive) = mpsc::sync_channel(AHEAD);
            let done = &done;
            scope.spawn(move || {
                let mut line = Line { done: Some(done), ..Line::new(self, path) };
                // Of a server without ranges, a run of parts is had by reading from the start, once.
                line.may_skip = parts.last().is_none_or(|last| run_end(parts) == last.end);
                for (number, part) in parts.iter().enumerate() {
                    let result = line.part(part, run_end(&parts[number..]));
                    let failed = result.is_err();
                    // The receiver is gone when the work failed or is done.
                    if send.send(result).is_err() || failed {
                        return;
                    }
                }
            });
            let outcome = work(&Parts { fetcher: self, path, ranges: parts, next: Cell::new(0), receive });
            done.store(true, Ordering::Relaxed);
            outcome
        })
    }

    /// The start of a file, checked. A first answer that is wrong may be a proxy's fault, or a server's that is being updated:
    /// there is one more try.
    fn checked(&self, path: &str, size: u64, limit: u64, expected: Digest) -> Result<Vec<u8>, FetchError> {
        if size > limit {
            return Err(FetchError::TooLarge { path: path.to_owned(), length: size, limit });
        }
        let fetch = || {
            let mut line = Line { may_skip: true, ..Line::new(self, path) };
            let bytes = line.part(&(0..size), size)?;
            Ok::<_, FetchError>((Digest::of(&bytes), bytes))
        };
        let (mut found, mut bytes) = fetch()?;
        if found != expected {
            (found, bytes) = fetch()?;
        }
        match found == expected {
            true => Ok(bytes),
            false => Err(FetchError::Hash { path: path.to_owned(), expected, found }),
        }
    }
}

/// Parts of a file that come in order.
pub struct Parts<'a> {
    fetcher: &'a Fetcher<'a>,
    path: &'a str,
    ranges: &'a [Range<u64>],
    next: Cell<usize>,
    receive: mpsc::Receiver<Result<Vec<u8>, FetchError>>,
}

impl Parts<'_> {
    /// The next part, as it came from the server: not checked yet.
    pub fn next(&self) -> Result<Vec<u8>, FetchError> {
        self.next.set(self.next.get() + 1);
        self.receive.recv().unwrap_or_else(|_| {
            let url = format!("{}/{}", self.fetcher.remote.address(), self.path);
            let reason = "more parts are asked for than there are".to_owned();
            Err(RemoteError::Protocol { url, reason }.into())
        })
    }

    /// The part that [`Self::next`] gave last, fetched once more because it was damaged on its way.
    pub fn again(&self) -> Result<Vec<u8>, FetchError> {
        let number = self.next.get().saturating_sub(1);
        let range = self.ranges.get(number).cloned().unwrap_or_default();
        tracing::info!(path = self.path, ?range, "damaged on its way, fetching it again");
        Line::new(self.fetcher, self.path).part(&range, range.end)
    }
}

/// The end of the run of parts, next to each other or almost, that starts with the first.
fn run_end(parts: &[Range<u64>]) -> u64 {
    let mut end = parts.first().map_or(0, |part| part.start);
    for part in parts {
        if part.start < end || part.start - end > GAP {
            break;
        }
        end = part.end;
    }
    end
}

/// A connection that is made again when it drops, from where it dropped.
struct Line<'a> {
    fetcher: &'a Fetcher<'a>,
    path: &'a str,
    /// The open reader and the position it is at.
    open: Option<(Box<dyn Read + Send>, u64)>,
    /// Set when nobody wants the parts any more.
    done: Option<&'a AtomicBool>,
    /// The waits so far, and what came between them: many small parts, each from a server that gives little, are no progress either.
    backoff: Backoff,
    since: Taken,
    /// Whether all before the parts may be read and thrown away, where the server sends whole files only. A line that drops
    /// again and again would cost the file each time, and parts far from each other would.
    may_skip: bool,
}

/// What came since the last trouble that was a new one, and how long that took.
#[derive(Debug, Default)]
struct Taken {
    bytes: u64,
    time: Duration,
}

impl Taken {
    /// Whether it was so much that the server is worth another try at once: not from one that trickles, however often it is asked.
    fn is_progress(&self) -> bool {
        let least = u128::from(RATE) * self.time.as_millis() / 1000;
        self.bytes >= PROGRESS && u128::from(self.bytes) >= least
    }
}

/// A reader that takes the time of its reads.
struct Timed<'r> {
    inner: &'r mut dyn Read,
    clock: &'r dyn Clock,
    taken: &'r mut Taken,
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let begin = self.clock.monotonic();
        let result = self.inner.read(buffer);
        self.taken.time += self.clock.monotonic().saturating_sub(begin);
        self.taken.bytes += result.as_ref().map_or(0, |length| *length as u64);
        result
    }
}

impl<'a> Line<'a> {
    fn new(fetcher: &'a Fetcher<'a>, path: &'a str) -> Self {
        let backoff = Backoff::new(fetcher.patience);
        Self { fetcher, path, open: None, done: None, backoff, since: Taken::default(), may_skip: false }
    }

    /// The bytes of `part`; a new request asks for all up to `until`. Waits and tries again while there is patience.
    fn part(&mut self, part: &Range<u64>, until: u64) -> Result<Vec<u8>, FetchError> {
        let length = usize::try_from(part.end.saturating_sub(part.start)).unwrap_or(usize::MAX);
        // Parts are bounded by what was signed: frames and segments have 4 MiB at most, heads their limits.
        let mut bytes = Vec::with_capacity(length.min(8 << 20));
        loop {
            let error = match self.read(part, until, &mut bytes, length) {
                Ok(()) => return Ok(bytes),
                Err(error) if error.is_final() => return Err(error.into()),
                Err(error) => error,
            };
            self.open = None;
            if self.since.is_progress() {
                self.since = Taken::default();
                self.backoff.reset();
                continue;
            }
            match self.backoff.next_wait().filter(|_| self.is_wanted()) {
                None => return Err(error.into()),
                Some(wait) => {
                    tracing::info!("{error}; trying again in {:.1} s", wait.as_secs_f64());
                    self.wait(wait);
                }
            }
        }
    }

    /// Waits, but not for longer than somebody wants the parts.
    fn wait(&self, time: Duration) {
        let mut left = time;
        while !left.is_zero() && self.is_wanted() {
            let nap = left.min(NAP);
            self.fetcher.clock.sleep(nap);
            left -= nap;
        }
    }

    fn is_wanted(&self) -> bool {
        !self.done.is_some_and(|done| done.load(Ordering::Relaxed))
    }

    /// A reader that is at `position`, or before it where the server sends whole files only.
    fn open(&mut self, position: u64, until: u64) -> Result<(Box<dyn Read + Send>, u64), RemoteError> {
        match self.fetcher.remote.open(self.path, position..until) {
            Err(RemoteError::NoRanges { .. }) if self.may_skip => {
                self.may_skip = position == 0;
                tracing::info!(
                    path = self.path,
                    position,
                    "the server does not serve ranges: reading from the start"
                );
                Ok((self.fetcher.remote.open(self.path, 0..until)?, 0))
            }
            outcome => Ok((outcome?, position)),
        }
    }

    fn read(
        &mut self,
        part: &Range<u64>,
        until: u64,
        bytes: &mut Vec<u8>,
        length: usize,
    ) -> Result<(), RemoteError> {
        let position = part.start + bytes.len() as u64;
        if !matches!(self.open, Some((_, at)) if at <= position && position - at <= GAP) {
            self.open = Some(self.open(position, until)?);
        }
        let Some((reader, at)) = &mut self.open else { return Ok(()) };
        // What a limit of this host's takes is not the server's.
        let timed = Timed { inner: reader, clock: self.fetcher.clock, taken: &mut self.since };
        let mut reader = Flowing::new(timed, &self.fetcher.flow);
        let gap = position - *at;
        let skipped = io::copy(&mut reader.by_ref().take(gap), &mut io::sink());
        let before = bytes.len();
        let result = match skipped {
            Ok(count) if count == gap => reader.take((length - before) as u64).read_to_end(bytes).map(|_| ()),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        *at = position + (bytes.len() - before) as u64;
        self.fetcher.fetched.fetch_add(gap + (bytes.len() - before) as u64, Ordering::Relaxed);
        let url = || format!("{}/{}", self.fetcher.remote.address().trim_end_matches('/'), self.path);
        match result {
            Err(error) => Err(RemoteError::of_reading(error, url)),
            Ok(()) if bytes.len() == length => Ok(()),
            Ok(()) => {
                let reason = "the connection ended too early".to_owned();
                Err(RemoteError::Unavailable { url: url(), reason })
            }
        }
    }
}
