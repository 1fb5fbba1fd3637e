//! Copies of files and folders with everything that belongs to them, sharing blocks where the file system can.

use std::ffi::CStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, IFlags, Mode, OFlags, SeekFrom, Timespec, Timestamps, XattrFlags, ioctl_ficlone,
    ioctl_getflags, ioctl_setflags, lgetxattr, llistxattr, lsetxattr, mknodat, seek, utimensat,
};
use rustix::io::Errno;

use super::hands::Hands;
use super::layout::{Layout, is_absent, told};

/// How much of a file is copied between two steps, in bytes.
const PIECE: u64 = 64 << 20;

/// What has been copied by now.
pub(super) struct Copier<'a> {
    hands: &'a Hands<'a>,
    /// Where files with several names are, by inode; there is one file system in what is copied.
    linked: Vec<(u64, PathBuf)>,
    /// Whether what vanishes in the meantime is left out.
    in_use: bool,
}

impl<'a> Copier<'a> {
    pub(super) fn new(hands: &'a Hands<'a>) -> Self {
        Self { hands, linked: Vec::new(), in_use: false }
    }

    /// For what others change while it is copied.
    pub(super) fn of_what_is_in_use(hands: &'a Hands<'a>) -> Self {
        Self { in_use: true, ..Self::new(hands) }
    }

    /// Copies a file, or a folder with what is in it, to where nothing is.
    pub(super) fn copy(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        match self.copy_one(from, to) {
            Err(error) if self.in_use && is_absent(&error) && !Layout::is_there(from)? => {
                self.linked.retain(|(_, first)| !first.starts_with(to));
                self.hands.remove(to)
            }
            result => result.map_err(|error| named(from, error)),
        }
    }

    fn copy_one(&mut self, from: &Path, to: &Path) -> io::Result<()> {
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
        // Whoever may write there may have put something else in its place by now.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let source = File::options().read(true).custom_flags(flags).open(from)?;
        let now = source.metadata()?;
        if !now.is_file() || (now.dev(), now.ino()) != (meta.dev(), meta.ino()) {
            return Err(io::Error::other("it was replaced while it was copied"));
        }
        let target = File::options().write(true).create_new(true).open(to)?;
        if now.len() == 0 || share(&source, &target).is_ok() {
            return Ok(());
        }
        let mut at = 0;
        while at < now.len() {
            let start = match seek(&source, SeekFrom::Data(at)) {
                Ok(start) => start,
                // Nothing but a hole is left.
                Err(Errno::NXIO) => break,
                Err(_) => at,
            };
            let end = seek(&source, SeekFrom::Hole(start)).unwrap_or(now.len());
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
        target.set_len(now.len())?;
        (&target).flush()
    }
}

/// Makes an empty file share the blocks of another. Btrfs shares those of a file without copy-on-write with its like only.
fn share(source: &File, target: &File) -> rustix::io::Result<()> {
    ioctl_ficlone(target, source).or_else(|error| {
        let plain = ioctl_getflags(target)?;
        if !ioctl_getflags(source)?.contains(IFlags::NOCOW) || plain.contains(IFlags::NOCOW) {
            return Err(error);
        }
        ioctl_setflags(target, plain | IFlags::NOCOW)?;
        ioctl_ficlone(target, source)
    })
}

/// Says which file it is about, once.
fn named(path: &Path, error: io::Error) -> io::Error {
    match error.get_ref().is_some_and(|inner| inner.is::<Named>()) {
        true => error,
        false => io::Error::new(error.kind(), Named { path: path.to_owned(), source: error }),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", told(path))]
struct Named {
    path: PathBuf,
    source: io::Error,
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
        let length = match lgetxattr(from, name, &mut value) {
            // It was taken away since.
            Err(Errno::NODATA) => continue,
            length => length?,
        };
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
    use super::super::hands::Step;
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

    /// Databases are made like that on btrfs, which is the only one that does it; elsewhere there is nothing to see.
    #[test]
    fn a_file_without_copy_on_write_shares_its_blocks_too() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| File::create_new(folder.path().join(name)).unwrap();
        let (plain, like, source, target) = (file("plain"), file("like"), file("source"), file("target"));
        let flags = ioctl_getflags(&source).unwrap_or(IFlags::empty());
        (&plain).write_all(&[1; 8192]).unwrap();
        if ioctl_ficlone(&like, &plain).is_err() || ioctl_setflags(&source, flags | IFlags::NOCOW).is_err() {
            return;
        }
        (&source).write_all(&[7; 8192]).unwrap();
        share(&source, &target).unwrap();
        assert_eq!(fs::read(folder.path().join("target")).unwrap(), [7; 8192]);
    }

    /// As a user would who wants root to read something else, or to wait for ever.
    #[test]
    fn what_takes_a_files_place_while_it_is_copied_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let evil: [&dyn Fn(); 3] =
            [&|| symlink("secret", at("file")).unwrap(), &|| special_node(&at("file")), &|| {
                fs::write(at("file"), "another").unwrap()
            }];
        fs::write(at("secret"), "secret").unwrap();
        for put in evil {
            let _ = (fs::remove_file(at("file")), fs::remove_file(at("to")));
            fs::write(at("file"), "plain").unwrap();
            fs::hard_link(at("file"), at("held")).unwrap();
            let swap = |_: Step<'_>| {
                fs::remove_file(at("file"))?;
                put();
                Ok(())
            };
            let error = Copier::new(&Hands::that_ask(&swap)).copy(&at("file"), &at("to")).unwrap_err();
            assert!(error.to_string().starts_with(&format!("{}: ", at("file").display())), "{error}");
            fs::remove_file(at("held")).unwrap();
        }
    }

    #[test]
    fn an_error_names_the_file_and_what_vanished_is_left_out_where_it_may() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("folder")).unwrap();
        fs::write(from.join("folder/stays"), "x").unwrap();
        let vanish = |step: Step<'_>| match step {
            Step::Make(at) if at.ends_with("to/folder/gone") => fs::remove_file(from.join("folder/gone")),
            _ => Ok(()),
        };
        let hands = Hands::that_ask(&vanish);
        fs::write(from.join("folder/gone"), "x").unwrap();
        let error = Copier::new(&hands).copy(&from, &to).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: ", from.join("folder/gone").display())), "{error}");
        fs::remove_dir_all(&to).unwrap();
        fs::write(from.join("folder/gone"), "x").unwrap();
        Copier::of_what_is_in_use(&hands).copy(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("folder/stays")).unwrap(), "x");
        assert!(!to.join("folder/gone").exists());
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
