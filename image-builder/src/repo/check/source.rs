//! The repository that is read: a folder, an export file, or a server.

use std::error::Error as _;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, RANGE};

use upright_manifests::archive::{self, Contents};
use upright_manifests::partial::{self, Partial};
use upright_manifests::tuf::limits;

use crate::repo::error::{Error, Result, chain};

/// How long a server may take to connect, and to say something, if nothing else is said.
const PATIENCE: Duration = Duration::from_secs(30);

/// What files are read as.
const WHOLE: u64 = 0;

/// A repository to read.
#[derive(Debug)]
pub enum Source {
    /// A folder on this machine.
    Folder(PathBuf),
    /// What `upright-build export` wrote to a file.
    Export {
        /// Its name.
        path: PathBuf,
        /// Where the repository's files are in it.
        contents: Contents,
    },
    /// A server.
    Server {
        /// Its address, without a slash at the end.
        url: String,
        /// The connection.
        client: Client,
        /// How long it may say nothing.
        stall: Duration,
    },
}

/// What is behind a path.
pub(super) type Found = Option<Box<dyn Read>>;

/// What is behind a path, from some byte on.
pub(in crate::repo) struct Opened {
    /// The bytes.
    pub(in crate::repo) bytes: Box<dyn Read>,
    /// Where they begin: where they were asked for, or zero where a server sends whole files only.
    pub(in crate::repo) from: u64,
}

impl Source {
    /// A folder, an export file, or an address with `http://` or `https://`.
    pub fn new(text: &str) -> Result<Self> {
        Self::patient(text, PATIENCE)
    }

    /// The same with a server that may say nothing for so long.
    pub fn patient(text: &str, stall: Duration) -> Result<Self> {
        if !text.starts_with("http://") && !text.starts_with("https://") {
            let path = PathBuf::from(text);
            return if path.is_file() { Self::export(path) } else { Self::folder(path) };
        }
        // An error means that it is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("upright-build/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(stall)
            // In the blocking client: until the answer's head is there, and for each read of the body.
            .timeout(stall)
            .build()
            .map_err(|error| Error::Failed(format!("cannot set up TLS: {}", chain(&error))))?;
        Ok(Self::Server { url: text.trim_end_matches('/').to_owned(), client, stall })
    }

    fn export(path: PathBuf) -> Result<Self> {
        let file = File::open(&path).map_err(Error::file("read", &path))?;
        let length = file.metadata().map_err(Error::file("read", &path))?.len();
        let contents = archive::read(length, &mut |buffer, at| file.read_exact_at(buffer, at));
        let contents = contents.map_err(|error| match error {
            archive::ArchiveError::Read(source) => Error::file("read", &path)(source),
            error => Error::refused(format!("{} cannot be used: {error}", path.display())),
        })?;
        Ok(Self::Export { path, contents })
    }

    /// A folder, whatever its name.
    pub fn folder(folder: PathBuf) -> Result<Self> {
        match folder.join("metadata").is_dir() {
            true => Ok(Self::Folder(folder)),
            false => Err(Error::refused(format!(
                "{} is not a repository: it has no folder metadata/; name a repository's folder or address",
                folder.display()
            ))),
        }
    }

    /// The repository's own first root, for an audit that has nothing better to trust.
    pub fn first_root(&self) -> Result<Vec<u8>> {
        let root = self.read("metadata/1.root.json", limits::ROOT)?;
        root.ok_or_else(|| {
            Error::refused("the repository has no metadata/1.root.json; name a root with --root")
        })
    }

    /// The part of its repository that it is to have, if it says that it is no whole one.
    pub(in crate::repo) fn part(&self) -> Result<Option<Partial>> {
        let Some(bytes) = self.read(partial::PATH, partial::MAX_BYTES)? else { return Ok(None) };
        Partial::parse(&bytes).map(Some).map_err(|error| {
            let (path, place) = (partial::PATH, self.place());
            Error::refused(format!(
                "what {place} is to have is not known, since its {path} cannot be used: {error}; make the copy anew, or \
                 remove {path} if it is a whole repository"
            ))
        })
    }

