//! Reads an archive from its start to its end, once, in bounded memory: every size is checked before it is believed.

use std::io::{self, Read};

use super::format::{BLOCK, Header, MAX_EXTENSION, Segment};
use super::pax::Records;
use super::sparse::Map;
use super::{Entry, EntryKind, MAX_FILE, Rules, TarError};
use crate::tree::{Attributes, Device, display};

/// An archive that is being read.
pub(crate) struct Reader<R> {
    input: Counted<R>,
    rules: Rules,
    global: Records,
    /// What is left of the current entry's data, and of the padding behind it.
    left: u64,
    padding: u64,
    map: Option<Map>,
    name: String,
}

/// The headers before an entry's own.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Records,
}

impl<R: Read> Reader<R> {
    /// Reads the archive that `input` is at the start of.
    pub(crate) fn new(input: R, rules: Rules) -> Self {
        let input = Counted { inner: input, offset: 0 };
        Self { input, rules, global: Records::default(), left: 0, padding: 0, map: None, name: String::new() }
    }

    /// The next entry, or nothing at the end of the archive, whose rest has then been checked.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_data()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.size().ok_or_else(|| self.field("size"))?;
            self.name = display(&header.name());
            match header.kind() {
                b'L' => extensions.name = Some(self.extension(size)?),
                b'K' => extensions.link = Some(self.extension(size)?),
                b'x' | b'X' => {
                    let bytes = self.extension(size)?;
                    extensions.records = Records::parse(&bytes).ok_or(TarError::Records)?;
                }
                b'g' => {
                    let bytes = self.extension(size)?;
                    let records = Records::parse(&bytes).ok_or(TarError::Records)?;
                    self.global = self.global.with(records);
                }
                // a volume's label
                b'V' => self.begin_data(size)?,
                _ => return self.entry(&header, size, extensions).map(Some),
            }
        }
    }

    /// The content of the entry that was read last, with its holes as zeros.
    pub(crate) fn content(&mut self) -> Content<'_, R> {
        let (size, segments) = match self.map.take() {
            Some(map) => (map.size, map.segments),
            None => (self.left, vec![Segment { offset: 0, length: self.left }]),
        };
        Content { reader: self, size, position: 0, segments: segments.into_iter(), segment: None }
    }

    /// Where the content of the entry that was read last begins in the input.
    pub(crate) fn offset(&self) -> u64 {
        self.input.offset
    }

    fn entry(&mut self, header: &Header, size: u64, extensions: Extensions) -> Result<Entry, TarError> {
        let records = self.global.with(extensions.records);
        let path = records.get("GNU.sparse.name").or_else(|| records.get("path")).map(<[u8]>::to_vec);
        let path = path.or(extensions.name).unwrap_or_else(|| header.name());
        self.name = display(&path);
        let link = records.get("linkpath").map(<[u8]>::to_vec).or(extensions.link);
        let link = link.unwrap_or_else(|| header.link());
        let kind = self.kind(header, link)?;
        let stored = records.number("size")?.unwrap_or(size);
        if header.kind() == b'S' {
            let map = Map::old_gnu(header, &mut || self.input.block(&self.name))?;
            self.map = Some(map);
        }
        self.begin_data(stored)?;
        if kind == EntryKind::File && self.map.is_none() {
            let mut data = self.by_ref_data();
            self.map = Map::pax(&records, &mut data)?;
        }
        let map = self.map.take().map(|map| map.check(stored)).transpose()?;
        let size = map.as_ref().map_or(self.left, |map| map.size);
        self.map = map;
        if size > MAX_FILE {
            return Err(TarError::TooBig { name: self.name.clone(), size });
        }
        if records.text_acl() {
            tracing::warn!(
                "{}: its access control list is text and is left out: archive with --xattrs",
                self.name
            );
        }
        let time = match records.time("mtime")? {
            Some(time) => time,
            None => header.time().ok_or_else(|| self.field("time"))?,
        };
        Ok(Entry { path, kind, attributes: self.attributes(header, &records)?, time, size })
    }

    fn kind(&self, header: &Header, link: Vec<u8>) -> Result<EntryKind, TarError> {
        let device = || -> Result<Device, TarError> {
            let number = |number: Option<u64>| number.and_then(|number| u32::try_from(number).ok());
            let numbers = number(header.major()).zip(number(header.minor()));
            let (major, minor) = numbers.ok_or_else(|| self.field("device number"))?;
            Ok(Device { major, minor })
        };
        Ok(match header.kind() {
            b'0' | b'S' => EntryKind::File,
            b'1' => EntryKind::HardLink(link),
            b'2' => EntryKind::Symlink(link),
            b'3' => EntryKind::CharDevice(device()?),
            b'4' => EntryKind::BlockDevice(device()?),
            b'5' | b'D' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            kind => {
                return Err(TarError::Kind {
                    name: self.name.clone(),
                    kind: kind.escape_ascii().to_string(),
                });
            }
        })
    }

    fn attributes(&self, header: &Header, records: &Records) -> Result<Attributes, TarError> {
        let id = |key: &'static str, field: Option<u64>| -> Result<u32, TarError> {
            let id = records.number(key)?.or(field).ok_or_else(|| self.field(key))?;
            u32::try_from(id).map_err(|_| self.field(key))
        };
        let mode = header.mode().ok_or_else(|| self.field("mode"))?;
        Ok(Attributes {
            // masked to 12 bits
            mode: (mode & 0o7777) as u16,
            uid: id("uid", header.uid())?,
            gid: id("gid", header.gid())?,
            xattrs: records.xattrs()?,
        })
    }

    /// The next header block, or nothing at the end mark.
    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let offset = self.input.offset;
        let mut header = Header([0; BLOCK]);
        let read = self.input.fill(&mut header.0).map_err(TarError::Io)?;
        if read == 0 && !self.rules.end_mark {
            return Ok(None);
        }
        if read < BLOCK {
            return Err(if offset == 0 { TarError::NotTar } else { TarError::NoEnd });
        }
        if header.is_zero() {
            self.finish()?;
            return Ok(None);
        }
        match header.is_valid() {
            true => Ok(Some(header)),
            false if offset == 0 => Err(TarError::NotTar),
            false => Err(TarError::Checksum { offset }),
        }
    }

    /// Reads what is behind the end mark: padding, and the check sums of compression.
    fn finish(&mut self) -> Result<(), TarError> {
        let mut buffer = [0; 8192];
        loop {
            let offset = self.input.offset;
            let read = self.input.fill(&mut buffer).map_err(TarError::Io)?;
            if self.rules.end_mark && buffer[..read].iter().any(|byte| *byte != 0) {
                return Err(TarError::Trailing { offset });
            }
            if read == 0 {
                return Ok(());
            }
        }
    }

    /// The data of an extension header.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_EXTENSION {
            return Err(TarError::Extension { size });
        }
        self.begin_data(size)?;
        let mut bytes = Vec::new();
        self.by_ref_data().read_to_end(&mut bytes).map_err(TarError::Io)?;
        // long names end with a NUL, records never do
        if bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(bytes)
    }

    fn begin_data(&mut self, size: u64) -> Result<(), TarError> {
        let left = self.rules.length.map(|length| length.saturating_sub(self.input.offset));
        if left.is_some_and(|left| size > left) {
            return Err(TarError::Claim { name: self.name.clone(), size });
        }
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        Ok(())
    }

    /// Passes over what was not read of the current entry.
    fn skip_data(&mut self) -> Result<(), TarError> {
        self.map = None;
        let mut rest = self.by_ref_data();
        io::copy(&mut rest, &mut io::sink()).map_err(TarError::Io)?;
        let mut padding = [0; BLOCK];
        let most = usize::try_from(std::mem::take(&mut self.padding)).unwrap_or_default().min(BLOCK);
        let read = self.input.fill(&mut padding[..most]).map_err(TarError::Io)?;
        if read < most && self.rules.end_mark { Err(TarError::NoEnd) } else { Ok(()) }
    }

    /// The stored data that is left of the current entry; its end before that is an error.
    fn by_ref_data(&mut self) -> Data<'_, R> {
        Data(self)
    }

    fn field(&self, field: &'static str) -> TarError {
        TarError::Field { name: self.name.clone(), field }
    }
}

