//! Copies of files and folders with everything that belongs to them, sharing blocks where the file system can.

use std::ffi::CStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, SeekFrom, Timespec, Timestamps, XattrFlags, ioctl_ficlone, lgetxattr,
    llistxattr, lsetxattr, mknodat, seek, utimensat,
};
use rustix::io::Errno;

use super::hands::Hands;

/// How much of a file is copied between two steps, in bytes.
const PIECE: u64 = 64 << 20;

/// What has been copied by now.
pub(super) struct Copier<'a> {
    hands: &'a Hands<'a>,
    /// Where files with several names are, by inode; there is one file system in what is copied.
    linked: Vec<(u64, PathBuf)>,
}

impl<'a> Copier<'a> {
    pub(super) fn new(hands: &'a Hands<'a>) -> Self {
        Self { hands, linked: Vec::new() }
    }

    /// Copies a file, or a folder with what is in it, to where nothing is.
    pub(super) fn copy(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let meta = fs::symlink_metadata(from)?;
        let kind = meta.file_type();
        self.hands.make(to)?;
        if meta.nlink() > 1 && !kind.is_dir() {
            match self.linked.binary_search_by_key(&meta.ino(), |(inode, _)| *inode) {
                Ok(at) => return fs::hard_link(self.linked.get(at).map_or(from, |(_, first)| first), to),
                Err(at) => self.linked.insert(at, (meta.ino(), to.to_owned())),
            }
        }
        if kind.is_dir() {
            fs::create_dir(to)?;
            for entry in fs::read_dir(from)? {
                let name = entry?.file_name();
                self.copy(&from.join(&name), &to.join(&name))?;
            }
        } else if kind.is_file() {
            self.copy_content(from, to, &meta)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(from)?, to)?;
        } else {
            special(&meta, to)?;
        }
        dress(from, to, &meta)
    }

    /// Makes `to` share the blocks of `from`, or copies them; holes stay holes.
    fn copy_content(&self, from: &Path, to: &Path, meta: &Metadata) -> io::Result<()> {
        let source = File::open(from)?;
        let target = File::options().write(true).create_new(true).open(to)?;
        if meta.len() == 0 || ioctl_ficlone(&target, &source).is_ok() {
            return Ok(());
        }
        let mut at = 0;
        while at < meta.len() {
            let start = match seek(&source, SeekFrom::Data(at)) {
                Ok(start) => start,
                // Nothing but a hole is left.
                Err(Errno::NXIO) => break,
                Err(_) => at,
            };
            let end = seek(&source, SeekFrom::Hole(start)).unwrap_or(meta.len());
            (&source).seek(io::SeekFrom::Start(start))?;
            (&target).seek(io::SeekFrom::Start(start))?;
            self.hands.copy_on()?;
            let length = end.saturating_sub(start).min(PIECE);
            let copied = io::copy(&mut (&source).take(length), &mut (&target))?;
            if copied == 0 {
                break;
            }
            at = start.saturating_add(copied);
        }
        target.set_len(meta.len())?;
        (&target).flush()
    }
}

