//! The `/etc` overlays: one upper folder a slot, on the state partition.
//!
//! `var/lib/upright/etc/<slot>/upper` holds what was changed in `/etc` while the slot ran; the initrd mounts it over the
//! image's `/etc`. Overlayfs marks deletions with character devices 0/0 and opaque folders with an xattr
//! (Linux `Documentation/filesystems/overlayfs.rst`), so a copy must keep special files and xattrs.

use std::ffi::CStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, lgetxattr, llistxattr, lsetxattr, mknodat};
use upright_manifests::name::Slot;

/// Replaces `to`'s upper folder with a copy of `from`'s. The old one stays whole until the copy is durable.
pub fn carry(state: &Path, from: Slot, to: Slot) -> io::Result<()> {
    let upper = |slot: Slot| state.join("etc").join(slot.as_str());
    let aside = state.join("etc").join(format!("{to}.new"));
    let old = state.join("etc").join(format!("{to}.old"));
    for leftover in [&aside, &old] {
        remove(leftover)?;
    }
    fs::create_dir_all(&aside)?;
    if upper(from).join("upper").exists() {
        copy(&upper(from).join("upper"), &aside.join("upper"))?;
    }
    rustix::fs::syncfs(File::open(&aside)?)?;
    if upper(to).exists() {
        fs::rename(upper(to), &old)?;
    }
    fs::rename(&aside, upper(to))?;
    crate::store::sync_folder(&state.join("etc"))?;
    remove(&old)
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(from)?;
    let kind = meta.file_type();
    if kind.is_dir() {
        fs::create_dir(to)?;
        let mut names: Vec<PathBuf> =
            fs::read_dir(from)?.map(|entry| Ok(entry?.file_name().into())).collect::<io::Result<_>>()?;
        names.sort();
        names.iter().try_for_each(|name| copy(&from.join(name), &to.join(name)))?;
    } else if kind.is_file() {
        fs::copy(from, to)?;
    } else if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
        lchown(to, Some(meta.uid()), Some(meta.gid()))?;
        return copy_xattrs(from, to);
    } else {
        special(&meta, to)?;
    }
    chown(to, Some(meta.uid()), Some(meta.gid()))?;
    copy_xattrs(from, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o7777))
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
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut value = vec![0; 64 * 1024];
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let name = CStr::from_bytes_with_nul(name).map_err(io::Error::other)?;
        let length = lgetxattr(from, name, &mut value)?;
        match lsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            // Labels and the like that this process may not set are the kernel's to set.
            Err(rustix::io::Errno::PERM | rustix::io::Errno::NOTSUP) if !is_overlay(name) => {}
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

    fn state_with_upper(slot: Slot, file: &str) -> tempfile::TempDir {
        let state = tempfile::tempdir().unwrap();
        let upper = state.path().join("etc").join(slot.as_str()).join("upper");
        fs::create_dir_all(upper.join("ssh")).unwrap();
        fs::write(upper.join(file), file).unwrap();
        fs::set_permissions(upper.join(file), fs::Permissions::from_mode(0o600)).unwrap();
        symlink("../usr/share/zoneinfo/UTC", upper.join("localtime")).unwrap();
        state
    }

    #[test]
    fn the_copy_has_everything_and_replaces_what_was_there() {
        let state = state_with_upper(Slot::A, "shadow");
        let stale = state.path().join("etc/b/upper/stale");
        fs::create_dir_all(stale.parent().unwrap()).unwrap();
        fs::write(&stale, "").unwrap();
        carry(state.path(), Slot::A, Slot::B).unwrap();
        let copy = state.path().join("etc/b/upper");
        assert_eq!(fs::read_to_string(copy.join("shadow")).unwrap(), "shadow");
        assert_eq!(fs::metadata(copy.join("shadow")).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_link(copy.join("localtime")).unwrap(), Path::new("../usr/share/zoneinfo/UTC"));
        assert!(copy.join("ssh").is_dir() && !stale.exists());
        assert!(state.path().join("etc/a/upper/shadow").exists());
    }

    #[test]
    fn what_a_crash_left_behind_is_cleared_away() {
        let state = state_with_upper(Slot::A, "shadow");
        for leftover in ["b.new/upper", "b.old/upper"] {
            fs::create_dir_all(state.path().join("etc").join(leftover)).unwrap();
        }
        carry(state.path(), Slot::A, Slot::B).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(state.path().join("etc")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_slot_that_changed_nothing_gives_an_empty_one() {
        let state = tempfile::tempdir().unwrap();
        carry(state.path(), Slot::A, Slot::B).unwrap();
        assert!(!state.path().join("etc/b/upper").exists());
    }
}
