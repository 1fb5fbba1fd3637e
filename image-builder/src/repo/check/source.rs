//! The repository that is audited: a folder, or a server.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::blocking::Client;
use reqwest::header::ACCEPT_ENCODING;

use upright_manifests::tuf::limits;

use crate::repo::error::{Error, Result, chain};

/// How long a server may take to connect, and to say something.
const PATIENCE: Duration = Duration::from_secs(30);

/// A repository to read.
#[derive(Debug)]
pub enum Source {
    /// A folder on this machine.
    Folder(PathBuf),
    /// A server.
    Server {
        /// Its address, without a slash at the end.
        url: String,
        /// The connection.
        client: Client,
    },
}

/// What is behind a path.
pub(super) type Found = Option<Box<dyn Read>>;

impl Source {
    /// A folder, or an address with `http://` or `https://`.
    pub fn new(text: &str) -> Result<Self> {
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return Self::folder(PathBuf::from(text));
        }
        // An error means that it is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("upright-build/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(PATIENCE)
            .timeout(None)
            .build()
            .map_err(|error| Error::Failed(format!("cannot set up TLS: {}", chain(&error))))?;
        Ok(Self::Server { url: text.trim_end_matches('/').to_owned(), client })
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

    /// Opens a file; `None` if there is no such file.
    pub(super) fn open(&self, path: &str) -> Result<Found> {
        match self {
            // Signed does not mean harmless: a team may list any path.
            Self::Folder(_) if path.split('/').any(|part| matches!(part, "" | "." | "..")) => Ok(None),
            Self::Folder(folder) => {
                let path = folder.join(path);
                match File::open(&path) {
                    Ok(file) => Ok(Some(Box::new(file))),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(Error::file("read", &path)(error)),
                }
            }
            Self::Server { url, client } => {
                let url = format!("{url}/{path}");
                let failed = |reason: String| Error::Failed(format!("cannot read {url}: {reason}"));
                let request = client.get(&url).header(ACCEPT_ENCODING, "identity");
                let answer = request.send().map_err(|error| failed(chain(&error)))?;
                match answer.status() {
                    StatusCode::OK => Ok(Some(Box::new(answer))),
                    // Buckets answer 403 for what is not there when listing is not allowed.
                    StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => Ok(None),
                    status => Err(failed(format!("the server answered {status}"))),
                }
            }
        }
    }

    /// Reads a file of at most `most` bytes, and one byte more if it is longer; `None` if there is no such file.
    pub(super) fn read(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(most.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| Error::Failed(format!("cannot read {path}: {error}")))?;
        Ok(Some(bytes))
    }
}
