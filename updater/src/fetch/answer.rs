//! Judges what an HTTP server answers to a request for a range of a file (RFC 9110, sections 14 and 15), apart from the
//! connection it came over.

use std::ops::Range;

/// What of an answer's head matters here.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) content_range: Option<&'a str>,
    pub(super) content_length: Option<u64>,
    pub(super) content_encoding: Option<&'a str>,
}

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// What was asked for follows: so many bytes where that is known, at most so many where it is not.
    Body {
        /// The exact length.
        exact: Option<u64>,
    },
    /// The whole file follows. What was asked for is its start, of which the same is known.
    Whole {
        /// The exact length of what was asked for.
        exact: Option<u64>,
    },
    /// The whole file follows, and its middle was asked for.
    NoRanges,
    /// There is no such file.
    NotFound,
    /// Worth another try.
    Unavailable(String),
    /// Not what a correct server would say.
    Wrong(String),
}

impl Answer<'_> {
    /// What the answer to a request for `range` means.
    pub(super) fn judge(&self, range: &Range<u64>) -> Verdict {
        if let Some(encoding) = self.content_encoding.filter(|encoding| *encoding != "identity") {
            return Verdict::Wrong(format!(
                "it is encoded as {:?} on the way, which was not asked for; turn that off on the server",
                encoding.chars().take(40).collect::<String>()
            ));
        }
        match self.status {
            206 => self.part(range),
            200 if range.start == 0 => self.whole(range.end),
            200 => Verdict::NoRanges,
            403 | 404 | 410 => Verdict::NotFound,
            401 | 407 => Verdict::Wrong(format!("status {}: it asks for credentials", self.status)),
            416 => Verdict::Wrong(format!(
                "the file is shorter than the release says: it has {} bytes at most, {} at least are signed",
                range.start, range.end
            )),
            408 | 425 | 429 | 500..=599 => Verdict::Unavailable(format!("status {}", self.status)),
            status => Verdict::Wrong(format!("status {status}")),
        }
    }

    /// 206: the part has to start where it was asked for, and may only end early where the file does.
    fn part(&self, asked: &Range<u64>) -> Verdict {
        let Some((given, size)) = self.content_range.and_then(content_range) else {
            let said: String = self.content_range.unwrap_or("none").chars().take(80).collect();
            return Verdict::Wrong(format!("status 206 without a usable content-range: {said}"));
        };
        let ends_well = given.end == asked.end || (given.end < asked.end && size == Some(given.end));
        if given.start != asked.start || !ends_well {
            return Verdict::Wrong(format!(
                "bytes {}-{} were asked for, {}-{} are sent",
                asked.start,
                asked.end - 1,
                given.start,
                given.end - 1
            ));
        }
        let length = given.end - given.start;
        match self.content_length.filter(|announced| *announced != length) {
            Some(announced) => {
                Verdict::Wrong(format!("content-length {announced} contradicts a range of {length} bytes"))
            }
            None => Verdict::Body { exact: Some(length) },
        }
    }

    /// 200: the server does not serve ranges, or the file is no longer than what was asked for.
    fn whole(&self, limit: u64) -> Verdict {
        Verdict::Whole { exact: self.content_length.map(|length| length.min(limit)) }
    }
}

/// `bytes 0-99/200`, as a range and the file's size, which may be `*`.
fn content_range(text: &str) -> Option<(Range<u64>, Option<u64>)> {
    let (bounds, size) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = bounds.split_once('-')?;
    let (first, end) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?.checked_add(1)?);
    let size = match size {
        "*" => None,
        size => Some(size.parse::<u64>().ok()?),
    };
    let possible = first < end && size.is_none_or(|size| end <= size);
    possible.then_some((first..end, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(content_range: &str, content_length: Option<u64>) -> Verdict {
        let answer = Answer {
            status: 206,
            content_range: Some(content_range),
            content_length,
            content_encoding: None,
        };
        answer.judge(&(100..200))
    }

    #[test]
    fn a_part_is_taken_only_where_it_was_asked_for() {
        let right = Verdict::Body { exact: Some(100) };
        assert_eq!(part("bytes 100-199/300", Some(100)), right);
        assert_eq!(part("bytes 100-199/*", None), right);
        assert_eq!(part("bytes 100-149/150", Some(50)), Verdict::Body { exact: Some(50) });
        for (range, length) in [
            ("bytes 100-149/300", Some(50)),
            ("bytes 100-149/*", Some(50)),
            ("bytes 100-200/300", None),
            ("bytes 99-199/300", None),
            ("bytes 101-199/300", None),
            ("bytes 0-99/300", None),
            ("bytes 100-199/150", None),
            ("bytes 199-100/300", None),
            ("bytes 100-18446744073709551615/*", None),
            ("bytes */300", None),
            ("100-199/300", None),
            ("", None),
            ("bytes 100-199/300", Some(99)),
        ] {
            assert!(matches!(part(range, length), Verdict::Wrong(_)), "{range} {length:?}");
        }
    }

    #[test]
    fn of_a_whole_file_the_start_is_taken_and_nothing_else() {
        let answer = |status, content_length| Answer { status, content_length, ..Answer::default() };
        assert_eq!(answer(200, None).judge(&(0..9)), Verdict::Whole { exact: None });
        for (length, exact) in [(8, 8), (9, 9), (10, 9), (u64::MAX, 9)] {
            assert_eq!(answer(200, Some(length)).judge(&(0..9)), Verdict::Whole { exact: Some(exact) });
        }
        assert_eq!(answer(200, Some(9)).judge(&(1..10)), Verdict::NoRanges);
    }

    #[test]
    fn statuses_are_told_apart_by_what_another_try_would_bring() {
        let judge = |status| Answer { status, ..Answer::default() }.judge(&(0..9));
        for status in [403, 404, 410] {
            assert_eq!(judge(status), Verdict::NotFound);
        }
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(matches!(judge(status), Verdict::Unavailable(_)), "{status}");
        }
        let shorter = Verdict::Wrong(
            "the file is shorter than the release says: it has 200 bytes at most, 444 at least are signed"
                .to_owned(),
        );
        assert_eq!(Answer { status: 416, ..Answer::default() }.judge(&(200..444)), shorter);
        for status in [100, 204, 206, 301, 400, 401, 416, 418] {
            assert!(matches!(judge(status), Verdict::Wrong(_)), "{status}");
        }
    }

    #[test]
    fn content_that_is_encoded_on_the_way_is_refused() {
        let answer = Answer { status: 200, content_encoding: Some("gzip"), ..Answer::default() };
        assert!(matches!(answer.judge(&(0..9)), Verdict::Wrong(_)));
        let answer = Answer { status: 200, content_encoding: Some("identity"), ..Answer::default() };
        assert_eq!(answer.judge(&(0..9)), Verdict::Whole { exact: None });
    }
}
