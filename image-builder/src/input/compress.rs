//! Recognises and undoes the compression of an input, by its first bytes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// None that is known here.
    Plain,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878), with skippable frames before it or not.
    Zstd,
    /// Another, which is not undone here: its name and what undoes it.
    Other(&'static str, &'static str),
}

impl Compression {
    fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Other("xz", "xz --decompress --keep"),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Other("bzip2", "bzip2 --decompress --keep"),
            [b'P', b'K', 3, 4, ..] => Self::Other("zip", "unzip -d FOLDER"),
            _ => Self::Plain,
        }
    }
}

/// Opens the file at `path` without its compression, and says how long it is if it has none.
pub(super) fn open(path: &Path) -> io::Result<(Box<dyn Read>, Option<u64>)> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let (plain, compression) = decompress(file)?;
    Ok((plain, (compression == Compression::Plain).then_some(length)))
}

/// `input` without its compression, and what that was.
pub(super) fn decompress<'a>(input: impl Read + 'a) -> io::Result<(Box<dyn Read + 'a>, Compression)> {
    let mut input = BufReader::with_capacity(256 * 1024, input);
    let compression = Compression::of(input.fill_buf()?);
    let plain: Box<dyn Read> = match compression {
        Compression::Plain => Box::new(input),
        Compression::Gzip => {
            Box::new(BufReader::new(Decompressed(flate2::bufread::MultiGzDecoder::new(input))))
        }
        Compression::Other(name, tool) => {
            return Err(io::Error::other(format!(
                "it is compressed with {name}, which is not undone here: run {tool} first, and give what comes of it"
            )));
        }
        Compression::Zstd => Box::new(BufReader::new(Decompressed(zstd::Decoder::with_buffer(input)?))),
    };
    Ok((plain, compression))
}

/// A decoder whose errors say what to do.
struct Decompressed<R>(R);

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            kind => io::Error::new(
                kind,
                format!("it cannot be decompressed ({error}); make or copy the archive again"),
            ),
        })
    }
}
