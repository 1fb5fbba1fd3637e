//! Reads requests: RFC 9112 (message syntax), RFC 9110 section 14 (ranges).

use std::io::{self, BufRead, Read};

/// The longest head of a request.
const MAX_HEAD: u64 = 16 << 10;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET` or `HEAD`, or what else was asked for.
    pub method: String,
    /// The path without the leading `/` and without a query.
    pub path: String,
    /// The range: the first byte, and the last one if it is named.
    pub range: Option<(u64, Option<u64>)>,
}

impl Request {
    /// The next request of a connection; `None` at its end.
    pub(super) fn read(input: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut head = input.take(MAX_HEAD);
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace();
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let path = target.split('?').next().unwrap_or_default().trim_start_matches('/').to_owned();
        let mut request = Self { method: method.to_owned(), path, range: None };
        loop {
            let mut line = String::new();
            if head.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("range") => {
                    request.range = range(value.trim())
                }
                Some(_) => {}
                None => return Ok(Some(request)),
            }
        }
    }
}

/// `bytes=FIRST-` or `bytes=FIRST-LAST`; anything else is ignored, as the specification allows.
fn range(value: &str) -> Option<(u64, Option<u64>)> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let last = match last {
        "" => None,
        last => Some(last.parse().ok()?),
    };
    Some((first.parse().ok()?, last))
}
