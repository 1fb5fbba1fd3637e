//! Answers requests, well or as badly as a [`Fault`] asks for.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path};
use std::time::Duration;

use super::{Fault, Request, Shared};

/// How much of a body is written at once.
const PIECE: usize = 64 << 10;

/// An answer before it is sent.
struct Answer {
    status: u16,
    /// `Content-Range`.
    range: Option<String>,
    body: Vec<u8>,
}

impl Shared {
    /// Sends the answer to `request`; says whether the connection can be used further.
    pub(super) fn answer(
        &self,
        request: &Request,
        fault: Option<Fault>,
        output: &mut impl Write,
    ) -> io::Result<bool> {
        if fault == Some(Fault::HangUp) {
            return Ok(false);
        }
        if let Some(Fault::Endless { announced }) = fault {
            return self.answer_for_ever(request, announced, output);
        }
        let answer = spoil(self.plain(request, &fault), &fault);
        let range = answer.range.map(|range| format!("Content-Range: bytes {range}\r\n")).unwrap_or_default();
        let (status, length) = (answer.status, answer.body.len());
        write!(
            output,
            "HTTP/1.1 {status} status\r\nContent-Length: {length}\r\nAccept-Ranges: bytes\r\n{range}\r\n"
        )?;
        if request.method == "HEAD" {
            return Ok(true);
        }
        self.send_body(&request.path, &answer.body, &fault, output)
    }

    /// The answer of a server that works.
    fn plain(&self, request: &Request, fault: &Option<Fault>) -> Answer {
        if !["GET", "HEAD"].contains(&request.method.as_str()) {
            return Answer::page(405);
        }
        let inside = Path::new(&request.path).components().all(|part| matches!(part, Component::Normal(_)));
        let path = self.root.join(&request.path);
        if let (true, Some(range), None) = (inside, request.range, fault) {
            // Of a large file, only what is asked for.
            return Answer::part_of(&path, range).unwrap_or_else(|_| Answer::page(404));
        }
        let Some(mut file) = inside.then(|| fs::read(&path).ok()).flatten() else {
            return Answer::page(404);
        };
        match fault {
            Some(Fault::Instead(bytes)) => file.clone_from(bytes),
            Some(Fault::TooMuch(more)) => file.resize(file.len() + *more as usize, b'x'),
            Some(Fault::TooLittle(less)) => file.truncate(file.len().saturating_sub(*less as usize)),
            Some(Fault::Flip(at)) => {
                if let Some(byte) = file.get_mut(*at as usize) {
                    *byte = !*byte;
                }
            }
            _ => {}
        }
        match request.range {
            Some(range) if fault != &Some(Fault::NoRanges) => Answer::part(&file, range),
            _ => Answer { status: 200, range: None, body: file },
        }
    }

    /// Sends until the client hangs up; whatever range it asked for, it seems to get.
    fn answer_for_ever(
        &self,
        request: &Request,
        announced: bool,
        output: &mut impl Write,
    ) -> io::Result<bool> {
        let first = request.range.map_or(0, |(first, _)| first);
        let head = match (first, announced) {
            (0, true) => format!("200 OK\r\nContent-Length: {}\r\n", i64::MAX),
            (0, false) => "200 OK\r\n".to_owned(),
            (first, _) => {
                let last = request.range.and_then(|(_, last)| last).unwrap_or(u64::MAX - 1);
                format!("206 Partial Content\r\nContent-Range: bytes {first}-{last}/*\r\n")
            }
        };
        write!(output, "HTTP/1.1 {head}Connection: close\r\n\r\n")?;
        loop {
            output.write_all(&[b' '; PIECE])?;
            self.count(&request.path, PIECE as u64);
        }
    }

    fn send_body(
        &self,
        path: &str,
        body: &[u8],
        fault: &Option<Fault>,
        output: &mut impl Write,
    ) -> io::Result<bool> {
        let until = match fault {
            Some(Fault::Cut(at) | Fault::Stall(at)) => body.len().min(*at as usize),
            _ => body.len(),
        };
        let piece = match fault {
            Some(Fault::Trickle(bytes)) => (*bytes).max(1) as usize,
            _ => PIECE,
        };
        for piece in body[..until].chunks(piece) {
            output.write_all(piece)?;
            self.count(path, piece.len() as u64);
            if matches!(fault, Some(Fault::Trickle(_))) && !self.pause(Duration::from_millis(100)) {
                return Ok(false);
            }
        }
        if matches!(fault, Some(Fault::Stall(_))) && until < body.len() {
            output.flush()?;
            self.pause(Duration::from_secs(3600));
        }
        Ok(until == body.len())
    }
}

/// Faults that do not depend on the file.
fn spoil(answer: Answer, fault: &Option<Fault>) -> Answer {
    match fault {
        Some(Fault::Status(status)) => Answer::page(*status),
        _ => answer,
    }
}

impl Answer {
    fn page(status: u16) -> Self {
        Self { status, range: None, body: format!("<html><body>{status}</body></html>\n").into_bytes() }
    }

    fn part(file: &[u8], (first, last): (u64, Option<u64>)) -> Self {
        let size = file.len() as u64;
        let end = last.map_or(size, |last| last.saturating_add(1).min(size));
        match file.get(first as usize..end as usize) {
            Some(body @ [_, ..]) => Self::found(first, body.to_vec(), size),
            _ => Self::not_in(size),
        }
    }

    fn part_of(path: &Path, (first, last): (u64, Option<u64>)) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let end = last.map_or(size, |last| last.saturating_add(1).min(size));
        if first >= end {
            return Ok(Self::not_in(size));
        }
        let mut body = vec![0; (end - first) as usize];
        file.read_exact_at(&mut body, first)?;
        Ok(Self::found(first, body, size))
    }

    fn found(first: u64, body: Vec<u8>, size: u64) -> Self {
        let last = first + body.len() as u64 - 1;
        Self { status: 206, range: Some(format!("{first}-{last}/{size}")), body }
    }

    fn not_in(size: u64) -> Self {
        Self { range: Some(format!("*/{size}")), ..Self::page(416) }
    }
}
