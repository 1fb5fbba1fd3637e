//! A partition, or a file in its place, read and written past the page cache where it can be.
//!
//! Source: open(2), `O_DIRECT`: buffer, offset and length must be multiples of the logical block size, which is at most 4096
//! on everything a slot is put on.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{Advice, OFlags, fadvise};

use super::IO_SIZE;
use crate::host::{Access, BlockDevice};

/// What buffers, offsets and lengths are multiples of.
const ALIGN: usize = 4096;

/// An open partition.
#[derive(Debug)]
pub struct Partition {
    file: File,
    path: PathBuf,
    size: u64,
    direct: bool,
    /// An aligned buffer; direct I/O goes through it.
    buffer: Mutex<Vec<u8>>,
}

impl Partition {
    /// Opens the partition or file at `path`. A block device that is mounted or mapped is not opened for writing
    /// (`O_EXCL`, open(2)).
    pub fn open(path: &Path, access: Access) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let block = std::fs::metadata(path).map_err(named)?.file_type().is_block_device();
        let exclusive = if block && access == Access::Write { OFlags::EXCL } else { OFlags::empty() };
        let open = |flags: OFlags| {
            OpenOptions::new()
                .read(true)
                .write(access == Access::Write)
                .custom_flags(flags.bits().cast_signed())
                .open(path)
        };
        let (mut file, direct) = match open(OFlags::DIRECT | exclusive) {
            Ok(file) => (file, true),
            // The file system has no direct I/O.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
                (open(exclusive).map_err(named)?, false)
            }
            Err(error) => return Err(named(error)),
        };
        let size = file.seek(SeekFrom::End(0)).map_err(named)?;
        let buffer = Mutex::new(vec![0; if direct { IO_SIZE + ALIGN } else { 0 }]);
        Ok(Self { file, path: path.to_owned(), size, direct, buffer })
    }

    fn named(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }

    /// Runs `io` on an aligned buffer.
    fn aligned<T>(&self, io: impl FnOnce(&mut [u8]) -> io::Result<T>) -> io::Result<T> {
        let mut buffer =
            self.buffer.lock().map_err(|_| io::Error::other("a thread died while it used this device"))?;
        let start = buffer.as_ptr().align_offset(ALIGN);
        io(&mut buffer[start..start + IO_SIZE])
    }
}

impl BlockDevice for Partition {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut offset = offset;
        for part in buffer.chunks_mut(IO_SIZE) {
            let read = if self.direct {
                self.aligned(|aligned| {
                    let aligned = &mut aligned[..part.len()];
                    self.file.read_exact_at(aligned, offset)?;
                    part.copy_from_slice(aligned);
                    Ok(())
                })
            } else {
                // What is still dirty stays in the cache, so this only tells the truth after a sync.
                fadvise(&self.file, offset, std::num::NonZeroU64::new(part.len() as u64), Advice::DontNeed)
                    .map_err(io::Error::from)
                    .and_then(|()| self.file.read_exact_at(part, offset))
            };
            read.map_err(|error| self.named(&error))?;
            offset += part.len() as u64;
        }
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut offset = offset;
        for part in bytes.chunks(IO_SIZE) {
            let written = if self.direct {
                self.aligned(|aligned| {
                    let aligned = &mut aligned[..part.len()];
                    aligned.copy_from_slice(part);
                    self.file.write_all_at(aligned, offset)
                })
            } else {
                self.file.write_all_at(part, offset)
            };
            written.map_err(|error| self.named(&error))?;
            offset += part.len() as u64;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data().map_err(|error| self.named(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_whatever_the_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slot");
        std::fs::write(&path, vec![7; 4 * IO_SIZE]).unwrap();
        let device = Partition::open(&path, Access::Write).unwrap();
        assert_eq!(device.size(), 4 * IO_SIZE as u64);
        let bytes: Vec<u8> = (0..2 * IO_SIZE + ALIGN).map(|i| (i / 11) as u8).collect();
        device.write_at(&bytes, ALIGN as u64).unwrap();
        device.sync().unwrap();
        let mut back = vec![0; bytes.len()];
        device.read_at(&mut back, ALIGN as u64).unwrap();
        assert!(back == bytes);
        assert!(device.read_at(&mut [0; ALIGN], 4 * IO_SIZE as u64).is_err());
    }

    #[test]
    fn an_error_names_the_partition() {
        let error = Partition::open(Path::new("/nowhere/root-b"), Access::Read).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/root-b: "), "{error}");
    }
}
