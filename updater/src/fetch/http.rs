//! The repository behind an HTTP server.
//!
//! Nothing here is trusted: what comes is limited in length and time, and checked by who reads it against what was
//! signed. No cookies, no decompression on the way, a few redirects and never from `https` to `http`.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Url;
use reqwest::blocking::{Client, ClientBuilder, Response};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, HeaderName, RANGE};
use reqwest::redirect::{Attempt, Policy};
use reqwest::tls::Certificate;

use super::address::is_below_root;
use super::answer::{Answer, Verdict};
use super::names::{HostsFile, has_servers};
use super::pace::{Floor, Pace, Paced};
use crate::host::{Remote, RemoteError};

/// The most redirects that are followed.
const REDIRECTS: usize = 5;

/// How to talk to a server.
#[derive(Debug, Clone)]
pub(super) struct HttpOptions {
    /// What the agent calls itself.
    pub(super) user_agent: String,
    /// How long a connection may take to be made.
    pub(super) connect: Duration,
    /// How long the server may say nothing.
    pub(super) idle: Duration,
    /// The slowest that is put up with.
    pub(super) floor: Floor,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            user_agent: concat!("upright/", env!("CARGO_PKG_VERSION")).into(),
            connect: Duration::from_secs(15),
            idle: Duration::from_secs(30),
            floor: Floor::default(),
        }
    }
}

/// A repository behind an HTTP server.
pub(super) struct Server {
    base: Url,
    options: HttpOptions,
    authorities: Option<Vec<Certificate>>,
    /// Made when it is first needed, and again after a failure to connect: the machine's DNS servers may have changed.
    client: Mutex<Option<Client>>,
}

impl Server {
    /// The repository whose root is `base`. Connects to nothing.
    pub(super) fn new(base: Url, authorities: Option<Vec<Certificate>>, options: HttpOptions) -> Self {
        Self { base, options, authorities, client: Mutex::new(None) }
    }

    fn client(&self) -> Result<Client, reqwest::Error> {
        let mut held = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*held {
            return Ok(client.clone());
        }
        let client = self.connectable()?;
        *held = Some(client.clone());
        Ok(client)
    }

    fn connectable(&self) -> Result<Client, reqwest::Error> {
        // A second installation fails, and means that there is one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        match &self.authorities {
            Some(only) => self.builder().tls_certs_only(only.clone()).build(),
            // A machine without certificates can still use http.
            None => self.builder().build().or_else(|error| match self.base.scheme() {
                "http" => self.builder().tls_certs_only([]).build(),
                _ => Err(error),
            }),
        }
    }

    fn builder(&self) -> ClientBuilder {
        let options = &self.options;
        let builder = Client::builder()
            .user_agent(&options.user_agent)
            .connect_timeout(options.connect)
            // In the blocking client: until the answer's head is there, and for each read of the body.
            .timeout(options.idle)
            .referer(false)
            .pool_max_idle_per_host(1)
            .redirect(Policy::custom(redirect));
        match has_servers() {
            true => builder,
            false => builder.dns_resolver(Arc::new(HostsFile)),
        }
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        url
    }

    fn fail(&self, url: &Url, error: &reqwest::Error) -> RemoteError {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let (url, reason) = (shown(url), chain(error));
        match error.is_redirect() || error.is_builder() || is_tls(error) {
            true => RemoteError::Protocol { url, reason },
            false => RemoteError::Unavailable { url, reason },
        }
    }
}

impl Remote for Server {
    fn open(&self, path: &str, range: Range<u64>) -> Result<Box<dyn Read + Send>, RemoteError> {
        let url = self.url(path);
        if !is_below_root(path) {
            let reason = "the path leads out of the repository".into();
            return Err(RemoteError::Protocol { url: shown(&url), reason });
        }
        if range.is_empty() {
            return Ok(Box::new(io::empty()));
        }
        let response = self
            .client()
            .and_then(|client| {
                let request = client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
                request.header(RANGE, format!("bytes={}-{}", range.start, range.end - 1)).send()
            })
            .map_err(|error| self.fail(&url, &error))?;
        let reader = body(response, &range, &url)?;
        Ok(Box::new(Paced { inner: reader, floor: self.options.floor, pace: Pace::default() }))
    }

