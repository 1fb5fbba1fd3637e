//! Boot entries as files on the EFI system partition (FAT), changed so that power may go at any instant.
//!
//! What FAT and Linux's vfat give, and what is made of it (kernel `fs/fat/namei_vfat.c`, `fs/fat/inode.c`):
//!
//! * A sector is written whole or not at all. A rename is not one sector: the new name, the old name's end and the file's
//!   start cluster may lie in three. Writing *inside* of a file touches no metadata that matters.
//! * An entry is therefore put in force, and out of it, by its first sector alone. A **sealed** entry has zeros in place of the
//!   `MZ` it would start with; boot loaders read it, find no EFI program and pass over it. Sealing and unsealing
//!   are writes of one sector in place, under a name that has long been on stable storage.
//! * A rename leaves the new name pointing at nothing until the *file's* metadata is written, so the file is synced before
//!   the folder: both names stand for a moment, never none.
//! * Where the entries of a name lie in two sectors, a rename or deletion that is cut off may leave a long name's short
//!   form: an entry without a counter. So what must not boot is sealed before it is renamed or deleted, which also
//!   keeps its clusters from looking like an entry when they are reused.
//! * `syncfs` sends no flush on vfat; `fsync` on a file and on a folder does.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise, statvfs};
use upright_manifests::bls::EntryName;
use upright_manifests::pe::{self, Headers};

/// What a sealed entry starts with in place of [`pe::MAGIC`].
const SEAL: [u8; 2] = [0; 2];

/// The sector that FAT and the device agree on at the least, in bytes.
const SECTOR: usize = 512;

/// The most files that are looked at in the folder of entries.
const MAX_FILES: usize = 1024;

/// How many bytes are copied at once.
const BUFFER: usize = 1 << 20;

/// The folder that systemd-boot looks for unified kernel images in.
#[derive(Debug)]
pub(super) struct EntryFolder {
    path: PathBuf,
    #[cfg(test)]
    pub(super) fuse: std::cell::Cell<Option<u32>>,
}

/// A file in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EntryFile {
    /// Its name as it stands in the folder.
    pub(super) file: String,
    /// What the name says, or for a name that says nothing, such as the short one that a torn rename leaves, the
    /// command line inside; `None` if it is not one of ours.
    pub(super) name: Option<EntryName>,
    /// Whether the boot loader sees an EFI program in it.
    pub(super) visible: bool,
    /// Its length in bytes.
    pub(super) size: u64,
}

impl EntryFolder {
    /// The folder on the ESP that is mounted at `esp`.
    pub(super) fn new(esp: &Path) -> Self {
        Self {
            path: esp.join("EFI/Linux"),
            #[cfg(test)]
            fuse: std::cell::Cell::new(None),
        }
    }

