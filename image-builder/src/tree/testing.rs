//! Stores and trees for tests.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use upright_manifests::digest::Digest;

use super::{Attributes, CommitInfo, Content, Device, Inode, Kind, Store, Tree};

/// A file with content, before it is stored.
#[derive(Debug)]
pub(crate) enum Draft {
    /// Anything but a regular file.
    Plain(Inode),
    /// A regular file.
    File(Attributes, Vec<u8>),
}

/// Paths and what they are; more than one path is a hard link.
pub(crate) type Drafts = Vec<(Vec<Vec<u8>>, Draft)>;

/// A folder that goes away.
pub(crate) struct Scratch(pub(crate) TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The store in the folder.
    pub(crate) fn synced_store(&self) -> Store {
        Store::open_or_create(&self.path().join("ostree")).expect("a store")
    }

    /// The store in the folder, without syncing (and so without staging): most tests need not survive a power cut.
    pub(crate) fn store(&self) -> Store {
        let path = self.path().join("ostree");
        drop(self.synced_store());
        let config = path.join("config");
        let text = std::fs::read_to_string(&config).expect("a config");
        std::fs::write(&config, text.replace("[core]\n", "[core]\nfsync=false\n")).expect("written");
        Store::open(&path).expect("a store")
    }

    /// Stores and commits `drafts` as `version`.
    pub(crate) fn commit(&self, store: &Store, drafts: &Drafts, version: &str) -> Digest {
        let batch = store.begin().expect("a batch");
        let tree = store_drafts(&batch, drafts);
        batch.commit(&tree, &info(version)).expect("committed")
    }

    /// Runs `ostree` on the store; what it prints.
    pub(crate) fn ostree(&self, arguments: &[&str]) -> String {
        let repo = format!("--repo={}", self.path().join("ostree").display());
        let output = Command::new("ostree").args(arguments).arg(repo).output().expect("ostree runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "ostree {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }
}

pub(crate) fn info(version: &str) -> CommitInfo {
    CommitInfo {
        reference: format!("acme/x86-64/{version}"),
        version: version.to_owned(),
        time: 1_700_000_000,
        parent: None,
    }
}

/// The tree of `drafts`, with their content stored in `batch`.
pub(crate) fn store_drafts(batch: &super::Batch<'_>, drafts: &Drafts) -> Tree {
    let mut tree = Tree::default();
    for (paths, draft) in drafts {
        let inode = match draft {
            Draft::Plain(inode) => inode.clone(),
            Draft::File(attributes, bytes) => {
                let content: Content =
                    batch.write_file(attributes, bytes.len() as u64, &mut &bytes[..]).expect("stored");
                attributes.clone().inode(Kind::File(content))
            }
        };
        tree.paths.extend(paths.iter().map(|path| (path.clone(), tree.inodes.len())));
        tree.inodes.push(inode);
    }
    tree.canonical()
}

pub(crate) fn attributes(mode: u16) -> Attributes {
    Attributes { mode, ..Attributes::default() }
}

pub(crate) fn plain(path: &[u8], mode: u16, kind: Kind) -> (Vec<Vec<u8>>, Draft) {
    (vec![path.to_vec()], Draft::Plain(attributes(mode).inode(kind)))
}

/// One of everything.
pub(crate) fn small_tree() -> Drafts {
    let capability = BTreeMap::from([
        (b"security.capability".to_vec(), b"\x01\0\0\x02\0\x04\n\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()),
        (b"user.note".to_vec(), b"".to_vec()),
    ]);
    let ping = Attributes { mode: 0o4755, uid: 7, gid: 4_000_000_000, xattrs: capability };
    vec![
        plain(b"", 0o755, Kind::Directory),
        plain(b"dev", 0o1777, Kind::Directory),
        plain(b"dev/null", 0o666, Kind::CharDevice(Device { major: 1, minor: 3 })),
        plain(b"dev/sda", 0o660, Kind::BlockDevice(Device { major: 8, minor: 0xfffff })),
        (
            vec![b"dev/pipe".to_vec(), b"dev/pipe2".to_vec()],
            Draft::Plain(attributes(0o600).inode(Kind::Fifo)),
        ),
        plain(b"dev/socket", 0o600, Kind::Socket),
        plain(b"caf\xe9", 0o700, Kind::Directory),
        plain(b"caf%e9", 0o700, Kind::Directory),
        plain(b"caf\xe9/\xff", 0o777, Kind::Symlink(b"to".to_vec())),
        plain(b"odd", 0o777, Kind::Symlink(b"\xff".to_vec())),
        plain(b"link", 0o777, Kind::Symlink("café".into())),
        (vec![b"ping".to_vec(), b"caf\xe9/ping".to_vec()], Draft::File(ping, b"ping\n".to_vec())),
        (vec![b"same".to_vec()], Draft::File(attributes(0o644), b"ping\n".to_vec())),
        (vec![b"same2".to_vec()], Draft::File(attributes(0o644), b"ping\n".to_vec())),
        (vec![b"empty".to_vec()], Draft::File(attributes(0), Vec::new())),
    ]
}
