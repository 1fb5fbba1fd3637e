//! HTTP requests (RFC 9112), as far as serving files needs them.

/// A request for a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The path, decoded, in parts that are neither empty nor hidden nor `..`; `None` cannot name a file.
    pub(super) path: Option<Vec<String>>,
    /// The target as it came.
    pub(super) target: String,
    /// `HEAD`: headers alone are wanted.
    pub(super) head_only: bool,
    /// Whether the connection stays open.
    pub(super) keep_alive: bool,
    /// The `Range` header.
    pub(super) range: Option<String>,
    /// The `If-Range` header.
    pub(super) if_range: Option<String>,
    /// The `If-None-Match` header.
    pub(super) if_none_match: Option<String>,
}

/// A run of bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selection {
    /// All of it.
    Whole,
    /// From the first byte up to and including the last.
    Part(u64, u64),
    /// Nothing of it; 416.
    Unsatisfiable,
}

impl Request {
    /// Reads a request's line and headers; an error is the status to answer with.
    pub(super) fn parse(head: &[u8]) -> Result<Self, u16> {
        let text = std::str::from_utf8(head).map_err(|_| 400_u16)?;
        let mut lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target), Some(protocol), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(400);
        };
        let keep_alive = match protocol {
            "HTTP/1.1" => true,
            "HTTP/1.0" => false,
            _ => return Err(505),
        };
        let head_only = match method {
            "GET" => false,
            "HEAD" => true,
            _ => return Err(405),
        };
        let mut request = Self {
            path: parts(target),
            target: target.to_owned(),
            head_only,
            keep_alive,
            range: None,
            if_range: None,
            if_none_match: None,
        };
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or(400_u16)?;
            request.header(&name.to_ascii_lowercase(), value.trim())?;
        }
        Ok(request)
    }

    /// Method and target, for the log.
    pub(super) fn line(&self) -> String {
        format!("{} {}", if self.head_only { "HEAD" } else { "GET" }, self.target)
    }

    /// What of a file of `length` bytes with the entity tag `tag` is asked for (RFC 9110, section 14.2).
    pub(super) fn selection(&self, length: u64, tag: &str) -> Selection {
        match &self.range {
            // A client that resumes a file which has changed since gets all of the new one.
            Some(_) if self.if_range.as_ref().is_some_and(|wanted| wanted != tag) => Selection::Whole,
            Some(range) => select(range, length),
            None => Selection::Whole,
        }
    }

    fn header(&mut self, name: &str, value: &str) -> Result<(), u16> {
        match name {
            "range" => self.range = Some(value.to_owned()),
            "if-range" => self.if_range = Some(value.to_owned()),
            "if-none-match" => self.if_none_match = Some(value.to_owned()),
            "connection" if value.eq_ignore_ascii_case("close") => self.keep_alive = false,
            "connection" if value.eq_ignore_ascii_case("keep-alive") => self.keep_alive = true,
            // Bodies are not read, so what follows one could not be told from it.
            "content-length" if value != "0" => return Err(413),
            "transfer-encoding" => return Err(413),
            _ => {}
        }
        Ok(())
    }
}

/// One range in bytes; several, or another unit, may be answered with the whole file.
fn select(range: &str, length: u64) -> Selection {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Selection::Whole;
    };
    let (first, last) = (first.trim(), last.trim());
    match (first.parse::<u64>().ok(), last.parse::<u64>().ok()) {
        (Some(first), Some(last)) if first > last => Selection::Whole,
        (Some(first), Some(_)) if first >= length => Selection::Unsatisfiable,
        (Some(first), Some(last)) => Selection::Part(first, last.min(length - 1)),
        (Some(first), None) if last.is_empty() && first >= length => Selection::Unsatisfiable,
        (Some(first), None) if last.is_empty() => Selection::Part(first, length - 1),
        (None, Some(count)) if first.is_empty() && (count == 0 || length == 0) => Selection::Unsatisfiable,
        (None, Some(count)) if first.is_empty() => Selection::Part(length.saturating_sub(count), length - 1),
        _ => Selection::Whole,
    }
}

/// The parts of a path that can only lead to something under the root.
fn parts(target: &str) -> Option<Vec<String>> {
    let path = target.split(['?', '#']).next()?.strip_prefix('/')?;
    let part = |part: &str| {
        let part = decode(part)?;
        let plain = !part.is_empty() && !part.starts_with('.') && !part.contains(['/', '\\', '\0']);
        plain.then_some(part)
    };
    path.split('/').map(part).collect()
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high << 4 | low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_files_under_the_root_or_nowhere() {
        assert_eq!(parts("/a/b%2ejson?x=1"), Some(vec!["a".into(), "b.json".into()]));
        for bad in [
            "/",
            "",
            "a",
            "//etc/passwd",
            "/..",
            "/../x",
            "/a/../../x",
            "/%2e%2e/x",
            "/%2E./x",
            "/a%2f..%2fx",
            "/.staging/x",
            "/a//b",
            "/a/",
            "/a%00",
            "/a%",
            "/a%zz",
            "/%ff",
            "/a\\..\\b",
            "http://host/a",
        ] {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }

    #[test]
    fn ranges_are_those_of_rfc_9110() {
        for (range, expected) in [
            ("bytes=0-0", Selection::Part(0, 0)),
            ("bytes=2-", Selection::Part(2, 9)),
            ("bytes=2-99", Selection::Part(2, 9)),
            ("bytes=-3", Selection::Part(7, 9)),
            ("bytes=-99", Selection::Part(0, 9)),
            ("bytes=9-9", Selection::Part(9, 9)),
            ("bytes=10-", Selection::Unsatisfiable),
            ("bytes=10-12", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=3-2", Selection::Whole),
            ("bytes=0-1,3-4", Selection::Whole),
            ("bytes=a-b", Selection::Whole),
            ("bytes=-", Selection::Whole),
            ("blocks=0-1", Selection::Whole),
        ] {
            assert_eq!(select(range, 10), expected, "{range}");
        }
        assert_eq!(select("bytes=0-", 0), Selection::Unsatisfiable);
        assert_eq!(select("bytes=-1", 0), Selection::Unsatisfiable);
    }

    #[test]
    fn a_resumed_file_that_changed_is_sent_whole() {
        let request = Request::parse(b"GET /a HTTP/1.1\r\nRange: bytes=5-\r\nIf-Range: \"old\"\r\n").unwrap();
        assert_eq!(request.selection(10, "\"new\""), Selection::Whole);
        assert_eq!(request.selection(10, "\"old\""), Selection::Part(5, 9));
    }

    #[test]
    fn what_is_not_a_request_for_a_file_has_its_own_status() {
        for (head, status) in [
            ("", 400),
            ("GET /a", 400),
            ("GET /a b HTTP/1.1", 400),
            ("GET /a HTTP/1.1\r\nnonsense", 400),
            ("GET /a HTTP/2", 505),
            ("POST /a HTTP/1.1", 405),
            ("GET /a HTTP/1.1\r\nContent-Length: 5", 413),
            ("GET /a HTTP/1.1\r\nTransfer-Encoding: chunked", 413),
        ] {
            assert_eq!(Request::parse(head.as_bytes()), Err(status), "{head}");
        }
    }
}
