//! Takes inputs in tests, and says how they were refused.

use std::error::Error;
use std::ffi::OsStr;
use std::io::Read;

use upright_manifests::name::Arch;

use super::{Imported, Source, read};
use crate::tree::testing::{Scratch, info};
use crate::tree::{Contents, Kind, Store, Tree};

/// A tree that was taken, and the store it is in.
pub(crate) struct Taken {
    pub(crate) tree: Tree,
    pub(crate) newest: u64,
    store: Store,
    _scratch: Scratch,
}

impl Taken {
    /// The paths, each with a letter for what it is, mode and owner.
    pub(crate) fn list(&self) -> Vec<String> {
        let line = |path: &Vec<u8>, index: &usize| {
            let inode = &self.tree.inodes[*index];
            let kind = match &inode.kind {
                Kind::Directory => "d".to_owned(),
                Kind::File(content) => format!("f{}", content.size),
                Kind::Symlink(target) => format!("l>{}", target.escape_ascii()),
                Kind::CharDevice(device) => format!("c{}:{}", device.major, device.minor),
                Kind::BlockDevice(device) => format!("b{}:{}", device.major, device.minor),
                Kind::Fifo => "p".to_owned(),
                Kind::Socket => "s".to_owned(),
            };
            format!("{kind} {:o} {}:{} /{}", inode.mode, inode.uid, inode.gid, path.escape_ascii())
        };
        self.tree.paths.iter().map(|(path, index)| line(path, index)).collect()
    }

    /// The paths alone.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.tree.paths.keys().map(|path| path.escape_ascii().to_string()).collect()
    }

    /// The content of the file at `path`.
    pub(crate) fn content(&self, path: &[u8]) -> Vec<u8> {
        let Some(Kind::File(content)) = self.tree.inode(path).map(|inode| &inode.kind) else {
            panic!("no file at {}", path.escape_ascii());
        };
        let mut bytes = Vec::new();
        self.store.open(content).expect("opened").read_to_end(&mut bytes).expect("read");
        bytes
    }
}

/// Takes the input that is named `text`, commits it, and checks that it comes back.
pub(crate) fn take(text: impl AsRef<OsStr>) -> Result<Taken, String> {
    let scratch = Scratch::new();
    let store = scratch.store();
    let batch = store.begin().expect("a batch");
    let source = Source::detect(text.as_ref()).map_err(|error| chain(&error))?;
    let Imported { tree, newest } = read(&source, Arch::X86_64, &batch).map_err(|error| chain(&error))?;
    batch.commit(&tree, &info("1")).expect("committed");
    assert_eq!(store.load("acme/x86-64/1").expect("loaded").tree, tree);
    Ok(Taken { tree, newest, store, _scratch: scratch })
}

/// Takes a file of `bytes`; the refusal is without the file's name.
pub(crate) fn take_bytes(bytes: &[u8]) -> Result<Taken, String> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("written");
    let prefix = format!("cannot take {}: ", file.path().display());
    take(file.path()).map_err(|error| error.strip_prefix(&prefix).map_or(error.clone(), str::to_owned))
}

/// How the input of `bytes` is refused.
pub(crate) fn refusal(bytes: &[u8]) -> String {
    match take_bytes(bytes) {
        Ok(taken) => panic!("taken: {:?}", taken.list()),
        Err(error) => {
            assert!(!error.contains('\n'), "more than a line: {error}");
            error
        }
    }
}

fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
