//! The repository behind an HTTP server, or in a local folder.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::blocking::{Client, Response};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, RANGE};
use reqwest::{Certificate, StatusCode, redirect};

use crate::host::{Remote, RemoteError};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(15);

/// How long a server may say nothing.
const SILENCE: Duration = Duration::from_secs(30);

/// How many redirects are followed.
const REDIRECTS: usize = 5;

/// The slowest average a server may have over [`SLOW_TIME`], in bytes a second: less is an attack or a broken line.
const SLOWEST: u64 = 1024;

/// How long a server may be slow.
const SLOW_TIME: Duration = Duration::from_secs(60);

/// A repository at an `https://`, `http://` or `file://` address.
pub struct HttpRemote {
    address: String,
    place: Place,
}

enum Place {
    Server(Client),
    Folder(PathBuf),
}

/// Why an address cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The file of certificate authorities cannot be used.
    #[error("cannot use the certificate authorities in {path}: {reason}")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is no TLS client to be had.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

impl HttpRemote {
    /// The repository at `address`. `authorities` is a PEM file of the certificate authorities to trust instead of the system's.
    pub fn new(address: &str, authorities: Option<&Path>) -> Result<Self, AddressError> {
        let address = address.trim_end_matches('/').to_owned();
        let place = match address.strip_prefix("file://") {
            Some(folder) => Place::Folder(PathBuf::from(folder)),
            None => Place::Server(client(authorities)?),
        };
        Ok(Self { address, place })
    }
}

fn client(authorities: Option<&Path>) -> Result<Client, AddressError> {
    // An error means that another client has installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("upright/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .timeout(SILENCE)
        .redirect(redirect::Policy::custom(follow));
    if let Some(path) = authorities {
        let unusable = |reason: String| AddressError::Authorities { path: path.to_owned(), reason };
        let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
        let authorities = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(error.to_string()))?;
        builder = builder.tls_certs_only(authorities);
    }
    builder.build().map_err(|error| AddressError::Tls(chain(&error)))
}

/// Follows a few redirects, never from HTTPS to anything else.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let secure = attempt.previous().first().is_some_and(|url| url.scheme() == "https");
    if attempt.previous().len() > REDIRECTS {
        attempt.error(format!("more than {REDIRECTS} redirects"))
    } else if secure && attempt.url().scheme() != "https" {
        attempt.error("a redirect from https to something else")
    } else {
        attempt.follow()
    }
}

impl Remote for HttpRemote {
    fn open(&self, path: &str, range: Range<u64>) -> Result<Box<dyn Read + Send>, RemoteError> {
        let url = format!("{}/{path}", self.address);
        match &self.place {
            Place::Folder(folder) => open_file(&folder.join(path), url, &range),
            Place::Server(client) => {
                let response = ask(client, &url, &range)?;
                Ok(Box::new(Paced::new(response.take(range.end - range.start))))
            }
        }
    }

    fn address(&self) -> String {
        self.address.clone()
    }
}

fn open_file(path: &Path, url: String, range: &Range<u64>) -> Result<Box<dyn Read + Send>, RemoteError> {
    let open = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(range.start))?;
        Ok::<_, io::Error>(file)
    };
    match open() {
        Ok(file) => Ok(Box::new(file.take(range.end - range.start))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(RemoteError::NotFound { url, status: 404 })
        }
        Err(error) => Err(RemoteError::Unavailable { url, reason: error.to_string() }),
    }
}

fn ask(client: &Client, url: &str, range: &Range<u64>) -> Result<Response, RemoteError> {
    let last = range.end.saturating_sub(1);
    let response = client
        .get(url)
        .header(RANGE, format!("bytes={}-{last}", range.start))
        .header(ACCEPT_ENCODING, "identity")
        .send()
        .map_err(|error| refused(url, &error))?;
    let wrong = |reason: String| RemoteError::Protocol { url: url.to_owned(), reason };
    match response.status() {
        StatusCode::OK if range.start == 0 => Ok(response),
        StatusCode::OK => Err(wrong("the server does not serve ranges (RFC 9110, section 14)".to_owned())),
        StatusCode::PARTIAL_CONTENT => {
            let served = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
            match served.and_then(first_byte) {
                Some(first) if first == range.start => Ok(response),
                _ => Err(wrong(format!("asked for bytes from {}, got {served:?}", range.start))),
            }
        }
        // Nothing is left from there on: as if the file ended.
        StatusCode::RANGE_NOT_SATISFIABLE => Err(wrong(format!("it has no byte {}", range.start))),
        status @ (StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN) => {
            Err(RemoteError::NotFound { url: url.to_owned(), status: status.as_u16() })
        }
        status => {
            let reason = format!("the server answers {status}");
            Err(RemoteError::Unavailable { url: url.to_owned(), reason })
        }
    }
}

/// The first byte of `bytes FIRST-LAST/LENGTH` (RFC 9110, section 14.4).
fn first_byte(value: &str) -> Option<u64> {
    value.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn refused(url: &str, error: &reqwest::Error) -> RemoteError {
    let reason = chain(error);
    let url = url.to_owned();
    match error.is_redirect() || error.is_builder() {
        true => RemoteError::Protocol { url, reason },
        false => RemoteError::Unavailable { url, reason },
    }
}

/// The innermost cause, which says what happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// The status that an address answers with, for health checks.
pub fn status_of(url: &str, timeout: Duration) -> Result<u16, String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().timeout(timeout).build().map_err(|error| chain(&error))?;
    let response =
        client.get(url).send().map_err(|error| format!("{url} does not answer: {}", chain(&error)))?;
    Ok(response.status().as_u16())
}

/// A reader that gives up on a server that is too slow: it counts the time spent waiting for the server, not the
/// time that the reader's owner takes between two reads.
struct Paced<R> {
    inner: R,
    waited: Duration,
    read: u64,
}

impl<R: Read> Paced<R> {
    fn new(inner: R) -> Self {
        Self { inner, waited: Duration::ZERO, read: 0 }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let start = Instant::now();
        let count = self.inner.read(buffer).map_err(|error| {
            let reason = error.get_ref().map(|inner| chain(inner));
            io::Error::new(error.kind(), reason.unwrap_or_else(|| error.to_string()))
        })?;
        self.waited += start.elapsed();
        self.read += count as u64;
        if self.waited >= SLOW_TIME {
            if self.read < SLOWEST * SLOW_TIME.as_secs() {
                let reason = format!("the server sends less than {SLOWEST} bytes a second");
                return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
            }
            (self.waited, self.read) = (Duration::ZERO, 0);
        }
        Ok(count)
    }
}
