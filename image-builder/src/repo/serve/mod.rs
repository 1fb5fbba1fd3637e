//! A static HTTP/1.1 server for trying a repository out: ranges, HEAD, keep-alive, nothing else.
//!
//! It reads files under one folder and nothing outside of it; hidden files are not served. For a fleet, any web
//! server or bucket does the same job.

mod answer;
mod request;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use answer::Answer;
use request::Request;

use super::error::{Error, Result};

/// The most connections at a time; more are told to come back.
const MAX_CONNECTIONS: usize = 128;

/// The most bytes of a request's line and headers.
const MAX_HEAD: u64 = 16 << 10;

/// How long a connection may stay silent.
const IDLE: Duration = Duration::from_secs(60);

/// Hears of each answer: method and path as they came, status, bytes of the body.
pub type Log = dyn Fn(&str, u16, u64) + Send + Sync;

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    root: PathBuf,
    log: Arc<Log>,
}

impl Server {
    /// Listens at `address` for files under `root`.
    pub fn bind(address: SocketAddr, root: &Path, log: Arc<Log>) -> Result<Self> {
        let root = root.canonicalize().map_err(Error::file("serve", root))?;
        if !root.is_dir() {
            let root = root.display();
            return Err(Error::refused(format!(
                "cannot serve {root}: it is not a folder; name a repository's"
            )));
        }
        let listener = TcpListener::bind(address)
            .map_err(|error| Error::Failed(format!("cannot listen on {address}: {error}")))?;
        Ok(Self { listener, root, log })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(|error| Error::Failed(format!("cannot tell the address: {error}")))
    }

    /// Serves until the process ends.
    pub fn run(self) -> Result<()> {
        let open = Arc::new(AtomicUsize::new(0));
        for stream in self.listener.incoming() {
            // A connection that failed before it was accepted concerns its client alone.
            let Ok(stream) = stream else { continue };
            let (root, log) = (self.root.clone(), Arc::clone(&self.log));
            match Seat::take(&open) {
                Some(seat) => {
                    thread::spawn(move || {
                        // What goes wrong with one connection ends that connection.
                        let _ = converse(stream, &root, &*log);
                        drop(seat);
                    });
                }
                None => {
                    let _ = Answer::status(503).send(&stream, true, false);
                }
            }
        }
        Ok(())
    }
}

/// One of [`MAX_CONNECTIONS`].
struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn take(open: &Arc<AtomicUsize>) -> Option<Self> {
        let seat = Self(Arc::clone(open));
        (open.fetch_add(1, Ordering::Relaxed) < MAX_CONNECTIONS).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn converse(stream: TcpStream, root: &Path, log: &Log) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(head) = read_head(&mut reader)? {
        let (line, answer, body, keep) = match Request::parse(&head) {
            Ok(request) => {
                let answer = answer::answer(&request, root);
                (request.line(), answer, !request.head_only, request.keep_alive)
            }
            Err(status) => ("-".to_owned(), Answer::status(status), true, false),
        };
        let (status, length) = (answer.status, answer.body_length());
        answer.send(&stream, body, keep)?;
        log(&line, status, if body { length } else { 0 });
        if !keep {
            break;
        }
    }
    (&stream).flush()
}

/// A request's line and headers, without the empty line that ends them; `None` when the client is done.
/// A head that does not end within [`MAX_HEAD`] comes back as it is and fails to parse.
fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    let mut bounded = reader.take(MAX_HEAD);
    loop {
        let start = head.len();
        if bounded.read_until(b'\n', &mut head)? == 0 {
            return Ok((!head.is_empty()).then_some(head));
        }
        if matches!(&head[start..], b"\r\n" | b"\n") {
            // RFC 9112, section 2.2: empty lines before a request are to be skipped.
            if start == 0 {
                head.clear();
                continue;
            }
            head.truncate(start);
            return Ok(Some(head));
        }
    }
}

#[cfg(test)]
mod tests;
