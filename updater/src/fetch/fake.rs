//! A repository in memory that drops lines, stalls them, damages, shortens and loses files as it is told to.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;

use crate::host::{Clock, Remote, RemoteError};

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The connection ends after so many bytes, without an error.
    End(u64),
    /// The connection fails after so many bytes.
    Drop(u64),
    /// The byte at this place of the file is another.
    Damage(u64),
    /// The server answers 503.
    Busy,
    /// The server answers 404.
    Missing,
    /// The server answers nonsense.
    Wrong,
}

/// A repository in memory.
#[derive(Default)]
pub(crate) struct FakeRemote {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// What happens to the next requests, one each.
    once: Vec<Trouble>,
    /// What happens to all requests for a file.
    always: BTreeMap<String, Trouble>,
    /// How much more of a file is sent before nothing comes any more.
    cut: BTreeMap<String, u64>,
    /// Whether it sends whole files only.
    without_ranges: bool,
    requests: Vec<(String, Range<u64>)>,
}

impl FakeRemote {
    pub(crate) fn put(&self, path: &str, bytes: Vec<u8>) {
        self.lock().files.insert(path.to_owned(), bytes);
    }

    /// The next requests meet these troubles, one each.
    pub(crate) fn once(&self, troubles: impl IntoIterator<Item = Trouble>) {
        let mut troubles: Vec<_> = troubles.into_iter().collect();
        troubles.reverse();
        self.lock().once = troubles;
    }

    /// All requests for a file meet this trouble.
    pub(crate) fn always(&self, path: &str, trouble: Trouble) {
        self.lock().always.insert(path.to_owned(), trouble);
    }

    /// After so many more bytes of a file, nothing of it comes any more.
    pub(crate) fn cut(&self, path: &str, after: u64) {
        self.lock().cut.insert(path.to_owned(), after);
    }

    /// From now on it sends whole files only.
    pub(crate) fn give_up_ranges(&self) {
        self.lock().without_ranges = true;
    }

    pub(crate) fn recover(&self) {
        let mut state = self.lock();
        state.cut.clear();
        state.always.clear();
        state.once.clear();
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<(String, Range<u64>)> {
        self.lock().requests.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Remote for FakeRemote {
    fn open(&self, path: &str, range: Range<u64>) -> Result<Box<dyn Read + Send>, RemoteError> {
        let mut state = self.lock();
        state.requests.push((path.to_owned(), range.clone()));
        let url = format!("fake:/{path}");
        if state.without_ranges && range.start > 0 {
            return Err(RemoteError::NoRanges { url, from: range.start });
        }
        let trouble = state.always.get(path).copied().or_else(|| state.once.pop());
        let missing = RemoteError::NotFound { url: url.clone(), status: 404 };
        let Some(file) = state.files.get(path).filter(|_| trouble != Some(Trouble::Missing)) else {
            return Err(missing);
        };
        let mut file = file.clone();
        let mut ending = Ending { left: u64::MAX, fails: false };
        match trouble {
            Some(Trouble::Busy) => {
                return Err(RemoteError::Unavailable { url, reason: "status 503".into() });
            }
            Some(Trouble::Wrong) => {
                return Err(RemoteError::Protocol { url, reason: "nonsense".into() });
            }
            Some(Trouble::Damage(at)) => file[at as usize] ^= 1,
            Some(Trouble::End(left)) => ending.left = left,
            Some(Trouble::Drop(left)) => ending = Ending { left, fails: true },
            Some(Trouble::Missing) | None => {}
        }
        let end = range.end.min(file.len() as u64);
        if let Some(left) = state.cut.get_mut(path) {
            ending = Ending { left: *left, fails: true };
            *left -= (*left).min(end.saturating_sub(range.start));
        }
        let Some(bytes) = file.get(range.start as usize..end as usize) else {
            return Err(RemoteError::Protocol { url, reason: "the file is shorter".into() });
        };
        Ok(Box::new(Line { bytes: io::Cursor::new(bytes.to_vec()), ending }))
    }

    fn address(&self) -> String {
        "fake:".into()
    }
}

struct Ending {
    left: u64,
    fails: bool,
}

struct Line {
    bytes: io::Cursor<Vec<u8>>,
    ending: Ending,
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ending.left == 0 && self.ending.fails {
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, "connection reset"));
        }
        // Short reads, as a network gives them.
        let most = self.ending.left.min(1000).min(buffer.len() as u64) as usize;
        let length = self.bytes.read(&mut buffer[..most])?;
        self.ending.left -= length as u64;
        Ok(length)
    }
}

/// A clock that stands still but while somebody sleeps.
#[derive(Default)]
pub(crate) struct FakeClock {
    slept: Mutex<Duration>,
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn monotonic(&self) -> Duration {
        *self.slept.lock().unwrap()
    }

    fn sleep(&self, time: Duration) {
        *self.slept.lock().unwrap() += time;
    }
}
