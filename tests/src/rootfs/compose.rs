//! Makes a tar out of another one: files added, replaced and removed, everything else copied byte for byte.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tar::{Archive, Builder, EntryType, Header};

/// What is different from the base.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    added: BTreeMap<String, Added>,
    removed: Vec<String>,
}

#[derive(Debug, Clone)]
enum Added {
    Folder,
    File { mode: u32, content: Vec<u8> },
    Link(String),
}

impl Changes {
    /// A file, with the folders that lead to it; it replaces what the base has. Owner and group are root.
    pub fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> &mut Self {
        self.add(path, Added::File { mode, content: content.into() })
    }

    /// A folder, with those that lead to it.
    pub fn folder(&mut self, path: &str) -> &mut Self {
        self.add(path, Added::Folder)
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> &mut Self {
        self.add(path, Added::Link(target.to_owned()))
    }

    /// Everything below a folder of this machine.
    pub fn tree(&mut self, folder: &Path) -> Result<&mut Self> {
        self.tree_below(folder, "")?;
        Ok(self)
    }

    /// Takes a file of the base away.
    pub fn remove(&mut self, path: &str) -> &mut Self {
        self.removed.push(path.to_owned());
        self
    }

    fn add(&mut self, path: &str, added: Added) -> &mut Self {
        for (end, _) in path.match_indices('/') {
            self.added.entry(path[..end].to_owned()).or_insert(Added::Folder);
        }
        self.added.insert(path.to_owned(), added);
        self
    }

    fn tree_below(&mut self, folder: &Path, path: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let about = || format!("reading {}", folder.display());
        for entry in fs::read_dir(folder).with_context(about)? {
            let entry = entry.with_context(about)?;
            let name = entry.file_name();
            let name = name.to_str().with_context(|| format!("{name:?} is not UTF-8"))?;
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            let meta = entry.metadata().with_context(about)?;
            if meta.is_dir() {
                self.added.entry(path.clone()).or_insert(Added::Folder);
                self.tree_below(&entry.path(), &path)?;
            } else if meta.is_symlink() {
                let target = fs::read_link(entry.path()).with_context(about)?;
                self.link(&path, target.to_str().context("a link's target is not UTF-8")?);
            } else {
                self.file(
                    &path,
                    meta.permissions().mode() & 0o7777,
                    fs::read(entry.path()).with_context(about)?,
                );
            }
        }
        Ok(())
    }
}

/// Writes `base` with `changes` to `out`.
pub fn compose(base: &Path, changes: &Changes, out: &Path) -> Result<()> {
    let file = File::open(base).with_context(|| format!("opening {}", base.display()))?;
    let create = File::create(out).with_context(|| format!("creating {}", out.display()))?;
    let mut builder = Builder::new(BufWriter::new(create));
    let mut left = changes.clone();
    copy(&mut Archive::new(BufReader::new(file)), &mut left, &mut builder)
        .with_context(|| format!("copying {} to {}", base.display(), out.display()))?;
    ensure!(left.removed.is_empty(), "{} has no {:?} to remove", base.display(), left.removed);
    for (path, added) in &left.added {
        append(&mut builder, path, added)?;
    }
    builder.into_inner()?.flush()?;
    Ok(())
}

/// Copies what stays. Afterwards `changes` holds what is to be appended.
fn copy(from: &mut Archive<impl Read>, changes: &mut Changes, to: &mut Builder<impl Write>) -> Result<()> {
    // Extension headers that belong to the entry after them.
    let mut extensions = Vec::new();
    for entry in from.entries()?.raw(true) {
        let mut entry = entry?;
        let header = entry.header().clone();
        if matches!(header.entry_type(), EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink)
        {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            extensions.push((header, content));
            continue;
        }
        let path = String::from_utf8_lossy(&header.path_bytes()).into_owned();
        let path = path.trim_start_matches("./").trim_end_matches('/');
        let held = std::mem::take(&mut extensions);
        if !changes.keep(path)? {
            continue;
        }
        for (header, content) in held {
            to.append(&header, &content[..])?;
        }
        to.append(&header, &mut entry)?;
    }
    Ok(())
}

impl Changes {
    /// Whether an entry of the base stays.
    fn keep(&mut self, path: &str) -> Result<bool> {
        if let Some(index) = self.removed.iter().position(|removed| removed == path) {
            self.removed.remove(index);
            return Ok(false);
        }
        match self.added.get(path) {
            // The base's folder has the right owner and mode.
            Some(Added::Folder) => drop(self.added.remove(path)),
            Some(_) => return Ok(false),
            None => {}
        }
        Ok(true)
    }
}

fn append(builder: &mut Builder<impl Write>, path: &str, added: &Added) -> Result<()> {
    let mut header = Header::new_ustar();
    header.set_mtime(0);
    let content: &[u8] = match added {
        Added::Folder => {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o755);
            &[]
        }
        Added::File { mode, content } => {
            header.set_entry_type(EntryType::Regular);
            header.set_mode(*mode);
            content
        }
        Added::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            header.set_link_name(target)?;
            &[]
        }
    };
    if path.is_empty() {
        bail!("a change needs a path");
    }
    header.set_path(path)?;
    header.set_size(content.len() as u64);
    header.set_cksum();
    Ok(builder.append(&header, content)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(tar: &Path) -> Vec<(String, String)> {
        let mut archive = Archive::new(File::open(tar).unwrap());
        let read = |entry: std::io::Result<tar::Entry<'_, File>>| {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        };
        archive.entries().unwrap().map(read).collect()
    }

    #[test]
    fn what_is_not_changed_is_copied_and_the_rest_is_as_asked() {
        let folder = tempfile::tempdir().unwrap();
        let (base, out) = (folder.path().join("base.tar"), folder.path().join("out.tar"));
        let long = format!("usr/{}", "long/".repeat(40) + "file");
        let mut tar = Builder::new(File::create(&base).unwrap());
        let mut put = |path: &str, kind, content: &str| {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content.as_bytes()).unwrap();
        };
        put("usr/", EntryType::Directory, "");
        put(&long, EntryType::Regular, "long");
        put("usr/old", EntryType::Regular, "old");
        put("usr/gone", EntryType::Regular, "gone");
        tar.finish().unwrap();

        let mut changes = Changes::default();
        changes.file("usr/old", 0o644, "new").file("usr/share/added", 0o644, "added").remove("usr/gone");
        compose(&base, &changes, &out).unwrap();
        let expected = [
            ("usr/", ""),
            (&long, "long"),
            ("usr/old", "new"),
            ("usr/share", ""),
            ("usr/share/added", "added"),
        ];
        assert_eq!(listing(&out), expected.map(|(path, content)| (path.to_owned(), content.to_owned())));
    }

    #[test]
    fn a_file_that_is_not_there_cannot_be_removed() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("base.tar");
        Builder::new(File::create(&base).unwrap()).finish().unwrap();
        let mut changes = Changes::default();
        changes.remove("usr/none");
        let error = compose(&base, &changes, &folder.path().join("out.tar")).unwrap_err().to_string();
        assert!(error.contains("usr/none"), "{error}");
    }
}
