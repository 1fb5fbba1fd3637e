//! Writes a file of a head and the independent parts it describes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use upright_manifests::digest::{Digest, Digester};
use upright_manifests::name::RepoPath;
use upright_manifests::release::PartedBlob;

/// What the release manifest says about such a file, but its path, which is named after its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parted {
    /// The length of the file in bytes.
    pub size: u64,
    /// The SHA-256 of the file.
    pub sha256: Digest,
    /// The length of the head in bytes.
    pub head_size: u64,
    /// The SHA-256 of the head.
    pub head_sha256: Digest,
}

impl Parted {
    /// The entry in the release manifest for this file at `path`.
    pub fn at(&self, path: RepoPath) -> PartedBlob {
        PartedBlob {
            path,
            size: self.size,
            sha256: self.sha256,
            head_size: self.head_size,
            head_sha256: self.head_sha256,
            cost: None,
        }
    }
}

/// A file being written; the place of its head is kept free until all parts are there.
pub(crate) struct PartWriter<'f> {
    file: io::BufWriter<&'f File>,
    head_size: u64,
    next: u64,
}

impl<'f> PartWriter<'f> {
    /// Starts after the place for a head of `head_size` bytes, in an empty file.
    pub(crate) fn new(file: &'f File, head_size: usize) -> io::Result<Self> {
        let mut file = io::BufWriter::with_capacity(1 << 20, file);
        file.seek(SeekFrom::Start(head_size as u64))?;
        Ok(Self { file, head_size: head_size as u64, next: head_size as u64 })
    }

    /// Appends a part; gives where it starts.
    pub(crate) fn part(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let offset = self.next;
        self.file.write_all(bytes)?;
        self.next += bytes.len() as u64;
        Ok(offset)
    }

    /// Writes the head into its place, which it fills.
    pub(crate) fn finish(mut self, head: &[u8]) -> io::Result<Parted> {
        if head.len() as u64 != self.head_size {
            return Err(io::Error::other("the head does not fill its place"));
        }
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(head)?;
        self.file.flush()?;
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        let mut digester = Digester::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                length => digester.update(&buffer[..length]),
            }
        }
        Ok(Parted {
            size: self.next,
            sha256: digester.finish(),
            head_size: self.head_size,
            head_sha256: Digest::of(head),
        })
    }
}
