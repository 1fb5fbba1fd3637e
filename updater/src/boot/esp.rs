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
//! * A folder ends, for firmware, at the first place that was never used; Linux looks beyond it. A name across two sectors of which
//!   the first was lost would end the folder in its middle. So before a name is added, the places that it may get are
//!   used once and given back: a place that was deleted ends nothing.
//! * Two names of one file, as a torn rename leaves them, are for `fsck.fat -a` to part, which leaves one of them empty. An
//!   empty file is no entry, stands in nobody's way and is deleted in passing.
//! * What is damaged and in force is mended where it is, from a copy that was read back: each sector is as it was or as it should be, so no
//!   cut leaves less to boot than there was. The copy has a name that no boot loader looks for.
//! * `syncfs` sends no flush on vfat; `fsync` on a file and on a folder does.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use upright_manifests::bls::EntryName;
use upright_manifests::name::OsName;
use upright_manifests::pe::{self, Headers};

use super::Concern;
use super::fuse::Fuse;
use super::medium::{Medium, Mounted};
use super::per_slot::FOLDER;

/// What a sealed entry starts with in place of [`pe::MAGIC`].
const SEAL: [u8; 2] = [0; 2];

/// The sector that FAT and the device agree on at the least, in bytes.
const SECTOR: usize = 512;

/// How many places in the folder are made ready for names: more than all that an update gives to both entries.
const PLACES: usize = 48;

/// The name of a whole entry that a damaged one is mended from, in a single place of the folder.
const COPY: &str = "COPY.UPR";

/// What is compared, and written where it differs, in bytes: what the kernel reads at once, so that a sector that cannot be read is written without
/// being read.
const PAGE: usize = 4096;

/// How often the folder is listed while names in it change: more often than one change of an entry renames.
const MAX_LOOKS: u32 = 16;

/// How many bytes are copied at once.
const BUFFER: usize = 1 << 20;

/// A folder of unified kernel images that a boot loader looks for.
pub(super) struct EntryFolder {
    medium: Box<dyn Medium>,
    pub(super) fuse: Fuse,
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
    /// What the system says where the file cannot be read. It is not seen then, as far as can be told here, and nothing says that it is
    /// empty; a name is believed if it is of an OS that an entry beside it is of, so that no other system's file is taken for ours.
    pub(super) unreadable: Option<String>,
}

impl EntryFolder {
    /// The folder on the ESP that is mounted at `esp`.
    pub(super) fn new(esp: &Path) -> Self {
        Self::at(esp.join("EFI/Linux"), Fuse::default())
    }

    /// Another folder on the ESP; `fuse` burns for all that a back end changes.
    pub(super) fn at(path: PathBuf, fuse: Fuse) -> Self {
        Self { medium: Box::new(Mounted(path)), fuse }
    }

    /// A folder of another kind.
    pub(super) fn on(medium: Box<dyn Medium>) -> Self {
        Self { medium, fuse: Fuse::default() }
    }

