//! A partition, or a file of fixed size in its place.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, FlockOperation, OFlags, fadvise, fcntl_getfl, fcntl_setfl, flock};
use rustix::io::Errno;
use upright_manifests::BLOCK_SIZE;
use upright_manifests::aligned::{AlignedBuffer, is_aligned};

use super::IO_SIZE;
use crate::alive::alive;
use crate::host::{Access, BlockDevice};

/// Bytes copied at once for callers whose buffers are not aligned.
const BOUNCE: usize = IO_SIZE;

/// A partition or a regular file, with direct I/O where kernel and file system take it. Where they do not, its pages
/// are dropped from the page cache before they are read, so that reads still come from the device.
pub struct Partition {
    file: File,
    path: PathBuf,
    size: u64,
    direct: AtomicBool,
    bounce: Mutex<Option<AlignedBuffer>>,
}

impl Partition {
    /// Opens a partition or file. For writing, a partition that is mounted or otherwise held is refused.
    pub fn open(path: &Path, access: Access) -> io::Result<Self> {
        let told = |error: io::Error| told(path, "open", &error);
        let kind = std::fs::metadata(path).map_err(told)?.file_type();
        if !kind.is_block_device() && !kind.is_file() {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "neither a partition nor a file");
            return Err(told(error));
        }
        let mut options = OpenOptions::new();
        options.read(true).write(access != Access::Read);
        if access == Access::Write && kind.is_block_device() {
            // Without O_CREAT: fails with EBUSY if the partition is in use by the system (open(2)).
            options.custom_flags(OFlags::EXCL.bits() as i32);
        }
        let busy = |error: io::Error| match error.kind() {
            io::ErrorKind::ResourceBusy => told(io::Error::new(
                error.kind(),
                "it is mounted or in use; only the slot that does not run can be written",
            )),
            _ => told(error),
        };
        let file = options.open(path).map_err(busy)?;
        if access == Access::Write && kind.is_file() {
            // A file is held by whoever writes it, as a partition is.
            flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
                Errno::WOULDBLOCK => busy(io::ErrorKind::ResourceBusy.into()),
                error => told(error.into()),
            })?;
        }
        Self::of(file, path).map_err(told)
    }

    fn of(mut file: File, path: &Path) -> io::Result<Self> {
        let size = file.seek(SeekFrom::End(0))? / BLOCK_SIZE * BLOCK_SIZE;
        let direct = fcntl_getfl(&file).and_then(|flags| fcntl_setfl(&file, flags | OFlags::DIRECT)).is_ok();
        Ok(Self { file, path: path.to_owned(), size, direct: direct.into(), bounce: Mutex::new(None) })
    }

    /// Runs an operation that moves bytes; if it is refused as direct I/O, once more through the page cache.
    fn retry(&self, operation: &mut dyn FnMut(&File) -> io::Result<()>) -> io::Result<()> {
        let outcome = match operation(&self.file) {
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) && self.is_direct() => {
                let flags = fcntl_getfl(&self.file)?;
                fcntl_setfl(&self.file, flags - OFlags::DIRECT)?;
                self.direct.store(false, Ordering::Relaxed);
                operation(&self.file)
            }
            outcome => outcome,
        };
        outcome.inspect(|()| alive())
    }

    fn is_direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }

    /// Forgets clean pages, so that the next read comes from the device; posix_fadvise(2).
    fn drop_pages(&self, offset: u64, length: usize) -> io::Result<()> {
        if !self.is_direct() {
            fadvise(&self.file, offset, std::num::NonZero::new(length as u64), Advice::DontNeed)?;
        }
        Ok(())
    }

    /// Calls `operation` with aligned pieces of a buffer of `length` bytes and their place in it.
    fn bounce(
        &self,
        length: usize,
        operation: &mut dyn FnMut(&mut [u8], usize) -> io::Result<()>,
    ) -> io::Result<()> {
        let idle = self.bounce.lock().ok().and_then(|mut idle| idle.take());
        let mut buffer = idle.unwrap_or_else(|| AlignedBuffer::new(BOUNCE));
        let outcome = (0..length)
            .step_by(BOUNCE)
            .try_for_each(|at| operation(&mut buffer[..BOUNCE.min(length - at)], at));
        if let Ok(mut idle) = self.bounce.lock() {
            *idle = Some(buffer);
        }
        outcome
    }

    fn check(&self, offset: u64, length: usize) -> io::Result<()> {
        let end = offset.checked_add(length as u64);
        let aligned = (offset | length as u64).is_multiple_of(BLOCK_SIZE);
        match aligned && end.is_some_and(|end| end <= self.size) {
            true => Ok(()),
            false => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{length} bytes at {offset} are not whole blocks inside of {} bytes", self.size),
            )),
        }
    }

    fn told(&self, action: &str) -> impl Fn(io::Error) -> io::Error {
        move |error| told(&self.path, action, &error)
    }
}

impl BlockDevice for Partition {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let read = |buffer: &mut [u8], offset: u64| {
            self.drop_pages(offset, buffer.len())?;
            self.retry(&mut |file| file.read_exact_at(buffer, offset))?;
            self.drop_pages(offset, buffer.len())
        };
        let outcome = self.check(offset, buffer.len()).and_then(|()| match is_aligned(buffer) {
            true => read(buffer, offset),
            false => self.bounce(buffer.len(), &mut |piece, at| {
                read(piece, offset + at as u64)?;
                buffer[at..at + piece.len()].copy_from_slice(piece);
                Ok(())
            }),
        });
        outcome.map_err(self.told(&format!("read at byte {offset} of")))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let write =
            |bytes: &[u8], offset: u64| self.retry(&mut |file: &File| file.write_all_at(bytes, offset));
        let outcome = self.check(offset, bytes.len()).and_then(|()| match is_aligned(bytes) {
            true => write(bytes, offset),
            false => self.bounce(bytes.len(), &mut |piece, at| {
                piece.copy_from_slice(&bytes[at..at + piece.len()]);
                write(piece, offset + at as u64)
            }),
        });
        outcome.map_err(self.told(&format!("write at byte {offset} of")))
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data().map_err(self.told("sync"))
    }
}

fn told(path: &Path, action: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {action} {}: {error}", path.display()))
}