    /// All files that the boot loader may take for entries, sorted by name.
    pub(super) fn list(&self) -> io::Result<Vec<EntryFile>> {
        let listing = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listing => listing.map_err(|error| in_path("cannot list", &self.path, &error))?,
        };
        let mut files = Vec::new();
        for entry in listing.take(MAX_FILES) {
            let Ok(file) = entry?.file_name().into_string() else { continue };
            if file.to_ascii_lowercase().ends_with(".efi") {
                files.push(self.look(file)?);
            }
        }
        files.sort_by(|a, b| a.file.cmp(&b.file));
        Ok(files)
    }

    /// Writes a new, sealed entry. The content must be an EFI program.
    ///
    /// The first sync covers a file of one zero sector: from then on no crash can bring the entry into being with stale
    /// content of the clusters it was given.
    pub(super) fn create_sealed(&self, file: &str, content: &mut dyn Read) -> io::Result<()> {
        self.make()?;
        let path = self.path.join(file);
        self.step()?;
        let mut out = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|error| in_path("cannot create", &path, &error))?;
        let written = self.fill_sealed(&mut out, content);
        written.map_err(|error| {
            // A crash would leave it sealed, too; whoever comes next removes it.
            let _ = fs::remove_file(&path);
            in_path("cannot write", &path, &error)
        })
    }

    fn fill_sealed(&self, out: &mut File, content: &mut dyn Read) -> io::Result<()> {
        out.write_all(&[0; SECTOR])?;
        out.sync_all()?;
        self.sync()?;
        self.step()?;
        out.seek(SeekFrom::Start(0))?;
        let mut magic = SEAL;
        content.read_exact(&mut magic)?;
        if magic != pe::MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the UKI is not an EFI program"));
        }
        out.write_all(&SEAL)?;
        let mut length = SEAL.len() as u64;
        let mut buffer = vec![0; BUFFER];
        loop {
            match content.read(&mut buffer)? {
                0 => break,
                read => {
                    out.write_all(&buffer[..read])?;
                    length += read as u64;
                }
            }
        }
        out.set_len(length)?;
        self.step()?;
        out.sync_all()?;
        self.sync()
    }

    /// Opens an entry for reading from the medium, with its seal taken off what is read.
    pub(super) fn open_unsealed(&self, file: &str) -> io::Result<impl Read + 'static> {
        let path = self.path.join(file);
        let open = || {
            let mut entry = File::open(&path)?;
            // Drops the clean pages of the file: what is read next comes from the device.
            fadvise(&entry, 0, None, Advice::DontNeed)?;
            let mut magic = [0; 2];
            entry.read_exact(&mut magic)?;
            let magic = if magic == SEAL { pe::MAGIC } else { magic };
            Ok(io::Cursor::new(magic).chain(entry))
        };
        open().map_err(|error: io::Error| in_path("cannot read", &path, &error))
    }

    /// Makes the entry one that boot loaders see: one sector, written in place. Refuses what is shorter than its
    /// sections, as it is when writing it was cut off.
    pub(super) fn unseal(&self, file: &str) -> io::Result<()> {
        let path = self.path.join(file);
        let is_whole = self.headers(file).is_some_and(|(entry, headers)| {
            let end = headers.sections.iter().map(|s| u64::from(s.raw_offset) + u64::from(s.raw_size)).max();
            entry.metadata().is_ok_and(|found| end.is_some_and(|end| end <= found.len()))
        });
        match is_whole {
            true => self.put_magic(file, pe::MAGIC),
            false => {
                let error = io::Error::new(io::ErrorKind::InvalidData, "it is not complete, stage it again");
                Err(in_path("cannot boot from", &path, &error))
            }
        }
    }

    /// Takes the entry out of boot loaders' sight: one sector, written in place.
    pub(super) fn seal(&self, file: &str) -> io::Result<()> {
        self.put_magic(file, SEAL)
    }

    /// Renames an entry; `to` must not exist.
    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (old, new) = (self.path.join(from), self.path.join(to));
        let rename = || {
            if new.try_exists()? {
                // Both may share their clusters after a torn rename: to replace one would free the other's.
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "that name is taken, check the ESP with fsck.fat",
                ));
            }
            // Leaves no dirty sector whose age could make the kernel write it in between.
            self.sync()?;
            self.step()?;
            fs::rename(&old, &new)?;
            File::open(&new)?.sync_all()?;
            self.sync()
        };
        rename().map_err(|error| in_path(&format!("cannot rename to {to}"), &old, &error))
    }

    /// Deletes an entry that boot loaders may see: sealed first, so that no half of the deletion is an entry.
    pub(super) fn remove(&self, entry: &EntryFile) -> io::Result<()> {
        if entry.visible {
            self.seal(&entry.file)?;
        }
        let path = self.path.join(&entry.file);
        self.step()?;
        fs::remove_file(&path).map_err(|error| in_path("cannot remove", &path, &error))?;
        self.sync()
    }

    /// Free bytes on the file system, and the size of a cluster.
    pub(super) fn free(&self) -> io::Result<(u64, u64)> {
        let existing = self.path.ancestors().find(|path| path.exists()).unwrap_or(&self.path);
        let stat = statvfs(existing)
            .map_err(|error| in_path("cannot ask the free space of", existing, &error.into()))?;
        Ok((stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_frsize.max(1)))
    }

    /// The kernel command line inside of an entry, sealed or not; `None` if it is not a whole UKI.
    pub(super) fn command_line(&self, file: &str) -> Option<String> {
        let (entry, headers) = self.headers(file)?;
        let (offset, length) = headers.section(".cmdline")?.content();
        if length > pe::MAX_TEXT {
            return None;
        }
        let mut text = vec![0; length as usize];
        entry.read_exact_at(&mut text, offset).ok()?;
        String::from_utf8(text).ok()
    }

    /// An entry's headers, sealed or not.
    fn headers(&self, file: &str) -> Option<(File, Headers)> {
        let entry = File::open(self.path.join(file)).ok()?;
        let mut start = Vec::new();
        (&entry).take(pe::MAX_HEADERS as u64).read_to_end(&mut start).ok()?;
        if start.starts_with(&SEAL) {
            start[..2].copy_from_slice(&pe::MAGIC);
        }
        Some((entry, Headers::parse(&start).ok()?))
    }

    fn look(&self, file: String) -> io::Result<EntryFile> {
        let path = self.path.join(&file);
        let look = || {
            let entry = File::open(&path)?;
            let mut magic = Vec::new();
            if entry.metadata()?.is_file() {
                (&entry).take(pe::MAGIC.len() as u64).read_to_end(&mut magic)?;
            }
            Ok((magic == pe::MAGIC, entry.metadata()?.len()))
        };
        let (visible, size) = look().map_err(|error: io::Error| in_path("cannot read", &path, &error))?;
        let name = file.parse().ok().or_else(|| self.name_inside(&file));
        Ok(EntryFile { name, file, visible, size })
    }

    /// The release that an entry holds, as the boot loader has it: without a counter.
    fn name_inside(&self, file: &str) -> Option<EntryName> {
        let line = self.command_line(file)?;
        let os = pe::argument(&line, "upright.os")?.parse().ok()?;
        let version = pe::argument(&line, "upright.version")?.parse().ok()?;
        Some(EntryName { os, version, counter: None })
    }

    fn put_magic(&self, file: &str, magic: [u8; 2]) -> io::Result<()> {
        let path = self.path.join(file);
        let put = || {
            self.step()?;
            let entry = OpenOptions::new().write(true).open(&path)?;
            entry.write_all_at(&magic, 0)?;
            entry.sync_all()
        };
        put().map_err(|error| in_path("cannot write", &path, &error))
    }

    /// Makes the folder where it is missing, and its names durable from the first existing one on.
    fn make(&self) -> io::Result<()> {
        if self.path.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&self.path).map_err(|error| in_path("cannot create", &self.path, &error))?;
        self.path.ancestors().take(3).try_for_each(|folder| File::open(folder)?.sync_all())
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| in_path("cannot sync", &self.path, &error))
    }

    /// A place where a test cuts the power.
    #[cfg(test)]
    fn step(&self) -> io::Result<()> {
        match self.fuse.get() {
            Some(0) => Err(io::Error::other("power cut")),
            left => {
                self.fuse.set(left.map(|left| left - 1));
                Ok(())
            }
        }
    }

    #[cfg(not(test))]
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "the test's counterpart fails")]
    fn step(&self) -> io::Result<()> {
        Ok(())
    }
}

fn in_path(action: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{action} {}: {error}", path.display()))
}
