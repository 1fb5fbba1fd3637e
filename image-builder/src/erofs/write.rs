//! Writes an image from start to end, hashing it on the way; each content is read once and checked.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use upright_manifests::BLOCK_SIZE;
use upright_manifests::digest::{Digest, Digester};
use upright_manifests::erofs::BLOCK;
use upright_manifests::verity::{Discard, TreeBuilder, VerityParams};

use super::WriteError;
use super::encode::Encoded;
use super::plan::Plan;
use crate::tree::{Content, Contents};

/// How much is collected before it is written, in bytes: whole blocks.
const BUFFER: usize = 256 * BLOCK;

/// Hashes of an image.
pub(super) struct Hashes {
    pub(super) sha256: Digest,
    pub(super) verity: VerityParams,
}

/// Writes the planned image to the start of `out`; `reached` hears how many bytes of content that were.
pub(super) fn write(
    plan: &Plan<'_>,
    encoded: &Encoded,
    contents: &dyn Contents,
    salt: Digest,
    out: &File,
    reached: &dyn Fn(u64),
) -> Result<Hashes, WriteError> {
    let mut sink = Sink::new(out, plan.layout.blocks, salt)?;
    let mut metadata = encoded.runs.iter().peekable();
    let mut files = plan.layout.files.iter().peekable();
    let mut done = 0;
    loop {
        let next_metadata = metadata.peek().map(|(start, _)| **start);
        let next_file = files.peek().map(|file| file.start);
        let metadata_first = next_metadata.is_some_and(|start| next_file.is_none_or(|file| start < file));
        if metadata_first && let Some((start, bytes)) = metadata.next() {
            sink.zero_up_to(*start)?;
            sink.put(bytes)?;
        } else if let Some(file) = files.next()
            && let Some(content) = plan.files.get(&file.start)
        {
            sink.zero_up_to(file.start)?;
            copy(content, &file.path, contents, &mut sink)?;
            done += content.size;
            reached(done);
        } else {
            return sink.finish();
        }
    }
}

/// Copies a content to the sink and pads it, if it is what the tree says it is.
fn copy(
    content: &Content,
    path: &str,
    contents: &dyn Contents,
    sink: &mut Sink<'_>,
) -> Result<(), WriteError> {
    let failed = |source| WriteError::Content { path: format!("/{path}"), source };
    let mut reader = contents.open(content).map_err(failed)?;
    let mut digester = Digester::new();
    let mut left = content.size;
    while left > 0 {
        let room = sink.room()?;
        let length = (room.len() as u64).min(left) as usize;
        let read = match reader.read(&mut room[..length]) {
            Ok(0) => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        digester.update(&room[..read]);
        sink.filled += read;
        left -= read as u64;
    }
    if digester.finish() != content.sha256 {
        return Err(WriteError::Changed { path: format!("/{path}"), expected: content.sha256 });
    }
    sink.pad()
}

/// The image as it grows: collected, hashed and written in order.
struct Sink<'a> {
    out: &'a File,
    buffer: Vec<u8>,
    filled: usize,
    written: u64,
    sha256: Digester,
    tree: TreeBuilder<Discard>,
}

impl<'a> Sink<'a> {
    fn new(out: &'a File, blocks: u64, salt: Digest) -> Result<Self, WriteError> {
        let tree = TreeBuilder::new(salt, blocks, Discard).map_err(|_| WriteError::TooLarge)?;
        Ok(Self { out, buffer: vec![0; BUFFER], filled: 0, written: 0, sha256: Digester::new(), tree })
    }

    /// Room for at least one more byte.
    fn room(&mut self) -> Result<&mut [u8], WriteError> {
        if self.filled == BUFFER {
            self.flush()?;
        }
        Ok(&mut self.buffer[self.filled..])
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), WriteError> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let length = room.len().min(bytes.len());
            room[..length].copy_from_slice(&bytes[..length]);
            self.filled += length;
            bytes = &bytes[length..];
        }
        Ok(())
    }

    /// Fills the current block up with zeros.
    fn pad(&mut self) -> Result<(), WriteError> {
        let end = self.filled.next_multiple_of(BLOCK);
        self.buffer[self.filled..end].fill(0);
        self.filled = end;
        Ok(())
    }

    /// Writes zeros to where block `block` starts.
    fn zero_up_to(&mut self, block: u64) -> Result<(), WriteError> {
        let position = self.written + self.filled as u64;
        for _ in position / BLOCK_SIZE..block {
            self.put(&[0; BLOCK])?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        let bytes = &self.buffer[..self.filled];
        self.out.write_all_at(bytes, self.written).map_err(WriteError::Image)?;
        self.sha256.update(bytes);
        self.tree.update(bytes).map_err(|_| WriteError::Image(io::ErrorKind::InvalidData.into()))?;
        self.written += self.filled as u64;
        self.filled = 0;
        Ok(())
    }

    fn finish(mut self) -> Result<Hashes, WriteError> {
        self.flush()?;
        let tree = self.tree.finish().map_err(|_| WriteError::Image(io::ErrorKind::InvalidData.into()))?;
        Ok(Hashes { sha256: self.sha256.finish(), verity: tree.0 })
    }
}
