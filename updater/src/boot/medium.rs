//! The folder of boot entries as a file system gives it: one call for each thing that a crash may come before or after.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{Advice, StatVfsMountFlags, fadvise, statvfs};

use crate::room::{existing, free_in};

/// The most files of a folder that are looked at.
const MAX_FILES: usize = 1024;

/// A folder and its files. What was changed is durable once the file's sync, and for names the folder's, has returned.
pub trait Medium {
    /// Where it is, for messages.
    fn path(&self) -> PathBuf;
    /// The names in it; none if it is not there.
    fn names(&self) -> io::Result<Vec<String>>;
    /// A file's length in bytes.
    fn length(&self, file: &str) -> io::Result<u64>;
    /// Reads from `offset` on, as much as there is room for and a file has.
    fn read_at(&self, file: &str, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// A file from its start, from the device and not from what is remembered of it.
    fn open(&self, file: &str) -> io::Result<Box<dyn Read>>;
    /// Makes the folder and its name durable, if it is not there.
    fn make(&self) -> io::Result<()>;
    /// Makes an empty file under a name that is free.
    fn create(&self, file: &str) -> io::Result<()>;
    /// Writes to a file.
    fn write_at(&self, file: &str, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts a file off, or fills it with zeros.
    fn set_length(&self, file: &str, length: u64) -> io::Result<()>;
    /// Makes a file's content durable.
    fn sync_file(&self, file: &str) -> io::Result<()>;
    /// Makes the names durable.
    fn sync(&self) -> io::Result<()>;
    /// Gives a file another name, which is free.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Deletes a file.
    fn remove(&self, file: &str) -> io::Result<()>;
    /// Free bytes on the file system, and the size of a cluster.
    fn free(&self) -> io::Result<(u64, u64)>;
}

/// A folder that the kernel has mounted.
#[derive(Debug)]
pub(super) struct Mounted(pub(super) PathBuf);

impl Mounted {
    fn file(&self, file: &str, options: &OpenOptions) -> io::Result<File> {
        options.open(self.0.join(file))
    }

    fn to_read(&self, file: &str) -> io::Result<File> {
        self.file(file, OpenOptions::new().read(true))
    }

    fn to_write(&self, file: &str) -> io::Result<File> {
        self.file(file, OpenOptions::new().write(true))
    }
}

impl Medium for Mounted {
    fn path(&self) -> PathBuf {
        self.0.clone()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let listing = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listing => listing?,
        };
        let names = listing.take(MAX_FILES).map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(io::Result::transpose).collect()
    }

    fn length(&self, file: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.0.join(file))?.len())
    }

    fn read_at(&self, file: &str, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let file = self.to_read(file)?;
        if !file.metadata()?.is_file() {
            return Ok(0);
        }
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
                0 => break,
                length => filled += length,
            }
        }
        Ok(filled)
    }

    fn open(&self, file: &str) -> io::Result<Box<dyn Read>> {
        let file = self.to_read(file)?;
        // Drops the clean pages of the file: what is read next comes from the device.
        fadvise(&file, 0, None, Advice::DontNeed)?;
        Ok(Box::new(file))
    }

    fn make(&self) -> io::Result<()> {
        if self.0.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&self.0)?;
        self.0.ancestors().take(3).try_for_each(|folder| File::open(folder)?.sync_all())
    }

    fn create(&self, file: &str) -> io::Result<()> {
        self.file(file, OpenOptions::new().write(true).create_new(true)).map(drop)
    }

    fn write_at(&self, file: &str, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.to_write(file)?.write_all_at(bytes, offset)
    }

    fn set_length(&self, file: &str, length: u64) -> io::Result<()> {
        self.to_write(file)?.set_len(length)
    }

    fn sync_file(&self, file: &str) -> io::Result<()> {
        self.to_read(file)?.sync_all()
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, file: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(file))
    }

    fn free(&self) -> io::Result<(u64, u64)> {
        let stat = statvfs(existing(&self.0))?;
        // The kernel does that to a FAT it finds damaged.
        if stat.f_flag.contains(StatVfsMountFlags::RDONLY) {
            let message = "Read-only file system, as Linux makes a FAT that it finds damaged: mend it with fsck.vfat and mount it anew";
            return Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, message));
        }
        Ok((free_in(&stat), stat.f_frsize.max(1)))
    }
}
