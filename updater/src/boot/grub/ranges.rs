//! What a GRUB that cannot start EFI programs (BIOS) needs beside a UKI, in `EFI/upright/<slot>.cfg`: [`grub_uki`].

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use upright_manifests::boot::grub_uki;
use upright_manifests::name::Slot;

use crate::boot::esp::{EntryFolder, in_path};
use crate::boot::fuse::Fuse;

/// The lines for the UKI in `file`. One that has no kernel in it gets none.
fn lines(ukis: &EntryFolder, file: &str) -> Option<String> {
    grub_uki::lines(&ukis.headers(file)?, &ukis.command_line(file).unwrap_or_default())
}

/// Whether they are there.
pub(super) fn are_written(slot: Slot, ukis: &EntryFolder, file: &str) -> bool {
    lines(ukis, file)
        .is_none_or(|lines| fs::read_to_string(place(slot, ukis)).is_ok_and(|there| there == lines))
}

/// Writes the lines for the UKI in `file`.
pub(super) fn write(slot: Slot, ukis: &EntryFolder, file: &str, fuse: &Fuse) -> io::Result<()> {
    let path = place(slot, ukis);
    let Some(lines) = lines(ukis, file).filter(|_| !are_written(slot, ukis, file)) else { return Ok(()) };
    let write = || {
        fuse.step()?;
        // Not emptied first: it may be in force, and is a sector as a rule.
        let out = File::options().write(true).create(true).truncate(false).open(&path)?;
        out.write_all_at(lines.as_bytes(), 0)?;
        out.set_len(lines.len() as u64)?;
        out.sync_all()?;
        ukis.sync()
    };
    write().map_err(|error: io::Error| in_path("cannot write", &path, &error))
}

/// Removes the lines.
pub(super) fn remove(slot: Slot, ukis: &EntryFolder, fuse: &Fuse) -> io::Result<()> {
    let path = place(slot, ukis);
    if !path.exists() {
        return Ok(());
    }
    fuse.step()?;
    fs::remove_file(&path).map_err(|error| in_path("cannot remove", &path, &error))?;
    ukis.sync()
}

fn place(slot: Slot, ukis: &EntryFolder) -> PathBuf {
    ukis.path(&format!("{slot}.cfg"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::conformance::uki_with;

    #[test]
    fn the_lines_name_sectors_and_a_quoted_command_line() {
        let folder = tempfile::tempdir().unwrap();
        let ukis = EntryFolder::at(folder.path().to_owned(), Fuse::default());
        let uki = uki_with(&[(".cmdline", b"a=1  it's $x"), (".linux", &[1; 600]), (".initrd", &[2; 512])]);
        fs::write(ukis.path("a.efi"), &uki).unwrap();
        write(Slot::A, &ukis, "a.efi", &Fuse::default()).unwrap();
        let lines = fs::read_to_string(ukis.path("a.cfg")).unwrap();
        assert_eq!(lines, "linux (uki)3+2 'a=1' 'it'\\''s' '$x'\ninitrd (uki)5+1\n");
        assert_eq!((uki[3 * 512], uki[5 * 512]), (1, 2));
        remove(Slot::A, &ukis, &Fuse::default()).unwrap();
        remove(Slot::A, &ukis, &Fuse::default()).unwrap();
        assert!(!ukis.path("a.cfg").exists());
    }

    #[test]
    fn a_uki_without_a_kernel_gets_none() {
        let folder = tempfile::tempdir().unwrap();
        let ukis = EntryFolder::at(folder.path().to_owned(), Fuse::default());
        fs::write(ukis.path("a.efi"), uki_with(&[(".cmdline", b"quiet")])).unwrap();
        write(Slot::A, &ukis, "a.efi", &Fuse::default()).unwrap();
        assert!(!ukis.path("a.cfg").exists());
    }
}
