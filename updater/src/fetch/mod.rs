//! Everything that comes over the network: HTTP, TUF metadata, manifests, and the parts of payloads.

mod download;
mod error;
mod http;
mod session;

pub use download::{Parts, Retry, head, with_parts};
pub use error::FetchError;
pub use http::{AddressError, HttpRemote, status_of};
pub use session::Session;