    /// Where a file of that name is.
    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.medium.path().join(file)
    }

    /// All files that the boot loader may take for entries, sorted by name.
    ///
    /// One that gets another name between its name and its content, as when the agent ends a trial while `status` looks, is looked for
    /// again: who changes entries holds the lock, who only reads them does not. One that cannot be read keeps nobody from the others.
    pub(super) fn list(&self) -> io::Result<Vec<EntryFile>> {
        let mut looks = 1;
        let files = loop {
            match self.list_once(looks == MAX_LOOKS) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && looks < MAX_LOOKS => looks += 1,
                listed => break listed?,
            }
        };
        // They are listed often, and once says it all.
        static TOLD: AtomicBool = AtomicBool::new(false);
        if files.iter().any(|file| file.unreadable.is_some()) && !TOLD.swap(true, Ordering::Relaxed) {
            for EntryFile { file, unreadable, .. } in &files {
                if let Some(reason) = unreadable {
                    tracing::warn!("{} cannot be read: {reason}", self.path(file).display());
                }
            }
        }
        Ok(files)
    }

    fn list_once(&self, is_last: bool) -> io::Result<Vec<EntryFile>> {
        let names = self.medium.names().map_err(|error| self.in_folder("cannot list", &error))?;
        let mut files = Vec::new();
        for file in names {
            if file.to_ascii_lowercase().ends_with(".efi") {
                files.push(match self.look(&file) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound && !is_last => return Err(error),
                    Err(error) => self.not_looked_at(file, &error),
                    Ok((visible, size)) => {
                        let name = file.parse().ok().or_else(|| self.name_inside(&file));
                        EntryFile { name, file, visible, size, unreadable: None }
                    }
                });
            }
        }
        self.believe_names(&mut files);
        files.sort_by(|a, b| a.file.cmp(&b.file));
        Ok(files)
    }

    /// A file that cannot be read. An empty one would be deleted in passing, so it is none, whatever its length is.
    fn not_looked_at(&self, file: String, error: &io::Error) -> EntryFile {
        let size = self.medium.length(&file).unwrap_or(0).max(1);
        EntryFile { name: file.parse().ok(), file, visible: false, size, unreadable: Some(error.to_string()) }
    }

    /// Takes the names from files that cannot be read, unless an entry that can be is of the same OS. Where none can be, all are believed.
    fn believe_names(&self, files: &mut [EntryFile]) {
        if files.iter().all(|file| file.unreadable.is_none()) {
            return;
        }
        let readable = files.iter().filter(|file| file.unreadable.is_none());
        let lines = readable.filter_map(|file| self.command_line(&file.file));
        let known: Vec<OsName> =
            lines.filter_map(|line| pe::argument(&line, "upright.os")?.parse().ok()).collect();
        for file in files.iter_mut().filter(|file| file.unreadable.is_some()) {
            file.name.take_if(|name| !known.is_empty() && !known.contains(&name.os));
        }
    }

    /// Writes a new, sealed entry. The content must be an EFI program.
    ///
    /// The first sync covers a file of one zero sector: from then on no crash can bring the entry into being with stale
    /// content of the clusters it was given.
    pub(super) fn create_sealed(&self, file: &str, content: &mut dyn Read) -> io::Result<()> {
        self.medium.make().map_err(|error| self.in_folder("cannot create", &error))?;
        self.remove_copy()?;
        self.make_places()?;
        self.fuse.step()?;
        self.medium.create(file).map_err(|error| self.in_file("cannot create", file, &error))?;
        let written = self.fill_sealed(file, content);
        written.map_err(|error| {
            // A crash would leave it sealed, too; whoever comes next removes it.
            let _ = self.medium.remove(file);
            self.in_file("cannot write", file, &error)
        })
    }

    /// Uses places for names once, each by a name of a single place, and gives them back. What a crash leaves is deleted next time.
    fn make_places(&self) -> io::Result<()> {
        let names = (0..PLACES).map(|number| format!("PLACE{number:03}.UPR"));
        let there = self.medium.names().map_err(|error| self.in_folder("cannot list", &error))?;
        let failed = |name: &str, error: &io::Error| self.in_file("cannot create", name, error);
        for name in names.clone().filter(|name| !there.contains(name)) {
            self.medium.create(&name).map_err(|error| failed(&name, &error))?;
        }
        self.sync()?;
        self.fuse.step()?;
        for name in names {
            self.medium.remove(&name).map_err(|error| self.in_file("cannot remove", &name, &error))?;
        }
        self.sync()
    }

    fn fill_sealed(&self, file: &str, content: &mut dyn Read) -> io::Result<()> {
        self.medium.write_at(file, &[0; SECTOR], 0)?;
        self.medium.sync_file(file)?;
        self.sync()?;
        self.fuse.step()?;
        let mut magic = SEAL;
        content.read_exact(&mut magic)?;
        if magic != pe::MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the UKI is not an EFI program"));
        }
        self.medium.write_at(file, &SEAL, 0)?;
        let mut length = SEAL.len() as u64;
        let mut buffer = vec![0; BUFFER];
        loop {
            match content.read(&mut buffer)? {
                0 => break,
                read => {
                    self.medium.write_at(file, &buffer[..read], length)?;
                    length += read as u64;
                }
            }
        }
        self.medium.set_length(file, length)?;
        self.fuse.step()?;
        self.medium.sync_file(file)?;
        self.sync()
    }

    /// Writes what an entry is to be mended from.
    pub(super) fn create_copy(&self, content: &mut dyn Read) -> io::Result<()> {
        self.create_sealed(COPY, content)
    }

    /// Opens it for reading from the medium.
    pub(super) fn open_copy(&self) -> io::Result<impl Read + 'static> {
        self.open_unsealed(COPY)
    }

    /// Removes it. It is sealed, and so are its clusters when they are used again.
    pub(super) fn remove_copy(&self) -> io::Result<()> {
        let names = self.medium.names().map_err(|error| self.in_folder("cannot list", &error))?;
        match names.iter().any(|name| name == COPY) {
            true => {
                self.fuse.step()?;
                self.medium.remove(COPY).map_err(|error| self.in_file("cannot remove", COPY, &error))?;
                self.sync()
            }
            false => Ok(()),
        }
    }

    /// Makes an entry that is in force the same as the copy, in place, page by page where they differ.
    pub(super) fn mend(&self, file: &str) -> io::Result<()> {
        let mut copy = self.open_copy()?;
        let mut mend = || {
            let (mut wanted, mut found, mut length) = (Vec::new(), vec![0; PAGE], 0);
            loop {
                wanted.clear();
                let page = copy.by_ref().take(PAGE as u64).read_to_end(&mut wanted)?;
                if page == 0 {
                    break;
                }
                let read = self.medium.read_at(file, &mut found[..page], length);
                if !read.is_ok_and(|read| found[..read] == wanted[..]) {
                    self.fuse.step()?;
                    self.medium.write_at(file, &wanted, length)?;
                }
                length += page as u64;
            }
            if self.medium.length(file)? != length {
                self.fuse.step()?;
                self.medium.set_length(file, length)?;
            }
            self.medium.sync_file(file)
        };
        mend().map_err(|error| self.in_file("cannot write", file, &error))
    }

    /// Opens an entry for reading from the medium, with its seal taken off what is read.
    pub(super) fn open_unsealed(&self, file: &str) -> io::Result<impl Read + 'static> {
        let open = || {
            let mut entry = self.medium.open(file)?;
            let mut magic = [0; 2];
            entry.read_exact(&mut magic)?;
            let magic = if magic == SEAL { pe::MAGIC } else { magic };
            Ok(io::Cursor::new(magic).chain(entry))
        };
        open().map_err(|error: io::Error| self.in_file("cannot read", file, &error))
    }

    /// Makes the entry one that boot loaders see: one sector, written in place. Refuses what is shorter than its
    /// sections, as it is when writing it was cut off, and what cannot be read; but for one whose name has no tries left, which is
    /// passed over, seen or not.
    pub(super) fn unseal(&self, file: &str) -> io::Result<()> {
        let is_whole = self
            .headers(file)
            .is_some_and(|headers| self.medium.length(file).is_ok_and(|length| headers.end() <= length));
        if is_whole {
            return self.put_magic(file, pe::MAGIC);
        }
        let reason = match self.look(file) {
            Ok(_) => "it is not complete: `upright update` or `upright repair` writes it anew".to_owned(),
            Err(_) if file.parse().is_ok_and(|name: EntryName| name.is_exhausted()) => return Ok(()),
            Err(error) => format!("it cannot be read ({error}), `upright repair` composes it again"),
        };
        let error = io::Error::new(io::ErrorKind::InvalidData, reason);
        Err(self.in_file("cannot boot from", file, &error))
    }

    /// Takes the entry out of boot loaders' sight: one sector, written in place.
    pub(super) fn seal(&self, file: &str) -> io::Result<()> {
        self.put_magic(file, SEAL)
    }

    /// Renames an entry; `to` must not exist.
    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let rename = || {
            let is_taken = self.medium.names()?.iter().any(|name| name == to);
            if is_taken && self.medium.length(to)? == 0 {
                self.medium.remove(to)?;
            } else if is_taken {
                // Both may share their clusters after a torn rename: to replace one would free the other's.
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "that name is taken, check the ESP with fsck.fat",
                ));
            }
            // Leaves no dirty sector whose age could make the kernel write it in between.
            self.sync()?;
            self.fuse.step()?;
            self.medium.rename(from, to)?;
            match self.medium.sync_file(to) {
                // What cannot be read has no content to lose.
                Err(error) if self.look(to).is_ok() => return Err(error),
                _ => {}
            }
            self.sync()
        };
        rename().map_err(|error| self.in_file(&format!("cannot rename to {to}"), from, &error))
    }

    /// Deletes an entry that boot loaders may see: sealed first, so that no half of the deletion is an entry. One that cannot be read
    /// may be one that they see; it is sealed if that can be done.
    pub(super) fn remove(&self, entry: &EntryFile) -> io::Result<()> {
        if entry.visible {
            self.seal(&entry.file)?;
        } else if entry.unreadable.is_some() {
            let _ = self.seal(&entry.file);
        }
        self.fuse.step()?;
        self.medium
            .remove(&entry.file)
            .map_err(|error| self.in_file("cannot remove", &entry.file, &error))?;
        self.sync()
    }

    /// Free bytes on the file system, those of a copy that was left included, and the size of a cluster.
    pub(super) fn free(&self) -> io::Result<(u64, u64)> {
        let (free, cluster) =
            self.medium.free().map_err(|error| self.in_folder("cannot ask the free space of", &error))?;
        let copy = self.medium.length(COPY).unwrap_or(0).div_ceil(cluster).saturating_mul(cluster);
        Ok((free.saturating_add(copy), cluster))
    }

    /// The kernel command line inside of an entry, sealed or not; `None` if it is not a whole UKI.
    pub(super) fn command_line(&self, file: &str) -> Option<String> {
        let (offset, length) = self.headers(file)?.section(".cmdline")?.content();
        if length > pe::MAX_TEXT {
            return None;
        }
        let mut text = vec![0; length as usize];
        let read = self.medium.read_at(file, &mut text, offset).ok()?;
        if read < text.len() { None } else { String::from_utf8(text).ok() }
    }

    /// An entry's headers, sealed or not.
    pub(super) fn headers(&self, file: &str) -> Option<Headers> {
        let mut start = vec![0; pe::MAX_HEADERS];
        let length = self.medium.read_at(file, &mut start, 0).ok()?;
        start.truncate(length);
        if start.starts_with(&SEAL) {
            start[..2].copy_from_slice(&pe::MAGIC);
        }
        Headers::parse(&start).ok()
    }

    /// Whether a boot loader sees a file, and its length.
    fn look(&self, file: &str) -> io::Result<(bool, u64)> {
        let mut magic = pe::MAGIC.map(|_| 0);
        let read = self.medium.read_at(file, &mut magic, 0)?;
        Ok((read == magic.len() && magic == pe::MAGIC, self.medium.length(file)?))
    }

    /// The release that an entry holds, as the boot loader has it: without a counter.
    fn name_inside(&self, file: &str) -> Option<EntryName> {
        let line = self.command_line(file)?;
        let os = pe::argument(&line, "upright.os")?.parse().ok()?;
        let version = pe::argument(&line, "upright.version")?.parse().ok()?;
        Some(EntryName { os, version, counter: None })
    }

    fn put_magic(&self, file: &str, magic: [u8; 2]) -> io::Result<()> {
        let put = || {
            self.fuse.step()?;
            self.medium.write_at(file, &magic, 0)?;
            self.medium.sync_file(file)
        };
        put().map_err(|error| self.in_file("cannot write", file, &error))
    }

    /// Makes the names in the folder durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.medium.sync().map_err(|error| self.in_folder("cannot sync", &error))
    }

    fn in_file(&self, action: &str, file: &str, error: &io::Error) -> io::Error {
        in_path(action, &self.medium.path().join(file), error)
    }

    fn in_folder(&self, action: &str, error: &io::Error) -> io::Error {
        in_path(action, &self.medium.path(), error)
    }
}

