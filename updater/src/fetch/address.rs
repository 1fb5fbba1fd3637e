//! From a repository's address, as the configuration has it, to a [`Remote`].

use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use reqwest::{Certificate, Url};

use super::folder::Folder;
use super::http::{HttpOptions, Server, chain};
use super::pace::Floor;
use crate::config::Config;
use crate::host::{Remote, RemoteError};

/// A repository at an `https://`, `http://` or `file://` address.
pub struct HttpRemote {
    place: Box<dyn Remote + Send>,
}

/// Why a repository's address is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not an address, or of another scheme.
    #[error("repository address {address:?} cannot be used: {reason}; give http://, https:// or file:///")]
    Malformed {
        /// The address.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file of certificate authorities cannot be used.
    #[error("cannot use the certificate authorities in {path}: {reason}")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl HttpRemote {
    /// The repository of `config`. Nothing is connected yet.
    pub fn of(config: &Config) -> Result<Self, AddressError> {
        let stall = config.limits.stall.0;
        let floor = Floor { over: stall.saturating_mul(2), ..Floor::default() };
        let options = HttpOptions { idle: stall, floor, ..HttpOptions::default() };
        Self::with(&config.repository.url, config.repository.ca_file.as_deref(), options)
    }

    /// The repository at `address`. `authorities` is a PEM file of the certificate authorities to trust instead of the
    /// system's. Nothing is connected yet.
    pub fn new(address: &str, authorities: Option<&Path>) -> Result<Self, AddressError> {
        Self::with(address, authorities, HttpOptions::default())
    }

    pub(super) fn with(
        address: &str,
        authorities: Option<&Path>,
        options: HttpOptions,
    ) -> Result<Self, AddressError> {
        let malformed =
            |reason: String| AddressError::Malformed { address: address.chars().take(200).collect(), reason };
        let url = Url::parse(address).map_err(|error| malformed(error.to_string()))?;
        let place: Box<dyn Remote + Send> = match url.scheme() {
            "http" | "https" => {
                let authorities = authorities.map(read_authorities).transpose()?;
                Box::new(Server::new(url, authorities, options))
            }
            "file" => {
                let folder =
                    url.to_file_path().map_err(|()| malformed("it names another machine".to_owned()))?;
                Box::new(Folder::new(folder))
            }
            scheme => return Err(malformed(format!("{scheme} is not supported"))),
        };
        Ok(Self { place })
    }
}

impl Remote for HttpRemote {
    fn open(&self, path: &str, range: Range<u64>) -> Result<Box<dyn Read + Send>, RemoteError> {
        self.place.open(path, range)
    }

    fn length(&self, path: &str) -> Result<Option<u64>, RemoteError> {
        self.place.length(path)
    }

    fn address(&self) -> String {
        self.place.address()
    }
}

fn read_authorities(path: &Path) -> Result<Vec<Certificate>, AddressError> {
    let unusable = |reason: String| AddressError::Authorities { path: path.to_owned(), reason };
    let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(chain(&error)))?;
    match found.is_empty() {
        true => Err(unusable("there are none in it; PEM is expected".to_owned())),
        false => Ok(found),
    }
}

/// Whether `path` stays below a repository's root and means itself in an address.
pub(super) fn is_below_root(path: &str) -> bool {
    let strange = |byte: u8| byte.is_ascii_control() || !byte.is_ascii() || b"\\?#".contains(&byte);
    !path.bytes().any(strange) && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}
