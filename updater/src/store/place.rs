//! What stands in the place of a file that the agent makes anew: a folder, a link, a device. It is in the way, and it is somebody's.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Files of the agent's folder without which it goes on. Of the others, those who read them say what is wrong with them.
const MADE_ANEW: [&str; 7] = ["fresh", "lock", "reserve", "reset-done", "stopped", "trial", "trial-boots"];

/// How many names are tried for what is in the way.
const MOST_ASIDE: u32 = 100;

/// Whether something is at `path` that is no plain file.
pub(crate) fn is_odd(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| !meta.is_file())
}

/// What is in the place of a file in the agent's folder.
pub(crate) fn odd_places(folder: &Path) -> Vec<PathBuf> {
    MADE_ANEW.map(|name| folder.join(name)).into_iter().filter(|path| is_odd(path)).collect()
}

/// Gives what is at `path`, if that is no plain file, another name beside it. Of several that find it there, one does, and none of them
/// takes what the first put in its place.
pub(crate) fn make_place(path: &Path) -> io::Result<()> {
    if !is_odd(path) {
        return Ok(());
    }
    let folder = File::open(path.parent().unwrap_or(Path::new(".")))?;
    flock(&folder, FlockOperation::NonBlockingLockExclusive)?;
    if !is_odd(path) {
        return Ok(());
    }
    let aside = free_name(path)?;
    fs::rename(path, &aside)?;
    folder.sync_all()?;
    tracing::warn!("{} was no file; it is kept as {}", path.display(), aside.display());
    Ok(())
}

fn free_name(path: &Path) -> io::Result<PathBuf> {
    for number in 0..MOST_ASIDE {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".left-{number}"));
        let aside = PathBuf::from(name);
        match aside.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(aside),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Err(io::Error::other("it is in the way, and there is no name left to give it"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_in_a_files_place_is_kept_under_another_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("lock"), "").unwrap();
        make_place(&at("lock")).unwrap();
        assert!(at("lock").is_file() && odd_places(folder.path()).is_empty());
        fs::create_dir_all(at("fresh/inside")).unwrap();
        symlink("nowhere", at("trial")).unwrap();
        assert_eq!(odd_places(folder.path()), [at("fresh"), at("trial")]);
        for name in ["fresh", "trial", "nothing"] {
            make_place(&at(name)).unwrap();
        }
        assert!(at("fresh.left-0/inside").is_dir() && at("trial.left-0").is_symlink());
        assert!(odd_places(folder.path()).is_empty());
    }
}