/// What there is to say of files on the ESP that a boot loader may take for entries and that cannot be read.
pub(crate) fn unreadable(esp: &Path) -> Vec<Concern> {
    let folders = [EntryFolder::new(esp), EntryFolder::at(esp.join(FOLDER), Fuse::default())];
    let mut concerns = Vec::new();
    for folder in folders {
        // What keeps all of them from being listed is told by the back end.
        for EntryFile { file, unreadable, .. } in folder.list().unwrap_or_default() {
            concerns.extend(unreadable.map(|reason| Concern {
                says: format!("{} cannot be read ({reason}), so no release is started with it", folder.path(&file).display()),
                mend: "look at the disk's health, mend the ESP with fsck.fat; `upright repair` then composes an entry of this host's again, and any other can be removed"
                    .to_owned(),
            }));
        }
    }
    concerns
}

/// The bytes that are free once `removable` is gone: a file takes whole clusters, and the folder may grow by one for a new name.
pub(super) fn room_after(free: u64, cluster: u64, removable: &[EntryFile]) -> u64 {
    let clusters = |file: &EntryFile| file.size.div_ceil(cluster).saturating_mul(cluster);
    let freed = removable.iter().map(clusters).fold(0, u64::saturating_add);
    free.saturating_add(freed).saturating_sub(cluster)
}

pub(super) fn in_path(action: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{action} {}: {error}", path.display()))
}

#[cfg(test)]
#[path = "esp_tests.rs"]
mod tests;