    fn address(&self) -> String {
        shown(&self.base)
    }
}

/// The status that an address answers with, for health checks.
pub fn status_of(url: &str, timeout: Duration) -> Result<u16, String> {
    let failed = |error: reqwest::Error| format!("{url} does not answer: {}", chain(&error));
    let base = Url::parse(url).map_err(|error| format!("{url} is no address: {error}"))?;
    let options = HttpOptions { connect: timeout, idle: timeout, ..HttpOptions::default() };
    let client = Server::new(base.clone(), None, options).client().map_err(failed)?;
    Ok(client.get(base).send().map_err(failed)?.status().as_u16())
}

/// Judges an answer and gives the reader of its body.
fn body(response: Response, range: &Range<u64>, url: &Url) -> Result<Body, RemoteError> {
    let header = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
    let answer = Answer {
        status: response.status().as_u16(),
        content_range: header(CONTENT_RANGE),
        content_length: header(CONTENT_LENGTH).and_then(|text| text.parse().ok()),
        content_encoding: header(CONTENT_ENCODING),
    };
    let asked = range.end - range.start;
    match answer.judge(range) {
        Verdict::Body { exact } => {
            Ok(Body { left: exact.unwrap_or(asked), exact: exact.is_some(), whole: false, response })
        }
        Verdict::Whole { exact } => {
            Ok(Body { left: exact.unwrap_or(asked), exact: exact.is_some(), whole: true, response })
        }
        Verdict::NoRanges => Err(RemoteError::NoRanges { url: shown(url), from: range.start }),
        Verdict::NotFound => Err(RemoteError::NotFound { url: shown(url), status: answer.status }),
        Verdict::Unavailable(reason) => Err(RemoteError::Unavailable { url: shown(url), reason }),
        Verdict::Wrong(reason) => Err(RemoteError::Protocol { url: shown(url), reason }),
    }
}

/// The body of an answer, held to the length that was announced or asked for.
struct Body {
    response: Response,
    left: u64,
    exact: bool,
    /// Whether it may go on behind what was asked for, which is left alone then, however long it is.
    whole: bool,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || (self.whole && self.left == 0) {
            return Ok(0);
        }
        let most = if self.whole { usize::try_from(self.left).unwrap_or(usize::MAX) } else { usize::MAX };
        let most = most.min(buffer.len());
        let buffer = &mut buffer[..most];
        let length = self.response.read(buffer).map_err(|error| {
            let kind = if is_timeout(&error) { io::ErrorKind::TimedOut } else { error.kind() };
            io::Error::new(kind, chain(&error))
        })?;
        if length as u64 > self.left {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the server sends more than was asked for",
            ));
        }
        if length == 0 && self.exact && self.left > 0 {
            let message = format!("the connection ended {} bytes too early", self.left);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        self.left -= length as u64;
        Ok(length)
    }
}

fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    if attempt.previous().last().is_some_and(|from| downgrades(from, attempt.url())) {
        return attempt.error("it redirects from https to http");
    }
    if attempt.previous().len() > REDIRECTS {
        return attempt.error(format!("it redirects more than {REDIRECTS} times"));
    }
    attempt.follow()
}

/// Whether a redirect would give up the certificate.
pub(super) fn downgrades(from: &Url, to: &Url) -> bool {
    from.scheme() == "https" && to.scheme() != "https"
}

/// An address without what may be secret: user, password and query.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.into()
}

/// The causes of an error, innermost last, without addresses; the outermost layers say nothing by themselves.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut causes = vec![];
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes.dedup();
    match causes.is_empty() {
        true => error.to_string(),
        false => causes.join(": "),
    }
}

/// Whether a certificate or the TLS protocol is at fault, not the line.
fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if cause.is::<rustls::Error>() {
            return true;
        }
        // What an input or output error wraps is not its source, but takes its place.
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    false
}

fn is_timeout(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<reqwest::Error>());
    inner.is_some_and(reqwest::Error::is_timeout)
}
