//! What a FAT file system cannot hold, told before anything is written.

use std::collections::BTreeSet;
use std::path::Path;

use rustix::fs::statfs;
use upright_manifests::bytes::human;

use crate::repo::error::{Error, Result};

/// statfs(2).
const MSDOS_SUPER_MAGIC: u64 = 0x4d44;

/// The longest file on FAT, in bytes.
const LONGEST: u64 = (4 << 30) - 1;

/// Refuses files of these names and lengths where `place`, a folder, is on a FAT file system that cannot hold them.
pub(super) fn check<'a>(place: &Path, files: impl Iterator<Item = (&'a str, u64)>) -> Result<()> {
    match statfs(place) {
        Ok(found) if found.f_type as u64 == MSDOS_SUPER_MAGIC => fits(place, files),
        // What cannot be asked is found out by writing.
        _ => Ok(()),
    }
}

fn fits<'a>(place: &Path, files: impl Iterator<Item = (&'a str, u64)>) -> Result<()> {
    let advice = "make another file system on it, such as exFAT or ext4";
    let mut seen = BTreeSet::new();
    for (name, size) in files {
        let place = place.display();
        if size > LONGEST {
            return Err(Error::refused(format!(
                "{name} has {}, and FAT, which is on {place}, holds files of 4 GiB at most; {advice}",
                human(size)
            )));
        }
        let strange =
            name.chars().any(|c| "\"*:<>?\\|".contains(c)) || name.split('/').any(|part| part.ends_with('.'));
        if strange || !seen.insert(name.to_lowercase()) {
            return Err(Error::refused(format!(
                "{name} is a name that FAT, which is on {place}, cannot hold; {advice}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fat_cannot_hold_is_refused() {
        let refused = |files: &[(&str, u64)]| fits(Path::new("/mnt"), files.iter().copied()).is_err();
        assert!(!refused(&[("payloads/a^b~1.zst", LONGEST), ("payloads/b", 0), ("metadata/%2F.json", 1)]));
        assert!(refused(&[("payloads/a", LONGEST + 1)]));
        assert!(refused(&[("metadata/A.json", 1), ("metadata/a.json", 1)]));
        assert!(refused(&[("a:b", 1)]) && refused(&[("a./b", 1)]));
    }
}
