//! What a request is answered with.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jiff::Timestamp;

use super::request::{Request, Selection};

/// An answer that can be sent.
#[derive(Debug)]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: u16,
    headers: Vec<(&'static str, String)>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Text(&'static str),
    File { file: File, start: u64, length: u64 },
    None,
}

/// Finds the file that `request` names under `root`.
pub(super) fn answer(request: &Request, root: &Path) -> Answer {
    let Some((file, length, tag)) = request.path.as_ref().and_then(|parts| open(root, parts)) else {
        return Answer::status(404);
    };
    let mut headers = vec![
        ("Accept-Ranges", "bytes".to_owned()),
        ("ETag", tag.clone()),
        ("Cache-Control", caching(request).to_owned()),
        ("Content-Type", content_type(request).to_owned()),
    ];
    let known = request.if_none_match.as_deref();
    if known.is_some_and(|tags| tags == "*" || tags.split(',').any(|known| known.trim() == tag)) {
        return Answer { status: 304, headers, body: Body::None };
    }
    let (status, start, length) = match request.selection(length, &tag) {
        Selection::Whole => (200, 0, length),
        Selection::Part(first, last) => {
            headers.push(("Content-Range", format!("bytes {first}-{last}/{length}")));
            (206, first, last - first + 1)
        }
        Selection::Unsatisfiable => {
            let headers = vec![("Content-Range", format!("bytes */{length}"))];
            return Answer { headers, ..Answer::status(416) };
        }
    };
    Answer { status, headers, body: Body::File { file, start, length } }
}

/// Opens a regular file that is, links followed, under the root.
fn open(root: &Path, parts: &[String]) -> Option<(File, u64, String)> {
    let path = parts.iter().fold(root.to_owned(), |path, part| path.join(part)).canonicalize().ok()?;
    let file = path.starts_with(root).then(|| File::open(&path).ok())??;
    let facts = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let tag = format!("\"{:x}-{:x}-{:x}.{:x}\"", facts.ino(), facts.len(), facts.mtime(), facts.mtime_nsec());
    Some((file, facts.len(), tag))
}

/// Metadata without a version in front of its name, `timestamp.json` first of all, changes under the same name.
fn caching(request: &Request) -> &'static str {
    let named_by_content = request.path.as_ref().is_some_and(|parts| {
        parts.first().is_some_and(|folder| folder != "metadata")
            || parts.last().is_some_and(|name| name.starts_with(|c: char| c.is_ascii_digit()))
    });
    if named_by_content { "public, max-age=31536000, immutable" } else { "no-cache" }
}

fn content_type(request: &Request) -> &'static str {
    let json =
        request.path.as_ref().and_then(|parts| parts.last()).is_some_and(|name| name.ends_with(".json"));
    if json { "application/json" } else { "application/octet-stream" }
}

impl Answer {
    /// An answer that says no more than its status.
    pub(super) fn status(status: u16) -> Self {
        let headers = match status {
            405 => vec![("Allow", "GET, HEAD".to_owned())],
            503 => vec![("Retry-After", "1".to_owned())],
            _ => Vec::new(),
        };
        Self { status, headers, body: Body::Text(reason(status)) }
    }

    /// How long the body is in bytes.
    pub(super) fn body_length(&self) -> u64 {
        match &self.body {
            Body::Text(text) => text.len() as u64 + 1,
            Body::File { length, .. } => *length,
            Body::None => 0,
        }
    }

    /// Sends the head and, if `with_body`, the body.
    pub(super) fn send(self, mut stream: impl Write, with_body: bool, keep_alive: bool) -> io::Result<()> {
        let date = Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT");
        let mut head = format!("HTTP/1.1 {} {}\r\nDate: {date}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if self.status != 304 {
            head += &format!("Content-Length: {}\r\n", self.body_length());
        }
        head += if keep_alive { "\r\n" } else { "Connection: close\r\n\r\n" };
        stream.write_all(head.as_bytes())?;
        match self.body {
            Body::Text(text) if with_body => writeln!(stream, "{text}"),
            Body::File { mut file, start, length } if with_body => {
                file.seek(SeekFrom::Start(start))?;
                let sent = io::copy(&mut file.take(length), &mut stream)?;
                match sent == length {
                    true => Ok(()),
                    // The head has promised more: only a closed connection tells the client.
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
            _ => Ok(()),
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}