/// Gives `to` the owner, mode, attributes and time of `from`.
pub(super) fn dress(from: &Path, to: &Path, meta: &Metadata) -> io::Result<()> {
    if meta.is_symlink() {
        lchown(to, Some(meta.uid()), Some(meta.gid()))?;
    } else {
        chown(to, Some(meta.uid()), Some(meta.gid()))?;
    }
    copy_xattrs(from, to)?;
    if !meta.is_symlink() {
        fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o7777))?;
    }
    let time = |seconds, nanos| Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps {
        last_access: time(meta.atime(), meta.atime_nsec()),
        last_modification: time(meta.mtime(), meta.mtime_nsec()),
    };
    Ok(utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn special(meta: &Metadata, to: &Path) -> io::Result<()> {
    let kind = meta.file_type();
    let kind = if kind.is_char_device() {
        FileType::CharacterDevice
    } else if kind.is_block_device() {
        FileType::BlockDevice
    } else if kind.is_fifo() {
        FileType::Fifo
    } else {
        FileType::Socket
    };
    Ok(mknodat(CWD, to, kind, Mode::from_raw_mode(meta.mode() & 0o7777), meta.rdev())?)
}

fn copy_xattrs(from: &Path, to: &Path) -> io::Result<()> {
    let mut names = vec![0; 64 * 1024];
    let length = match llistxattr(from, &mut names) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut value = vec![0; 64 * 1024];
    for name in names.get(..length).unwrap_or_default().split_inclusive(|byte| *byte == 0) {
        let name = CStr::from_bytes_with_nul(name).map_err(io::Error::other)?;
        let length = lgetxattr(from, name, &mut value)?;
        match lsetxattr(to, name, value.get(..length).unwrap_or_default(), XattrFlags::empty()) {
            // Labels and the like that this process may not set are the kernel's to set.
            Err(Errno::PERM | Errno::NOTSUP) if !is_overlay(name) => {}
            result => result?,
        }
    }
    Ok(())
}

fn is_overlay(name: &CStr) -> bool {
    name.to_bytes().starts_with(b"trusted.overlay.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(make: impl Fn(&Path)) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir(&from).unwrap();
        make(&from);
        Copier::new(&Hands::default()).copy(&from, &to).unwrap();
        (folder, from, to)
    }

    #[test]
    fn owner_mode_time_and_links_are_those_of_what_was_copied() {
        let (_folder, from, to) = copied(|from| {
            fs::write(from.join("secret"), "x").unwrap();
            fs::set_permissions(from.join("secret"), fs::Permissions::from_mode(0o4600)).unwrap();
            fs::hard_link(from.join("secret"), from.join("twin")).unwrap();
            symlink("../nowhere", from.join("link")).unwrap();
            special_node(&from.join("pipe"));
            let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
            File::open(from.join("secret")).unwrap().set_modified(old).unwrap();
        });
        let meta = |name: &str| fs::symlink_metadata(to.join(name)).unwrap();
        assert_eq!(meta("secret").mode() & 0o7777, 0o4600);
        assert_eq!((meta("secret").mtime(), meta("secret").ino()), (1_000_000, meta("twin").ino()));
        assert_ne!(meta("secret").ino(), fs::metadata(from.join("secret")).unwrap().ino());
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("../nowhere"));
        assert!(meta("pipe").file_type().is_fifo());
    }

    fn special_node(path: &Path) {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap();
    }

    #[test]
    fn holes_stay_holes_and_content_is_whole() {
        let (_folder, from, to) = copied(|from| {
            let file = File::create(from.join("database")).unwrap();
            (&file).write_all(&[7; 5000]).unwrap();
            (&file).seek(io::SeekFrom::Start(64 << 20)).unwrap();
            (&file).write_all(b"end").unwrap();
            file.set_len(128 << 20).unwrap();
        });
        let meta = fs::metadata(to.join("database")).unwrap();
        assert!(meta.len() == 128 << 20 && meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
        assert!(fs::read(from.join("database")).unwrap() == fs::read(to.join("database")).unwrap());
    }

    /// Overlayfs reads both in the upper layer.
    #[test]
    fn deletions_and_opaque_folders_are_kept() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let opaque = c"trusted.overlay.opaque";
        let (_folder, _, to) = copied(|from| {
            mknodat(CWD, from.join("gone"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
            fs::create_dir(from.join("opaque")).unwrap();
            // File systems in memory of old kernels have no such attributes.
            let _ = lsetxattr(from.join("opaque"), opaque, b"y", XattrFlags::empty());
        });
        let gone = fs::symlink_metadata(to.join("gone")).unwrap();
        assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
        let mut value = [0; 8];
        assert_eq!(lgetxattr(to.join("opaque"), opaque, &mut value).ok(), Some(1));
    }
}