    /// Opens a file; `None` if there is no such file.
    pub(super) fn open(&self, path: &str) -> Result<Found> {
        Ok(self.open_from(path, WHOLE)?.map(|opened| opened.bytes))
    }

    /// Opens a file at a byte that it has; `None` if there is no such file.
    pub(in crate::repo) fn open_from(&self, path: &str, from: u64) -> Result<Option<Opened>> {
        match self {
            // Signed does not mean harmless: a team may list any path.
            Self::Folder(_) if path.split('/').any(|part| matches!(part, "" | "." | "..")) => Ok(None),
            Self::Folder(folder) => open_file(&folder.join(path), from, u64::MAX),
            Self::Export { path: file, contents, .. } => match contents.find(path) {
                Some(at) => {
                    let start = at.start.saturating_add(from).min(at.end);
                    let opened = open_file(file, start, at.end - start)?;
                    Ok(opened.map(|opened| Opened { from, ..opened }))
                }
                None => Ok(None),
            },
            Self::Server { url, client, stall } => {
                let url = format!("{url}/{path}");
                let failed = |reason: String| Error::Failed(format!("cannot read {url}: {reason}"));
                let mut request = client.get(&url).header(ACCEPT_ENCODING, "identity");
                if from > 0 {
                    request = request.header(RANGE, format!("bytes={from}-"));
                }
                let answer = request.send().map_err(|error| failed(told(&error.without_url(), *stall)))?;
                let body = |answer| Box::new(Body { answer, stall: *stall });
                match answer.status() {
                    StatusCode::OK => Ok(Some(Opened { bytes: body(answer), from: 0 })),
                    StatusCode::PARTIAL_CONTENT if from > 0 => {
                        let range = answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
                        match range.is_some_and(|range| range.starts_with(&format!("bytes {from}-"))) {
                            true => Ok(Some(Opened { bytes: body(answer), from })),
                            false => Err(failed("the server answered with another range".to_owned())),
                        }
                    }
                    // Buckets answer 403 for what is not there when listing is not allowed.
                    StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => Ok(None),
                    status => Err(failed(format!("the server answered {status}"))),
                }
            }
        }
    }

    /// Where it is, for messages.
    pub fn place(&self) -> String {
        match self {
            Self::Folder(path) | Self::Export { path, .. } => path.display().to_string(),
            Self::Server { url, .. } => url.clone(),
        }
    }

    /// Reads a file of at most `most` bytes, and one byte more if it is longer; `None` if there is no such file.
    pub(in crate::repo) fn read(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(most.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| Error::Failed(format!("cannot read {path}: {error}")))?;
        Ok(Some(bytes))
    }
}

/// What a server sends, with errors that say what happened: the client's own say that a body cannot be decoded.
struct Body {
    answer: Response,
    stall: Duration,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.answer.read(buffer).map_err(|error| {
            let of_client = error.get_ref().and_then(|inner| inner.downcast_ref::<reqwest::Error>());
            match of_client {
                Some(inner) => io::Error::new(error.kind(), told(inner, self.stall)),
                None => error,
            }
        })
    }
}

/// What went wrong with a server, in words.
fn told(error: &reqwest::Error, stall: Duration) -> String {
    if error.is_timeout() && !error.is_connect() {
        return format!("the server said nothing for {} s", stall.as_secs());
    }
    if error.is_body() || error.is_decode() {
        return match error.source() {
            Some(source) => format!("the connection broke off: {}", chain(source)),
            None => "the connection broke off".to_owned(),
        };
    }
    chain(error)
}

/// At most `length` bytes of a file from `from` on.
fn open_file(path: &Path, from: u64, length: u64) -> Result<Option<Opened>> {
    let open = || -> io::Result<Opened> {
        // A pipe would be waited for.
        if !path.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        Ok(Opened { bytes: Box::new(file.take(length)), from })
    };
    match open() {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("read", path)(error)),
    }
}
