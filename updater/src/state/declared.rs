//! What an image declares about its hosts' state.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use upright_manifests::erofs::{ErofsError, FileType, ReadAt, Reader};
use upright_manifests::state::{Declarations, ENDING, FOLDER, MAX_FILE, insert};

/// An image of a release, mounted or not. Paths have no leading `/`.
pub trait Image {
    /// A regular file of up to `limit` bytes; none if there is no such file.
    fn file(&self, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>>;
    /// The names in a folder, sorted; none if there is no such folder.
    fn names(&self, path: &str) -> io::Result<Vec<String>>;
}

/// An image that is mounted.
#[derive(Debug, Clone, Copy)]
pub struct Folder<'a>(pub &'a Path);

impl Image for Folder<'_> {
    fn file(&self, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let path = self.0.join(path);
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() && meta.len() <= limit as u64 => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => return Ok(None),
        }
        let mut bytes = Vec::new();
        fs::File::open(&path)?.take(limit as u64).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn names(&self, path: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.0.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            insert(&mut names, entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }
}

impl<R: ReadAt> Image for Reader<R> {
    fn file(&self, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let Some(node) = self.lookup(path.as_bytes()).map_err(io::Error::other)? else { return Ok(None) };
        if node.inode.kind != FileType::Regular || node.inode.size > limit as u64 {
            return Ok(None);
        }
        let mut bytes = vec![0; node.inode.size as usize];
        self.read(&node, 0, &mut bytes).map_err(io::Error::other)?;
        Ok(Some(bytes))
    }

    fn names(&self, path: &str) -> io::Result<Vec<String>> {
        let names = || -> Result<Vec<String>, ErofsError> {
            let Some(node) = self.lookup(path.as_bytes())? else { return Ok(Vec::new()) };
            if node.inode.kind != FileType::Directory {
                return Ok(Vec::new());
            }
            let entries = self.entries(&node)?.into_iter();
            Ok(entries.map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect())
        };
        names().map_err(io::Error::other)
    }
}

/// What `image` declares, and the lines that are not understood, which do not count.
pub fn declared(image: &dyn Image) -> io::Result<(Declarations, Vec<String>)> {
    let (mut declared, mut bad) = (Declarations::default(), Vec::new());
    for name in image.names(FOLDER)? {
        if !name.ends_with(ENDING) {
            continue;
        }
        let path = format!("{FOLDER}/{name}");
        match image.file(&path, MAX_FILE)? {
            Some(text) => bad.extend(declared.add(&text).iter().map(|line| format!("/{path}:{line}"))),
            None => bad.push(format!("/{path} is no file of up to {MAX_FILE} bytes")),
        }
    }
    Ok((declared, bad))
}
