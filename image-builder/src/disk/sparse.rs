//! Writing into a sparse file: what is zero is not written.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::DiskError;

/// What is copied or skipped at once.
pub(super) const BLOCK: usize = 4096;

/// How many bytes are read at once.
const BUFFER: usize = 1 << 20;

/// The disk image while it is being written; it is new, so all of it is zero at first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    /// The file.
    pub(super) file: &'a File,
    /// Its path, for messages.
    pub(super) path: &'a Path,
}

impl Target<'_> {
    /// Writes `bytes` at `offset`, without the blocks of zeros in it.
    pub(super) fn write(self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let is_zero = |block: &[u8]| block.iter().all(|byte| *byte == 0);
        let blocks: Vec<&[u8]> = bytes.chunks(BLOCK).collect();
        let mut at = 0;
        for run in blocks.chunk_by(|a, b| is_zero(a) == is_zero(b)) {
            let length: usize = run.iter().map(|block| block.len()).sum();
            if !is_zero(run[0]) {
                let written = self.file.write_all_at(&bytes[at..at + length], offset + at as u64);
                written.map_err(|source| DiskError::Write { path: self.path.to_owned(), source })?;
            }
            at += length;
        }
        Ok(())
    }

    /// Copies the file at `from` to `offset`; `see` gets every piece of it, each but the last a multiple of [`BLOCK`].
    pub(super) fn copy(
        self,
        from: &Path,
        offset: u64,
        mut see: impl FnMut(&[u8]) -> Result<(), DiskError>,
    ) -> Result<u64, DiskError> {
        let reading = |source| DiskError::Read { path: from.to_owned(), source };
        let mut file = File::open(from).map_err(reading)?;
        let mut buffer = Vec::with_capacity(BUFFER);
        let mut copied = 0;
        loop {
            buffer.clear();
            (&mut file).take(BUFFER as u64).read_to_end(&mut buffer).map_err(reading)?;
            if buffer.is_empty() {
                return Ok(copied);
            }
            see(&buffer)?;
            self.write(offset + copied, &buffer)?;
            copied += buffer.len() as u64;
        }
    }
}
