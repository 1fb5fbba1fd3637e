//! Parts of a file in the repository, fetched ahead in a thread, over a line that may drop.

use std::io::Read;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use upright_manifests::digest::Digest;
use upright_manifests::release::PartedBlob;

use super::FetchError;
use crate::host::{Remote, RemoteError};

/// How many parts are fetched ahead of the one in use.
const AHEAD: usize = 2;

/// How a dropped line is taken up again.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// How many times in a row without a single byte coming through.
    pub times: u32,
    /// How long to wait before the first; it doubles each time, up to 30 seconds.
    pub wait: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { times: 5, wait: Duration::from_secs(1) }
    }
}

/// Fetches the head of a file and checks its length and hash.
pub fn head(remote: &dyn Remote, blob: &PartedBlob, limit: u64, retry: Retry) -> Result<Vec<u8>, FetchError> {
    let path = blob.path.as_str();
    if blob.head_size > limit {
        return Err(FetchError::TooLarge { path: path.to_owned(), length: blob.head_size, limit });
    }
    let head = exact(remote, path, 0..blob.head_size, retry, &AtomicU64::new(0))?;
    match Digest::of(&head) {
        found if found == blob.head_sha256 => Ok(head),
        found => Err(FetchError::Hash { path: path.to_owned(), expected: blob.head_sha256, found }),
    }
}

/// Parts of a file that come in order.
pub struct Parts {
    receive: mpsc::Receiver<Result<Vec<u8>, FetchError>>,
}

impl Parts {
    /// The next part, as it came from the server: not checked yet.
    pub fn next(&self) -> Result<Vec<u8>, FetchError> {
        self.receive.recv().unwrap_or_else(|_| {
            let reason = "the thread that fetches has died".to_owned();
            Err(RemoteError::Unavailable { url: String::new(), reason }.into())
        })
    }
}

/// Fetches `parts` of the file at `path` in order while `work` uses them. Neighbouring parts are one request. `fetched`
/// counts the bytes that came.
pub fn with_parts<T>(
    remote: &dyn Remote,
    path: &str,
    parts: &[Range<u64>],
    retry: Retry,
    fetched: &AtomicU64,
    work: impl FnOnce(&Parts) -> T,
) -> T {
    std::thread::scope(|scope| {
        let (send, receive) = mpsc::sync_channel(AHEAD);
        scope.spawn(move || {
            let mut line = Line { remote, path, retry, fetched, open: None };
            for (number, part) in parts.iter().enumerate() {
                let until = run_end(&parts[number..]);
                let result = line.part(part, until);
                let failed = result.is_err();
                // The receiver is gone when the work failed or is done.
                if send.send(result).is_err() || failed {
                    return;
                }
            }
        });
        work(&Parts { receive })
    })
}

/// The end of the run of neighbouring parts that starts with the first.
fn run_end(parts: &[Range<u64>]) -> u64 {
    let mut end = parts.first().map_or(0, |part| part.start);
    for part in parts {
        if part.start != end {
            break;
        }
        end = part.end;
    }
    end
}

/// One range of a file, all of it.
fn exact(
    remote: &dyn Remote,
    path: &str,
    range: Range<u64>,
    retry: Retry,
    fetched: &AtomicU64,
) -> Result<Vec<u8>, FetchError> {
    let end = range.end;
    Line { remote, path, retry, fetched, open: None }.part(&range, end)
}

/// A connection that is made again when it drops, from where it dropped.
struct Line<'a> {
    remote: &'a dyn Remote,
    path: &'a str,
    retry: Retry,
    fetched: &'a AtomicU64,
    /// The open reader and the position it is at.
    open: Option<(Box<dyn Read + Send>, u64)>,
}

impl Line<'_> {
    /// The bytes of `part`; a new request asks for all up to `until`.
    fn part(&mut self, part: &Range<u64>, until: u64) -> Result<Vec<u8>, FetchError> {
        let length = usize::try_from(part.end - part.start).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        let mut tries = 0;
        loop {
            let before = bytes.len();
            let result = self.read(part, until, &mut bytes, length);
            match result {
                Ok(()) => return Ok(bytes),
                Err(error) if error.is_final() => return Err(error.into()),
                Err(error) => {
                    self.open = None;
                    tries = if bytes.len() > before { 0 } else { tries + 1 };
                    if tries > self.retry.times {
                        return Err(error.into());
                    }
                    tracing::info!("{error}; trying again");
                    let wait = self.retry.wait.saturating_mul(1 << tries.min(5));
                    std::thread::sleep(wait.min(Duration::from_secs(30)));
                }
            }
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
        if !matches!(self.open, Some((_, at)) if at == position) {
            self.open = Some((self.remote.open(self.path, position..until)?, position));
        }
        let Some((reader, at)) = &mut self.open else { return Ok(()) };
        let wanted = (length - bytes.len()) as u64;
        let result = reader.take(wanted).read_to_end(bytes);
        let came = part.start + bytes.len() as u64 - *at;
        *at += came;
        self.fetched.fetch_add(came, Ordering::Relaxed);
        let unavailable = |reason: String| {
            let url = format!("{}/{}", self.remote.address(), self.path);
            RemoteError::Unavailable { url, reason }
        };
        match result {
            Err(error) => Err(unavailable(error.to_string())),
            Ok(_) if bytes.len() == length => Ok(()),
            Ok(_) => Err(unavailable("the connection ended early".to_owned())),
        }
    }
}