/// The stored data of an entry.
struct Data<'a, R>(&'a mut Reader<R>);

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.0.left).unwrap_or(usize::MAX));
        let read = self.0.input.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            let truncated = TarError::Truncated { name: self.0.name.clone() };
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, truncated));
        }
        self.0.left -= read as u64;
        Ok(read)
    }
}

/// The content of an entry, holes included.
pub(crate) struct Content<'a, R> {
    reader: &'a mut Reader<R>,
    size: u64,
    position: u64,
    segments: std::vec::IntoIter<Segment>,
    segment: Option<Segment>,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.segment.is_none_or(|segment| segment.offset + segment.length <= self.position) {
            match self.segments.next() {
                Some(segment) => self.segment = Some(segment),
                None => break,
            }
        }
        let most = |length: u64| buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        let read = match self.segment {
            Some(Segment { offset, length })
                if offset <= self.position && self.position < offset + length =>
            {
                let most = most(offset + length - self.position);
                self.reader.by_ref_data().read(&mut buffer[..most])?
            }
            next => {
                let hole = next.map(|segment| segment.offset).filter(|offset| *offset > self.position);
                let most = most(hole.unwrap_or(self.size) - self.position);
                buffer[..most].fill(0);
                most
            }
        };
        self.position += read as u64;
        Ok(read)
    }
}

/// A reader that knows how far it is.
struct Counted<R> {
    inner: R,
    offset: u64,
}

impl<R: Read> Counted<R> {
    /// Reads until `buffer` is full or the input ends.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn block(&mut self, name: &str) -> Result<[u8; BLOCK], TarError> {
        let mut block = [0; BLOCK];
        match self.fill(&mut block).map_err(TarError::Io)? {
            BLOCK => Ok(block),
            _ => Err(TarError::Truncated { name: name.to_owned() }),
        }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.offset += read as u64;
        Ok(read)
    }
}
