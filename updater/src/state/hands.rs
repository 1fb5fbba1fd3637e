//! What is done to a state folder, one step after the other, so that a test can cut power between any two.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::layout::Layout;

/// How many names are tried for what is in the way.
const MOST_ASIDE: u32 = 100;

/// A step that is about to be taken.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// A file or folder is made; its content is not durable before the next [`Step::Sync`].
    Make(&'a Path),
    /// A small file is replaced, whole and durably.
    Write(&'a Path),
    /// Something gets another name.
    Rename(&'a Path, &'a Path),
    /// Something is removed.
    Remove(&'a Path),
    /// More of a large file is copied.
    Copy,
    /// All that was made becomes durable.
    Sync,
}

/// Who takes the steps.
pub struct Hands<'a>(&'a dyn Fn(Step<'_>) -> io::Result<()>);

impl<'a> Hands<'a> {
    /// Hands that ask before each step; with an error, it is not taken.
    pub fn that_ask(ask: &'a dyn Fn(Step<'_>) -> io::Result<()>) -> Self {
        Self(ask)
    }

    /// About to make something.
    pub(super) fn make(&self, path: &Path) -> io::Result<()> {
        (self.0)(Step::Make(path))
    }

    /// More of a large file is copied.
    pub(super) fn copy_on(&self) -> io::Result<()> {
        (self.0)(Step::Copy)
    }

    /// Gives a file or folder another name; a file takes the place of one that has it.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        (self.0)(Step::Rename(from, to))?;
        fs::rename(from, to)
    }

    /// Gives what is in the way at `path` another name beside it; which one that is.
    pub(super) fn set_aside(&self, path: &Path) -> io::Result<PathBuf> {
        for number in 0..MOST_ASIDE {
            let aside = beside(path, &format!("left-{number}"));
            if !Layout::is_there(&aside)? {
                return self.rename(path, &aside).map(|()| aside);
            }
        }
        Err(io::Error::other(format!(
            "{} is in the way, and there is no name left to give it",
            path.display()
        )))
    }

    /// Removes a file, or a folder with all that is in it; nothing is fine, too.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        let Some(meta) = Layout::look(path)? else { return Ok(()) };
        (self.0)(Step::Remove(path))?;
        if meta.is_dir() { remove_folder(path) } else { fs::remove_file(path) }
    }

    /// Makes all that was done to the file system that `folder` is on durable.
    pub(super) fn sync(&self, folder: &Path) -> io::Result<()> {
        (self.0)(Step::Sync)?;
        Ok(rustix::fs::syncfs(File::open(folder)?)?)
    }

    /// Makes a folder and those that lead to it.
    pub(super) fn make_folder(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        self.make(path)?;
        fs::create_dir_all(path)
    }

    /// Replaces a small file in one step that is durable when this returns.
    pub(super) fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        (self.0)(Step::Write(path))?;
        crate::store::replace(path, text.as_bytes()).map_err(io::Error::other)
    }

    /// Writes over the start of a small file that is there, which takes no room. Less than a sector is changed as a whole.
    pub(super) fn overwrite(&self, path: &Path, text: &str) -> io::Result<()> {
        (self.0)(Step::Write(path))?;
        let mut options = OpenOptions::new();
        let file = options.write(true).custom_flags(OFlags::NOFOLLOW.bits() as i32).open(path)?;
        file.write_all_at(text.as_bytes(), 0)?;
        file.sync_all()
    }

    /// Puts `new` in the place of the folder `at`, durably. What was there is whole until then: it is at `<at>.old` if power goes
    /// in the middle, where [`Self::recover`] finds it.
    pub(super) fn exchange(&self, new: &Path, at: &Path) -> io::Result<()> {
        let (old, folder) = (beside(at, "old"), at.parent().unwrap_or(Path::new(".")));
        self.remove(&old)?;
        self.sync(folder)?;
        if Layout::is_there(at)? {
            self.rename(at, &old)?;
        }
        self.rename(new, at)?;
        self.sync(folder)?;
        self.remove(&old)
    }

    /// Ends or takes back what a power cut left of an exchange.
    pub(super) fn recover(&self, at: &Path) -> io::Result<()> {
        let old = beside(at, "old");
        if !Layout::is_there(at)? && Layout::is_there(&old)? {
            self.rename(&old, at)?;
        }
        self.remove(&old)?;
        self.remove(&beside(at, "new"))
    }
}

impl Default for Hands<'_> {
    fn default() -> Self {
        Self(&|_| Ok(()))
    }
}

/// Removes all of a folder that can be removed; the first error is what could not.
fn remove_folder(path: &Path) -> io::Result<()> {
    if fs::remove_dir_all(path).is_ok() {
        return Ok(());
    }
    let mut first = Ok(());
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let removed = if entry.file_type()?.is_dir() {
            remove_folder(&entry.path())
        } else {
            fs::remove_file(entry.path())
        };
        first = first.and(removed);
    }
    first.and_then(|()| fs::remove_dir(path))
}

/// `<path>.<ending>`.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}
