//! Decides which old file a changed file is described by.

use std::collections::{BTreeMap, HashMap};

use upright_manifests::digest::Digest;

use crate::erofs::{FileRun, Layout};

/// The files of the old image, by what they are found by.
pub(super) struct Candidates<'a> {
    by_content: HashMap<(Digest, u64), &'a FileRun>,
    by_path: HashMap<&'a str, &'a FileRun>,
    by_pattern: BTreeMap<String, Vec<&'a FileRun>>,
    by_name: BTreeMap<String, Vec<&'a FileRun>>,
    /// What new files have most in common with, by their digests.
    similar: HashMap<Digest, &'a FileRun>,
}

impl<'a> Candidates<'a> {
    pub(super) fn new(layout: &'a Layout) -> Self {
        let mut by_pattern: BTreeMap<String, Vec<_>> = BTreeMap::new();
        let mut by_name: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for file in &layout.files {
            by_pattern.entry(pattern(&file.path)).or_default().push(file);
            by_name.entry(pattern(name(&file.path))).or_default().push(file);
        }
        Self {
            by_content: layout.files.iter().map(|file| ((file.sha256, file.size), file)).collect(),
            by_path: layout.files.iter().map(|file| (file.path.as_str(), file)).collect(),
            by_pattern,
            by_name,
            similar: HashMap::new(),
        }
    }

    /// Knows also what has something in common with which.
    pub(super) fn pair(&mut self, similar: HashMap<Digest, &'a FileRun>) {
        self.similar = similar;
    }

    /// The old file of the same content.
    pub(super) fn same(&self, file: &FileRun) -> Option<&'a FileRun> {
        self.by_content.get(&(file.sha256, file.size)).copied()
    }

    /// The old file of the same path, or of one that differs in version numbers only.
    pub(super) fn of_path(&self, file: &FileRun) -> Option<&'a FileRun> {
        let same = self.by_path.get(file.path.as_str()).copied();
        same.or_else(|| nearest(self.by_pattern.get(&pattern(&file.path))?, file))
    }

    /// The old file that `file` most likely comes from: by its path, by what they have in common, by its name.
    pub(super) fn base(&self, file: &FileRun) -> Option<&'a FileRun> {
        self.of_path(file)
            .or_else(|| self.similar.get(&file.sha256).copied())
            .or_else(|| nearest(self.by_name.get(&pattern(name(&file.path)))?, file))
    }
}

/// The file nearest in size, then in path.
fn nearest<'a>(files: &[&'a FileRun], to: &FileRun) -> Option<&'a FileRun> {
    let distance = |file: &&&FileRun| (file.size.abs_diff(to.size), file.start);
    files.iter().min_by_key(distance).copied()
}

/// A path with each number in it made equal: kernel modules move with the kernel's version, libraries with theirs.
fn pattern(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for letter in path.chars() {
        match letter {
            '0'..='9' if pattern.ends_with('#') => {}
            '0'..='9' => pattern.push('#'),
            other => pattern.push(other),
        }
    }
    pattern
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, size: u64) -> FileRun {
        FileRun { start: size, size, sha256: Digest::of(path.as_bytes()), path: path.into() }
    }

    #[test]
    fn a_file_is_found_where_it_was_or_where_its_version_moved_it() {
        let files = [
            "usr/lib/modules/6.1.0-25-amd64/fs/ext4.ko",
            "usr/lib/modules/6.1.0-25-amd64/fs/xfs.ko",
            "usr/lib/libssl.so.3.0.14",
            "etc/fstab",
        ];
        let files = files.iter().zip(10..).map(|(path, size)| file(path, size)).collect();
        let layout = Layout { blocks: 0, metadata: Vec::new(), files, ..Layout::default() };
        let candidates = Candidates::new(&layout);
        let base = |path: &str| candidates.base(&file(path, 1)).map(|file| file.path.as_str());
        assert_eq!(base("etc/fstab"), Some("etc/fstab"));
        assert_eq!(
            base("usr/lib/modules/6.1.0-30-amd64/fs/xfs.ko"),
            Some("usr/lib/modules/6.1.0-25-amd64/fs/xfs.ko")
        );
        assert_eq!(base("opt/libssl.so.3.1"), None);
        assert_eq!(base("opt/libssl.so.3.1.2"), Some("usr/lib/libssl.so.3.0.14"));
        assert_eq!(base("etc/passwd"), None);
    }
}
